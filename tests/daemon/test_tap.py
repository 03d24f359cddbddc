"""The command line of C{twistd kolus}: what it accepts, and what it says about mistakes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import IServiceMaker
from twisted.internet import reactor
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError

from kolus.backend import Backend
from kolus.balance import NAMES
from kolus.daemon.demo import Demo
from kolus.daemon.front_service import FrontService
from kolus.daemon.tap import Options, makeService
from kolus.health import Ejection
from kolus.sources import DNSSource, FileSource, HostResolver

BACKEND = "--backend=tcp:127.0.0.1:6379"
LISTEN = "--listen=tcp:6380:interface=127.0.0.1"
SOURCE = "--source=file:backends.toml"
DNS = "--source=dns:backends.example:6379"
SERVER = "--name-server=10.0.0.2"
EXPECTED = "expected dns:NAME:PORT, srv:_SERVICE._tcp.NAME or file:PATH.toml (or .json)"


def parsed(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(arguments)  # type: ignore[no-untyped-call]
    return options


def complaint(*arguments: str) -> str:
    with pytest.raises(UsageError) as caught:
        parsed(*arguments)
    return str(caught.value)


def test_the_plugin_is_found_by_twistd() -> None:
    (maker,) = (each for each in getPlugins(IServiceMaker) if each.tapname == "kolus")
    assert maker.options is Options


def test_without_options_the_numbers_are_those_of_the_readme() -> None:
    options = parsed(BACKEND, LISTEN)
    assert options["limit"] == 10
    assert options["wait"] == 5.0
    assert options["connect-timeout"] == 5.0
    assert options["connect-ahead"] == 0
    assert options["eject-after"] == 5
    assert options["max-waiters"] is None
    assert options["grace"] == 30.0
    assert options["balance"] == "pick_two"


def test_a_backend_that_nobody_would_verify_is_refused_with_what_to_write() -> None:
    told = complaint("--backend=ssl:db.example:7444", LISTEN)
    assert told.startswith("--backend: not a client endpoint string: 'ssl:db.example:7444'")
    assert "write tls:db.example:7444, which does both" in told


def test_the_help_tells_every_default() -> None:
    words = str(Options()).split()
    text = " ".join(words)
    for default in ("10", "5", "0", "30", "pick_two", "any number"):
        assert f"[default: {default}]" in text


def test_given_numbers_are_taken() -> None:
    options = parsed(
        BACKEND,
        LISTEN,
        "--limit=20",
        "--wait=0.5",
        "--connect-timeout=2",
        "--connect-ahead=3",
        "--eject-after=7",
        "--max-waiters=0",
        "--grace=0",
    )
    assert options["limit"] == 20
    assert options["wait"] == 0.5
    assert options["connect-timeout"] == 2.0
    assert options["connect-ahead"] == 3
    assert options["eject-after"] == 7
    assert options["max-waiters"] == 0
    assert options["grace"] == 0.0


def test_backends_and_listening_addresses_may_be_several() -> None:
    options = parsed(BACKEND, "--backend=tcp:10.0.0.1:1", LISTEN, "--listen=tcp:0")
    assert options["backend"] == [Backend("tcp:127.0.0.1:6379"), Backend("tcp:10.0.0.1:1")]
    descriptions = [description for description, endpoint in options["listen"]]
    assert descriptions == ["tcp:6380:interface=127.0.0.1", "tcp:0"]


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("dns:backends.example:6379", DNSSource, "<DNSSource addresses of backends.example:6379>"),
        ("srv:_redis._tcp.example", DNSSource, "<DNSSource srv of _redis._tcp.example>"),
        ("file:/etc/backends.json", FileSource, "<FileSource /etc/backends.json>"),
    ],
)
def test_a_source_may_be_given_instead_of_backends(text: str, kind: type, expected: str) -> None:
    options = parsed(LISTEN, f"--source={text}")
    given, source = options["source"]
    assert (given, repr(source)) == (text, expected)
    assert isinstance(source, kind)
    assert options["backend"] == []


@pytest.mark.parametrize("source", ["dns:backends.example:6379", "srv:_redis._tcp.example"])
def test_name_servers_may_be_several_and_given_before_the_source_or_after(source: str) -> None:
    options = parsed(SERVER, LISTEN, f"--source={source}", "--name-server=[::1]:8600")
    assert options["name-server"] == [("10.0.0.2", 53), ("::1", 8600)]
    assert isinstance(options["source"][1], DNSSource)


def test_a_path_is_from_the_folder_where_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = parsed(LISTEN, SOURCE)
    monkeypatch.chdir(os.sep)  # as twistd goes to another folder when it becomes a daemon
    assert options["source"][1].path == str(tmp_path / "backends.toml")


@pytest.mark.parametrize(
    ("description", "backlog"),
    [("tcp:6380:interface=127.0.0.1", 1024), ("tcp:6380:backlog=7", 7), ("tcp:6380::9", 9)],
)
def test_many_clients_may_come_at_once_unless_the_address_says_otherwise(
    description: str, backlog: int
) -> None:
    ((_, endpoint),) = parsed(BACKEND, "--listen", description)["listen"]
    assert endpoint._backlog == backlog


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_balancer_can_be_named(name: str) -> None:
    assert parsed(BACKEND, LISTEN, f"--balance={name}")["balance"] == name


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "no --backend and no --source"),
        ([LISTEN], "or --source file:backends.toml"),
        ([SOURCE], "no --listen"),
        ([LISTEN, SOURCE, BACKEND], "expected one source, or a --backend for each backend"),
        ([LISTEN, BACKEND, SOURCE], "--source and --backend are both given"),
        ([LISTEN, SOURCE, "--source=dns:a.example:1"], "'file:backends.toml' and 'dns:a.ex"),
        ([LISTEN, SOURCE, SOURCE], "--source is given twice"),
        ([LISTEN, "--source="], f"--source: not a source: ''; {EXPECTED}"),
        ([LISTEN, "--source=", BACKEND], "--source and --backend are both given"),
        ([LISTEN, "--source=", SOURCE], "--source is given twice"),
        ([LISTEN, "--source=backends.toml"], f"not a source: 'backends.toml'; {EXPECTED}"),
        ([LISTEN, "--source=file:backends"], "ends in .toml or .json, not 'backends'"),
        ([LISTEN, "--source=dns:backends.example"], "port must be a whole number"),
        ([LISTEN, "--source=dns:10.0.0.7:6379"], "'10.0.0.7' is an address"),
        ([LISTEN, "--source=srv:"], EXPECTED),
        ([LISTEN, DNS, "--name-server=dns.test"], "--name-server: not a name server: 'dns.test'; "),
        ([LISTEN, DNS, "--name-server="], "expected its address, and its port if that is not 53"),
        ([LISTEN, DNS, SERVER, f"{SERVER}:53"], "--name-server 10.0.0.2:53 is given twice"),
        ([LISTEN, "--source=dns:a", SERVER], "port must be a whole number"),
        ([BACKEND], "no --listen"),
        ([LISTEN, "--backend=tcp"], "'tcp'"),
        ([LISTEN, "--backend=tcp:localhost"], "'tcp:localhost'"),
        ([LISTEN, "--backend=tcp:localhost:x"], "'tcp:localhost:x'"),
        ([LISTEN, "--backend=nonsense:1"], "'nonsense'"),
        ([LISTEN, "--backend="], "--backend"),
        ([LISTEN, BACKEND, BACKEND], "twice"),
        ([LISTEN, "--backend=tls:localhost"], "'tls:localhost'"),
        ([BACKEND, "--listen=6380"], "'6380'"),
        ([BACKEND, "--listen=tcp:many"], "'tcp:many'"),
        ([BACKEND, "--listen=tcp:99999"], "its port is not from 0 to 65535"),
        ([BACKEND, "--listen=tcp:-1"], "its port is not from 0 to 65535"),
        ([BACKEND, "--listen=tcp:6380", "--listen=tcp:6380"], "is given twice"),
        ([BACKEND, LISTEN, "--limit=" + "9" * 5000], "--limit must be a whole number"),
        ([BACKEND, "--listen=nonsense:1"], "'nonsense:1'"),
        ([BACKEND, "--listen="], "--listen"),
        ([BACKEND, LISTEN, "--limit=0"], "--limit must be a whole number of at least 1"),
        ([BACKEND, LISTEN, "--limit=-1"], "'-1'"),
        ([BACKEND, LISTEN, "--limit=1.5"], "'1.5'"),
        ([BACKEND, LISTEN, "--limit=ten"], "'ten'"),
        ([BACKEND, LISTEN, "--limit=\u0663"], "--limit"),
        ([BACKEND, LISTEN, "--max-waiters=-1"], "--max-waiters"),
        ([BACKEND, LISTEN, "--connect-ahead=x"], "--connect-ahead"),
        ([BACKEND, LISTEN, "--connect-ahead=11"], "more than the limit of 10"),
        ([BACKEND, LISTEN, "--eject-after=-1"], "--eject-after must be a whole number"),
        ([BACKEND, LISTEN, "--eject-after=2.5"], "'2.5'"),
        ([BACKEND, LISTEN, "--wait=0"], "--wait must be a number of seconds above 0"),
        ([BACKEND, LISTEN, "--wait=soon"], "'soon'"),
        ([BACKEND, LISTEN, "--wait=inf"], "'inf'"),
        ([BACKEND, LISTEN, "--connect-timeout=nan"], "'nan'"),
        ([BACKEND, LISTEN, "--grace=-1"], "--grace must be a number of seconds at least 0"),
        ([BACKEND, LISTEN, "--balance=fair"], "--balance must be one of fill_first, idle_first"),
        ([BACKEND, LISTEN, "surplus"], "'surplus'"),
        (["--demo=0"], "--demo must be a number of seconds above 0"),
        (["--demo=long"], "'long'"),
        (["--demo=3", BACKEND], "leave out --backend"),
        (["--demo=3", LISTEN], "leave out --listen"),
        (["--demo=3", "--limit=5"], "leave out --limit"),
        (["--demo=3", SOURCE], "leave out --source"),
        (["--demo=3", SERVER], "leave out --name-server"),
        (["--demo=3", "--eject-after=0"], "leave out --eject-after"),
        (["--unknown"], "unknown"),
        (["--limit"], "limit"),
    ],
)
def test_a_wrong_option_is_named_in_a_usage_error(arguments: list[str], expected: str) -> None:
    assert expected in complaint(*arguments)


@pytest.mark.parametrize("backends", [SOURCE, DNS, "--backend=tcp:backends.example:6379"])
def test_hosts_are_asked_of_the_name_servers_that_are_given(backends: str) -> None:
    its: Any = reactor
    before = its.nameResolver
    try:
        makeService(parsed(backends, LISTEN))
        assert its.nameResolver is before
        makeService(parsed(backends, LISTEN, SERVER))
        installed = its.nameResolver
    finally:
        its.installNameResolver(before)
    assert isinstance(installed, HostResolver)
    assert installed.servers == [("10.0.0.2", 53)]
    assert installed.otherwise is before


def test_options_make_a_service_that_listens() -> None:
    service = makeService(parsed(BACKEND, LISTEN, "--connect-ahead=2"))
    assert isinstance(service, FrontService)
    assert service.ports == []


@pytest.mark.parametrize("more", [[], ["--connect-ahead=2"]])
def test_a_source_is_not_started_before_a_daemon_could_have_forked(
    more: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "backends.toml"
    path.write_text('[[backend]]\nendpoint = "tcp:127.0.0.1:6379"\n')
    options = parsed(LISTEN, f"--source=file:{path}", *more)
    makeService(options)
    told: list[Sequence[Backend]] = []
    options["source"][1].start(told.append)  # which refuses what is started already
    options["source"][1].stop()
    assert told == [(Backend("tcp:127.0.0.1:6379"),)]


@pytest.mark.parametrize(("arguments", "failures"), [([], 5), (["--eject-after=2"], 2)])
def test_so_many_failures_eject_a_backend(arguments: list[str], failures: int) -> None:
    service = makeService(parsed(BACKEND, LISTEN, *arguments))
    assert service.pool.policy.ejection == Ejection(failures)


def test_no_failures_eject_a_backend_after_0() -> None:
    assert makeService(parsed(BACKEND, LISTEN, "--eject-after=0")).pool.policy.ejection is None


def test_the_demo_needs_nothing_else() -> None:
    assert isinstance(makeService(parsed("--demo=1.5")), Demo)

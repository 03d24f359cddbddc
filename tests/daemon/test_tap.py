"""The command line of C{twistd kolus}: what it accepts, and what it says about mistakes."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import IServiceMaker
from twisted.internet import reactor
from twisted.plugin import getPlugins
from twisted.scripts.twistd import ServerOptions

from kolus.backend import Backend
from kolus.balance import NAMES
from kolus.checking import HealthCheck
from kolus.config import FLAGS, Config, GroupSettings, ListenerConfig
from kolus.daemon.daemon import Daemon
from kolus.daemon.demo.demo import Demo
from kolus.daemon.listening.listen_endpoint import listen_endpoint
from kolus.daemon.meant import what_was_meant
from kolus.daemon.served_group import make_source
from kolus.daemon.tap import Options, makeService
from kolus.health import Ejection
from kolus.sources import HostResolver
from kolus.tls import BackendTLS
from kolus.tunnel import ListenerSettings

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


def told(*arguments: str) -> Config:
    config = parsed(*arguments).config
    assert config is not None
    return config


def group(*arguments: str) -> GroupSettings:
    return told(BACKEND, LISTEN, *arguments).groups["default"]


def listener(*arguments: str) -> ListenerConfig:
    return told(BACKEND, *arguments).listeners["default"]


def daemon(*arguments: str) -> Daemon:
    made = makeService(parsed(*arguments))
    assert isinstance(made, Daemon)
    return made


def complaint(*arguments: str) -> str:
    said = io.StringIO()
    with redirect_stderr(said), pytest.raises(SystemExit) as caught:
        parsed(*arguments)
    assert caught.value.code == 1
    lines = said.getvalue().splitlines()
    assert all(line.startswith("twistd kolus: ") for line in lines)
    return "\n".join(lines)


@pytest.fixture(autouse=True)
def calmed(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The reactors in whose processes the collector would be calm: not in this one."""
    reactors: list[object] = []
    monkeypatch.setattr("kolus.daemon.tap.calm_collector", reactors.append)
    return reactors


def test_a_daemon_calms_the_collector_of_its_process(calmed: list[object]) -> None:
    daemon(BACKEND, LISTEN)
    assert calmed == [reactor]


def test_the_plugin_is_found_by_twistd() -> None:
    (maker,) = (each for each in getPlugins(IServiceMaker) if each.tapname == "kolus")
    assert maker.options is Options


def test_without_options_the_numbers_are_those_of_the_readme() -> None:
    config = told(BACKEND, LISTEN)
    assert config.grace == 30.0
    assert config.admin is None
    assert config.listeners["default"].settings == ListenerSettings()
    its = config.groups["default"]
    assert (its.limit, its.connect_timeout, its.connect_ahead) == (10, 5.0, 0)
    assert (its.eject_after, its.max_waiters, its.balance) == (5, None, "pick_two")


def test_the_help_tells_every_default() -> None:
    text = " ".join(str(Options()).split())
    for default in ("10", "5", "0", "30", "pick_two", "3600", "true", "1.2"):
        assert f"[default: {default}]" in text


def test_given_numbers_are_taken() -> None:
    its = group("--limit=20", "--connect-timeout=2", "--connect-ahead=3", "--max-waiters=0")
    assert (its.limit, its.connect_timeout, its.connect_ahead, its.max_waiters) == (20, 2, 3, 0)
    assert group("--eject-after=7").eject_after == 7
    assert group("--total-limit=7").total_limit == 7
    assert told(BACKEND, LISTEN, "--grace=0").grace == 0
    assert listener(LISTEN, "--wait=0.5").settings.queue_timeout == 0.5
    assert listener(LISTEN, "--max-clients=9", "--deny=10.0.0.1").settings == ListenerSettings(
        max_clients=9, deny=("10.0.0.1",)
    )


def test_settings_of_tls_and_checks_have_a_prefix() -> None:
    its = group("--check-kind=exchange", "--check-expect=+PONG", "--backend-tls-verify=no")
    assert its.check == HealthCheck(kind="exchange", expect=b"+PONG")
    assert its.tls == BackendTLS(verify=False)


def test_backends_and_listening_addresses_may_be_several() -> None:
    config = told(BACKEND, "--backend=tcp:10.0.0.1:1", LISTEN, "--listen=tcp:0")
    backends = (Backend("tcp:127.0.0.1:6379"), Backend("tcp:10.0.0.1:1"))
    assert config.groups["default"].backends == backends
    assert config.listeners["default"].listen == ("tcp:6380:interface=127.0.0.1", "tcp:0")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dns:backends.example:6379", "<DNSSource addresses of backends.example:6379>"),
        ("srv:_redis._tcp.example", "<DNSSource srv of _redis._tcp.example>"),
    ],
)
def test_a_source_may_be_given_instead_of_backends(text: str, expected: str) -> None:
    its = told(LISTEN, f"--source={text}").groups["default"]
    assert (its.source, its.backends) == (text, ())
    assert repr(make_source(reactor, its, ())) == expected


def test_name_servers_may_be_several_and_given_before_the_source_or_after() -> None:
    config = told(SERVER, LISTEN, DNS, "--name-server=[::1]:8600")
    assert config.name_servers == ("10.0.0.2", "[::1]:8600")


def test_a_path_is_from_the_folder_where_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "backends.toml"
    path.write_text('[[backend]]\nendpoint = "tcp:127.0.0.1:6379"\n')
    monkeypatch.chdir(tmp_path)
    source = make_source(reactor, told(LISTEN, SOURCE).groups["default"], ())
    monkeypatch.chdir(os.sep)  # as twistd goes to another folder when it becomes a daemon
    assert source.path == str(path)


@pytest.mark.parametrize(
    ("description", "backlog"),
    [("tcp:6380:interface=127.0.0.1", 1024), ("tcp:6380:backlog=7", 7), ("tcp:6380::9", 9)],
)
def test_many_clients_may_come_at_once_unless_the_address_says_otherwise(
    description: str, backlog: int
) -> None:
    endpoint: Any = listen_endpoint(reactor, description)
    assert endpoint._backlog == backlog


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_balancer_can_be_named(name: str) -> None:
    assert group(f"--balance={name}").balance == name


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "no --backend and no --source"),
        ([LISTEN], "or --source file:backends.toml"),
        ([SOURCE], "no --listen"),
        ([LISTEN, SOURCE, BACKEND], "expected one source, or the backends"),
        ([LISTEN, BACKEND, SOURCE], "are both given"),
        ([LISTEN, SOURCE, "--source=dns:a.example:1"], "--source is given twice"),
        ([LISTEN, SOURCE, SOURCE], "--source is given twice"),
        ([LISTEN, "--source="], f"--source: not a source: ''; {EXPECTED}"),
        ([LISTEN, "--source=", BACKEND], "are both given"),
        ([LISTEN, "--source=", SOURCE], "--source is given twice"),
        ([LISTEN, "--source=backends.toml"], f"not a source: 'backends.toml'; {EXPECTED}"),
        ([LISTEN, "--source=file:backends"], "ends in .toml or .json, not 'backends'"),
        ([LISTEN, "--source=dns:backends.example"], "(its port is missing); expected dns:NAME"),
        ([LISTEN, "--source=dns:10.0.0.7:6379"], "'10.0.0.7' is an address"),
        ([LISTEN, "--source=srv:"], EXPECTED),
        ([LISTEN, DNS, "--name-server=dns.test"], "--name-server: not a name server: 'dns.test'; "),
        ([LISTEN, DNS, "--name-server="], "expected its address, and its port if that is not 53"),
        ([LISTEN, DNS, SERVER, f"{SERVER}:53"], "10.0.0.2:53 is given twice"),
        ([LISTEN, "--source=dns:a", SERVER], "its port is missing"),
        ([LISTEN, "--source=dns:a:", SERVER], "port must be a whole number"),
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
        ([BACKEND, LISTEN, "--limit=-1"], "not -1"),
        ([BACKEND, LISTEN, "--limit=1.5"], "not 1.5"),
        ([BACKEND, LISTEN, "--limit=ten"], "'ten'"),
        ([BACKEND, LISTEN, "--limit=\u0663"], "--limit"),
        ([BACKEND, LISTEN, "--max-waiters=-1"], "--max-waiters"),
        ([BACKEND, LISTEN, "--connect-ahead=x"], "--connect-ahead"),
        ([BACKEND, LISTEN, "--connect-ahead=11"], "more than the limit of 10"),
        ([BACKEND, LISTEN, "--eject-after=-1"], "--eject-after must be a whole number"),
        ([BACKEND, LISTEN, "--eject-after=2.5"], "not 2.5"),
        ([BACKEND, LISTEN, "--wait=0"], "--wait must be a number of seconds above 0"),
        ([BACKEND, LISTEN, "--wait=soon"], "'soon'"),
        ([BACKEND, LISTEN, "--wait=inf"], "not inf"),
        ([BACKEND, LISTEN, "--connect-timeout=nan"], "not nan"),
        ([BACKEND, LISTEN, "--grace=-1"], "--grace must not be negative"),
        ([BACKEND, LISTEN, "--balance=fair"], "expected one of fill_first, idle_first"),
        ([BACKEND, LISTEN, "surplus"], "'surplus'"),
        (["--demo=0"], "--demo must be a number of seconds above 0"),
        (["--demo=long"], "'long'"),
        (["--demo=3", BACKEND], "leave out --backend"),
        (["--demo=3", LISTEN], "leave out --listen"),
        (["--demo=3", "--limit=5"], "leave out --limit"),
        (["--demo=3", SOURCE], "leave out --source"),
        (["--demo=3", SERVER], "leave out --name-server"),
        (["--demo=3", "--eject-after=0"], "leave out --eject-after"),
        (
            [BACKEND, LISTEN, "--tls-certificates=/nope"],
            "--tls-certificates: cannot read /nope: No",
        ),
        ([BACKEND, LISTEN, "--tls-client-ca=/nope"], "--tls-certificates is missing"),
        ([BACKEND, LISTEN, "--backend-tls-ca=/nope"], "--backend-tls-ca: cannot read /nope"),
        ([BACKEND, LISTEN, "--check-kind=exchange"], "--check-expect must not be empty"),
        ([BACKEND, LISTEN, "--takeover=/nope/x"], "--takeover: there is no folder /nope"),
        ([BACKEND, LISTEN, "--takeover=/tmp"], "--takeover: /tmp is there, and is no socket"),
        ([LISTEN, "--source=file:b.yaml"], "ends in .toml or .json, not 'b.yaml'"),
        ([LISTEN, "--backend=tcp:::1:6379"], r"are written as \:, here tcp:\:\:1:6379"),
        ([LISTEN, "--backend=tcp:[2001:db8::7]:1"], r"here tcp:2001\:db8\:\:7:1"),
        ([LISTEN, "--backend=tcp: 10.0.0.7 :1"], "there is a space in it"),
        ([LISTEN, f"{BACKEND} "], "there is a space in it"),
        ([LISTEN, f"--backend=unix:/{'x' * 108}"], "a path of a socket has at most 107 bytes"),
        (
            ["--listen=tcp:7", "--backend=tcp:localhost:7"],
            "tcp:7 is the backend tcp:localhost:7 it",
        ),
        (
            ["--listen=tcp:7:interface=127.0.0.1", "--backend=tcp:127.0.0.1:7"],
            "choose another port",
        ),
        (["--unknown"], "unknown option --unknown: see"),
        (["--limits=5"], "unknown option --limits: did you mean --limit?"),
        (["--zzz"], "unknown option --zzz: see twistd kolus --help"),
        (["--limit"], "--limit needs a value: see twistd kolus --help"),
        ([BACKEND, LISTEN, "--source=file:nope.toml"], "both given"),
        ([LISTEN, "--source=file:nope.toml"], "--source: there is no file nope.toml; to start w"),
        (["--config=a.toml", "--limit=5"], "leave out --limit"),
        (["--config="], "--config must name a TOML file"),
        (["--config=a.toml", "--config=b.toml"], "--config is given twice"),
        (["--demo=3", "--check-config"], "leave out --check-config"),
        ([BACKEND, LISTEN, "--takeover="], "--takeover: its path is empty"),
        ([BACKEND, "--listen=unix:"], "its path is empty"),
        ([LISTEN, r"--backend=tcp6:\:\:1:6379"], "did you mean tcp, which connects to IPv6"),
        ([BACKEND, LISTEN, "--admin-listen=haproxy:unix:/tmp/a"], "reads no PROXY headers"),
        (
            ["--listen=unix:/tmp/a", "--backend=unix:/tmp/./a"],
            "is the backend unix:/tmp/./a itself",
        ),
        (
            ["--listen=tcp:7:interface=127.0.0.1", "--backend=tcp:localhost:7"],
            "is the backend tcp:localhost:7 itself",
        ),
        (["--config=nope.toml"], "nope.toml: cannot be read: No such file"),
        (["--queue-timeout=5"], "unknown option --queue-timeout: did you mean --wait?"),
        (["--queue_timeout=5"], "unknown option --queue_timeout: did you mean --wait?"),
        (["--backends=tcp:a:1"], "did you mean --backend?"),
        (["--max_clients=5"], "unknown option --max_clients: did you mean --max-clients?"),
        (["--kind=tcp"], "unknown option --kind: did you mean --check-kind?"),
        (["--certificates=a.pem"], "did you mean --tls-certificates?"),
        (["--verify=no"], "did you mean --backend-tls-verify?"),
        (["--ca=a.pem"], "did you mean --backend-tls-ca?"),
        (["--token_file=a"], "did you mean --admin-token-file?"),
        (["--no-fail-fast"], "did you mean --fail-fast?"),
        (["--config-file=a.toml"], "did you mean --config?"),
        (
            ["--tls=a.pem"],
            "unknown option --tls: expected one of --tls-certificates, --tls-client-ca",
        ),
        (["--check=tcp"], "unknown option --check: expected one of --check-config, --check-expect"),
        (["--max-client=5"], "expected one of --max-clients, --max-clients-per-address"),
        (["-c", "a.toml"], "unknown option -c: options have long names, such as --config; see"),
        (["--check-config=yes"], "--check-config takes no value: leave out what follows the ="),
        (["kolus.toml"], "unexpected argument 'kolus.toml': use options"),
        ([BACKEND, LISTEN, "--client-timeout=0"], 'not 0; "none" takes the bound away'),
        ([BACKEND, LISTEN, "--client-timeout=never"], "'never'; \"none\" takes the bound away"),
        ([BACKEND, LISTEN, "--max-clients=unlimited"], '"none" takes the bound away'),
        (
            [BACKEND, LISTEN, "--total-limit=0"],
            "--total-limit must be a whole number of at least 1",
        ),
        (
            [BACKEND, LISTEN, "--wait=500ms"],
            "--wait must be a number of seconds above 0, not '500ms'",
        ),
        ([BACKEND, LISTEN, "--fail-fast"], "--fail-fast needs a value"),
        ([BACKEND, LISTEN, "--fail-fast=0"], "--fail-fast must be true or false, not '0'"),
        ([BACKEND, LISTEN, "--allow=10.0.0.0/8,10.1.0.0/16"], "give --allow several times"),
        ([LISTEN, "--backend=tcp:a:1,tcp:b:1"], "give --backend several times"),
        ([BACKEND, "--listen=tcp:1,tcp:2"], "give --listen several times"),
        ([BACKEND, "--listen=:6380"], "did you mean tcp:6380?"),
        ([BACKEND, "--listen=tcp:127.0.0.1:6380"], "did you mean tcp:6380:interface=127.0.0.1?"),
        ([BACKEND, "--listen=tcp://127.0.0.1:6380"], "did you mean tcp:6380:interface=127.0.0.1?"),
        (
            [BACKEND, "--listen=systemd:name=a"],
            "expected for example systemd:domain=INET:name=carts",
        ),
        ([BACKEND, "--listen=unix:path=/tmp/a:x=1"], "expected for example unix:/run/kolus/carts"),
        (["--limit"], "limit"),
    ],
)
def test_a_wrong_option_is_named_in_a_usage_error(arguments: list[str], expected: str) -> None:
    assert expected in complaint(*arguments)


def test_a_key_of_a_file_that_is_given_as_a_flag_leads_to_its_flag() -> None:
    for flag in FLAGS.values():
        key = str(flag.path[-1])
        for name in {key, key.replace("_", "-")} - set(FLAGS):
            told = what_was_meant(f"option --{name} not recognized")
            assert f"--{flag.name}?" in told or f"--{key.replace('_', '-')}?" in told


@pytest.mark.parametrize("given", ["--logfile=a", "--pidfile", "-n"])
def test_an_option_of_twistd_belongs_before_the_name_of_the_daemon(given: str) -> None:
    options: Any = ServerOptions()
    said = io.StringIO()
    with redirect_stderr(said), pytest.raises(SystemExit):
        options.parseOptions(["kolus", BACKEND, LISTEN, given])
    name = given.partition("=")[0]
    assert f"{name} is no option of kolus: write it before the word kolus" in said.getvalue()


@pytest.mark.parametrize("backends", [DNS, "--backend=tcp:backends.example:6379"])
def test_hosts_are_asked_of_the_name_servers_that_are_given(backends: str) -> None:
    its: Any = reactor
    before = its.nameResolver
    try:
        daemon(backends, LISTEN)
        assert its.nameResolver is before
        daemon(backends, LISTEN, SERVER)
        installed = its.nameResolver
    finally:
        its.installNameResolver(before)
    assert isinstance(installed, HostResolver)
    assert installed.servers == [("10.0.0.2", 53)]
    assert installed.otherwise is before


def test_options_make_a_service_that_does_not_listen_yet() -> None:
    made = daemon(BACKEND, LISTEN, "--connect-ahead=2")
    assert made.listeners["default"].ports == []


@pytest.mark.parametrize(("arguments", "failures"), [([], 5), (["--eject-after=2"], 2)])
def test_so_many_failures_eject_a_backend(arguments: list[str], failures: int) -> None:
    made = daemon(BACKEND, LISTEN, *arguments)
    assert made.groups["default"].pool.policy.ejection == Ejection(failures)


def test_no_failures_eject_a_backend_after_0() -> None:
    made = daemon(BACKEND, LISTEN, "--eject-after=0")
    assert made.groups["default"].pool.policy.ejection is None


def test_a_configuration_is_checked_and_nothing_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(BACKEND, LISTEN, "--check-config")
    assert caught.value.code == 0
    assert "the configuration has no mistake" in capfd.readouterr().out


def test_a_socket_that_systemd_gives_to_the_daemon_alone_may_be_missing_in_a_check() -> None:
    lent = "--listen=systemd:domain=INET:name=carts"
    for given in ((lent,), (LISTEN, "--admin-listen=systemd:domain=UNIX:index=0")):
        with pytest.raises(SystemExit) as caught:
            parsed(BACKEND, *given, "--check-config")
        assert caught.value.code == 0
    assert "systemd gave this process no socket of the name 'carts'" in complaint(BACKEND, lent)
    wrong = "--listen=systemd:name=carts:domain=IPV4"
    assert "domain is INET, INET6 or UNIX, not 'IPV4'" in complaint(
        BACKEND, wrong, "--check-config"
    )
    wrong = "--listen=systemd:domain=INET:nam=carts"
    assert "unknown argument 'nam'" in complaint(BACKEND, wrong, "--check-config")


def test_the_demo_needs_nothing_else() -> None:
    assert isinstance(makeService(parsed("--demo=1.5")), Demo)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "--admin-token-file: cannot be read: No such file"),
        (b"", "--admin-token-file is empty: write a token in its first line"),
        (b"\nsecret", "--admin-token-file is empty"),
    ],
)
def test_a_file_without_a_token_is_refused(
    content: bytes | None, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    admin = ("--admin-listen=tcp:0:interface=127.0.0.1", f"--admin-token-file={path}")
    assert expected in complaint(BACKEND, LISTEN, *admin)


def test_a_backend_on_another_address_may_have_the_port_of_a_listener() -> None:
    backends = ("--backend=tcp:127.0.0.1:7", "--backend=tcp:10.0.0.7:7")
    assert parsed(*backends, "--listen=tcp:7:interface=127.0.0.2").config is not None
    assert parsed("--backend=tcp:10.0.0.7:7", "--listen=tcp:7").config is not None


def test_a_wrong_file_of_backends_is_told_with_its_line_unless_it_may_come_later(
    tmp_path: Path,
) -> None:
    path = tmp_path / "backends.toml"
    path.write_text('[[backend]]\nendpoint = "tcp:10.0.0.7:6379"\nwieght = 2\n')
    told = complaint(LISTEN, f"--source=file:{path}")
    assert f"--source: {path}, line 3: unknown key 'wieght'; did you mean 'weight'?" in told
    assert parsed(LISTEN, f"--source=file:{path}", "--wait-for-source=yes").config is not None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("--listen=tcp:7:interface=127.0.0.1", "--listen=tcp:interface=127.0.0.1:port=7"),
        ("--listen=tcp:7:interface=127.0.0.1", "--listen=tcp:7:interface=127.0.0.1:backlog=9"),
        ("--listen=tcp:7:interface=127.0.0.1", "--listen=tcp:7"),
        ("--listen=tcp:7:interface=127.0.0.1", "--admin-listen=tcp:7:interface=localhost"),
        ("--listen=haproxy:tcp:7", "--listen=tcp:7:interface=0.0.0.0"),
        ("--listen=unix:/tmp/a", "--listen=unix:/tmp/../tmp/a:mode=660"),
        ("--listen=unix:/tmp/a", "--admin-listen=unix:/tmp/a"),
        ("--listen=unix:/tmp/a", "--takeover=/tmp/a"),
        ("--admin-listen=unix:/tmp/a", "--takeover=/tmp/./a"),
    ],
)
def test_one_place_is_not_listened_on_twice_however_it_is_written(first: str, second: str) -> None:
    told = complaint(BACKEND, "--listen=tcp:8", first, second)
    assert "too; leave one out" in told


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("--listen=tcp:0", "--admin-listen=tcp:0:interface=127.0.0.1"),
        ("--listen=tcp:7:interface=127.0.0.1", "--listen=tcp:7:interface=127.0.0.2"),
        ("--listen=tcp:7:interface=127.0.0.1", r"--listen=tcp6:7:interface=\:\:1"),
        ("--listen=unix:/tmp/a", "--listen=unix:/tmp/b"),
    ],
)
def test_different_places_may_both_be_listened_on(first: str, second: str) -> None:
    assert parsed(BACKEND, first, second).config is not None

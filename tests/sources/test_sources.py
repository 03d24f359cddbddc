"""Sources that never change, and those that a command line names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from kolus.backend import Backend
from kolus.interfaces import ISource
from kolus.sources import (
    DNSSource,
    FileSource,
    StaticSource,
    name_server_from_string,
    source_from_string,
)

A, B = "tcp:10.0.0.7:6379", "tcp:10.0.0.8:6379"


def refusal(text: str) -> str:
    with pytest.raises(ValueError, match="not a source") as caught:
        source_from_string(reactor, text)
    return str(caught.value)


# What all of them promise


@pytest.mark.parametrize(
    "source",
    [
        StaticSource([A]),
        FileSource(Clock(), "backends.toml"),
        DNSSource(reactor, "backends.test", 6379),
    ],
    ids=lambda source: type(source).__name__,
)
def test_each_kind_is_a_source_and_may_be_stopped_before_it_starts(source: Any) -> None:
    assert verifyObject(ISource, source)
    source.stop()
    source.stop()


# Static


def test_a_static_source_tells_its_list_once_at_once() -> None:
    told: list[Sequence[Backend]] = []
    StaticSource([A, ("10.0.0.8", 6379)]).start(told.append)
    assert told == [(Backend(A), Backend(B))]


def test_a_static_source_keeps_what_a_backend_says_besides_its_endpoint() -> None:
    told: list[Sequence[Backend]] = []
    StaticSource([Backend(A, weight=3.0)]).start(told.append)
    assert told[0][0].weight == 3.0


def test_a_static_source_says_what_it_tells() -> None:
    assert repr(StaticSource([A, B])) == f"<StaticSource {A}, {B}>"


def test_a_static_source_may_be_started_again() -> None:
    told: list[Sequence[Backend]] = []
    source = StaticSource([A])
    source.start(told.append)
    source.stop()
    source.start(told.append)
    assert len(told) == 2


def test_a_source_that_is_started_cannot_be_started_for_another() -> None:
    source = StaticSource([A])
    source.start(lambda backends: None)
    with pytest.raises(RuntimeError, match="started already"):
        source.start(lambda backends: None)


def test_a_static_source_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one backend"):
        StaticSource([])


def test_a_static_source_refuses_a_backend_that_is_given_twice() -> None:
    with pytest.raises(ValueError, match=r"tcp:10\.0\.0\.7:6379 is given twice"):
        StaticSource([A, B, Backend(A, name="again")])


def test_a_static_source_refuses_what_is_no_backend() -> None:
    with pytest.raises(ValueError, match="not a client endpoint string"):
        StaticSource([A, "nowhere"])


def test_a_static_source_of_one_string_is_a_mistake_that_is_named() -> None:
    with pytest.raises(ValueError, match="several backends, not the string"):
        StaticSource(A)


# From a string


def test_dns_with_a_name_and_a_port_asks_for_addresses() -> None:
    source = source_from_string(reactor, "dns:backends.test:6379")
    assert repr(source) == "<DNSSource addresses of backends.test:6379>"


def test_srv_with_a_name_asks_for_services() -> None:
    source = source_from_string(reactor, "srv:_redis._tcp.backends.test")
    assert repr(source) == "<DNSSource srv of _redis._tcp.backends.test>"


def test_file_with_a_path_follows_that_file(tmp_path: Path) -> None:
    source = source_from_string(reactor, f"file:{tmp_path}/with:colon.json")
    assert repr(source) == f"<FileSource {tmp_path}/with:colon.json>"


@pytest.mark.parametrize(
    "text",
    ["", "dns", "static:x", "DNS:a:1", "dns:", "srv:", "file:", "dns:a", "dns::80", "tcp:a:1"],
)
def test_a_string_for_no_source_is_told_what_is_expected(text: str) -> None:
    assert "expected dns:NAME:PORT, srv:_SERVICE._tcp.NAME or file:PATH.toml" in refusal(text)


def test_the_nearest_kind_of_source_is_told() -> None:
    assert refusal("dsn:a:1").endswith("; did you mean dns:a:1?")
    assert refusal("FILE:a.toml").endswith("; did you mean file:a.toml?")


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1", "+1", "", "1.5", "٣", "1" * 5000])
def test_an_odd_port_is_refused(port: str) -> None:
    assert "port must be a whole number from 1 to 65535" in refusal(f"dns:backends.test:{port}")


@pytest.mark.parametrize("address", ["::1", "[::1]", "10.0.0.7", "fe80::1"])
def test_an_address_in_the_place_of_a_name_is_refused(address: str) -> None:
    assert "is an address, which needs no DNS" in refusal(f"dns:{address}:80")


@pytest.mark.parametrize("name", ["a b", "a:b", "a..b", "x" * 64, ".", "ab." * 90, "a/b"])
def test_what_can_be_no_name_is_refused(name: str) -> None:
    assert "not a DNS name" in refusal(f"srv:{name}")


def test_a_file_of_another_form_is_refused() -> None:
    assert "ends in .toml or .json" in refusal("file:backends.yaml")


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("10.0.0.2", ("10.0.0.2", 53)),
        ("10.0.0.2:8600", ("10.0.0.2", 8600)),
        ("::1", ("::1", 53)),
        ("2001:db8::2", ("2001:db8::2", 53)),
        ("[2001:DB8::2]", ("2001:db8::2", 53)),
        ("[2001:db8::2]:8600", ("2001:db8::2", 8600)),
        ("fe80::2%lo", ("fe80::2%lo", 53)),
    ],
)
def test_a_name_server_is_an_address_with_a_port_or_without(
    text: str, server: tuple[str, int]
) -> None:
    assert name_server_from_string(text) == server


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dns.test",
        "dns.test:53",
        ":53",
        "10.0.0.2:",
        "10.0.0.2:0",
        "10.0.0.2:65536",
        "10.0.0.2:domain",
        "10.0.0.2:53:53",
        "10.0.0.2\n",
        "[]:53",
        "[::1",
        "[::1]53",
        "::1]:53",
        "[dns.test]:53",
    ],
)
def test_a_string_for_no_name_server_is_told_what_is_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected its address, and its port") as caught:
        name_server_from_string(text)
    assert str(caught.value).startswith(f"not a name server: {text!r}; ")

"""Which endpoint stands for a string: what has a name is connected to by its addresses in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet.endpoints import (
    HostnameEndpoint,
    SSL4ClientEndpoint,
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
)
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    NoRouteError,
    TimeoutError,
)
from twisted.internet.interfaces import IReactorPluggableNameResolver
from twisted.internet.task import Clock
from zope.interface import alsoProvides

from kolus import Backend
from kolus.endpoints import what_is_unverified
from kolus.testing.results import failure_of
from tests.rigs.named_rig import LATE, ONE, THREE, TWO, Rig, fresh

rig = pytest.fixture(fresh)


def made(rig: Rig, string: str | tuple[str, int]) -> Any:
    return Backend(string).connector(rig.reactor)  # type: ignore[arg-type]


# tcp


@pytest.mark.parametrize("string", ["tcp:a.test:80", "TCP:host=a.test:port=80"])
def test_a_backend_with_a_name_connects_by_it(rig: Rig, string: str) -> None:
    assert repr(made(rig, string)) == "<NamedEndpoint a.test:80>"


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_timeout_and_bind_address_of_the_string_are_honoured(rig: Rig, kind: str) -> None:
    rig.resolver.answers = [ONE]
    endpoint = made(rig, f"{kind}:a.test:80:timeout=7:bindAddress=10.1.1.1")
    asked = endpoint.connect(rig.factory)
    assert rig.reactor.tcpClients[0][4] == ("10.1.1.1", 0)
    rig.reactor.advance(6.9)
    assert rig.stopped == []
    rig.reactor.advance(0.1)
    failure_of(TimeoutError, asked)


@pytest.mark.parametrize("host", ["10.0.0.1", "::1", "fe80::1%eth0"])
def test_a_literal_address_stays_with_twisteds_endpoint(rig: Rig, host: str) -> None:
    endpoint = made(rig, (host, 80))
    assert isinstance(endpoint, TCP4ClientEndpoint)
    endpoint.connect(rig.factory).addErrback(lambda _: None)
    assert rig.tried == [host]
    assert rig.resolver.asked == []


def test_a_name_stays_with_twisteds_endpoint_where_the_reactor_resolves_none() -> None:
    assert isinstance(Backend("tcp:a.test:80").connector(Clock()), TCP4ClientEndpoint)


@pytest.mark.filterwarnings("ignore:Passing HostnameEndpoint a reactor:DeprecationWarning")
def test_a_name_for_tls_stays_with_twisteds_endpoint_where_the_reactor_resolves_none() -> None:
    endpoint: Any = Backend("tls:a.test:443").connector(Clock())
    assert isinstance(endpoint._wrappedEndpoint, HostnameEndpoint)


@pytest.mark.parametrize(
    ("string", "kind"),
    [("unix:/run/x.sock", UNIXClientEndpoint), ("ssl:a.test:443", SSL4ClientEndpoint)],
)
def test_a_socket_or_an_ssl_string_stays_with_twisteds_endpoint(
    rig: Rig, string: str, kind: type[Any]
) -> None:
    assert isinstance(made(rig, string), kind)


# tls


@pytest.mark.parametrize(
    "string",
    [
        "tls:a.test:443",
        "TLS:host=a.test:port=443",
        "tls:a.test:443:endpoint=tcp\\:a.test\\:443",
    ],
)
def test_connects_of_a_tls_string_begin_at_each_address_in_turn(rig: Rig, string: str) -> None:
    rig.resolver.answers = [ONE, TWO, THREE]
    endpoint = made(rig, string)
    for _ in range(4):
        asked = endpoint.connect(rig.factory)
        asked.cancel()
        failure_of(ConnectingCancelledError, asked)
    assert rig.tried == [ONE, TWO, THREE, ONE]
    assert [(each.name, each.port) for each in rig.resolver.asked] == [("a.test", 443)]


def test_of_a_tls_string_too_the_next_address_is_tried_at_once_and_the_failure_names_each(
    rig: Rig,
) -> None:
    rig.resolver.answers = [ONE, TWO, THREE]
    asked = made(rig, "tls:a.test:443").connect(rig.factory)
    rig.refuse()
    rig.reactor.advance(LATE)
    assert rig.tried == [ONE, TWO, THREE]
    rig.refuse(1, kind=NoRouteError)
    rig.refuse(2)
    error = str(failure_of(ConnectError, asked))
    assert "a.test:443 (10.0.0.1: ConnectionRefusedError" in error
    assert "; 10.0.0.2: NoRouteError: No route to host.; 10.0.0.3: " in error


def test_a_literal_address_in_a_tls_string_is_not_resolved(rig: Rig) -> None:
    asked = made(rig, "tls:10.0.0.1:443").connect(rig.factory)
    assert rig.tried == [ONE]
    assert rig.resolver.asked == []
    rig.refuse()
    failure_of(ConnectError, asked)


def test_what_a_tls_string_connects_through_is_left_alone_if_it_has_no_host(rig: Rig) -> None:
    endpoint = made(rig, "tls:a.test:443:endpoint=unix\\:/run/x.sock")
    assert isinstance(endpoint._wrappedEndpoint, UNIXClientEndpoint)


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_any_reactor_that_says_that_it_resolves_names_does(kind: str) -> None:
    clock: Any = Clock()
    alsoProvides(clock, IReactorPluggableNameResolver)
    clock.nameResolver = None
    endpoint: Any = Backend(f"{kind}:a.test:443").connector(clock)
    its = getattr(endpoint, "_wrappedEndpoint", endpoint)
    assert repr(its) == "<NamedEndpoint a.test:443>"


@pytest.mark.parametrize("description", ["ssl:db.test:443", "SSL:db.test:443:timeout=3"])
def test_what_a_string_does_not_verify_is_told_with_what_to_write(description: str) -> None:
    assert "tls:db.test:443 does both" in what_is_unverified(description)
    assert what_is_unverified("tls:db.test:443") == what_is_unverified("tcp:db.test:443") == ""


def test_a_string_that_was_read_before_makes_another_endpoint_of_its_own_reactor() -> None:
    first, second = Clock(), Clock()
    for text in ("tcp:127.0.0.1:6379:timeout=7", "unix:/run/kolus/x"):
        one: Any = Backend(text).connector(first)
        other: Any = Backend(text).connector(second)
        assert one is not other
        assert (one._reactor, other._reactor) == (first, second)
        its = {name: value for name, value in vars(one).items() if name != "_reactor"}
        assert its == {name: value for name, value in vars(other).items() if name != "_reactor"}


def test_the_files_that_a_string_names_are_read_each_time(tmp_path: Path) -> None:
    key = trustme.CA().issue_cert("a.test").private_key_and_cert_chain_pem
    path = tmp_path / "key.pem"
    key.write_to_path(str(path))
    text = f"ssl:a.test:443:certKey={path}:privateKey={path}"
    Backend(text).connector(Clock())
    path.unlink()
    with pytest.raises(ValueError, match=r"key\.pem"):
        Backend(text).connector(Clock())

"""Backends as values: equality, invalid arguments, and secrets that are never shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, Policy, Pool
from kolus.balance import Balancer, consistent, least_leased, pick_two, round_robin
from kolus.testing import FakeBackend, result_of


def test_the_same_endpoint_string_is_the_same_backend_whatever_its_name_or_weight() -> None:
    one, other = Backend("tcp:a:1"), Backend("tcp:a:1", name="other", weight=2.0, limit=5)
    assert one == other
    assert hash(one) == hash(other)
    assert one != Backend("tcp:a:2")
    assert one != "tcp:a:1"


def test_one_made_from_an_endpoint_object_equals_only_itself() -> None:
    fake = FakeBackend(Clock())
    one = Backend(fake)
    assert one == one
    assert one != Backend(fake)
    assert one.connector(None) is fake


@pytest.mark.parametrize(
    ("pair", "string"),
    [
        (("127.0.0.1", 80), "tcp:127.0.0.1:80"),
        (("localhost", 80), "tcp:localhost:80"),
        (("::1", 80), "tcp:\\:\\:1:80"),
    ],
)
def test_a_pair_is_short_for_a_tcp_endpoint(pair: tuple[str, int], string: str) -> None:
    assert Backend(pair) == Backend(string)  # type: ignore[arg-type]
    assert Backend.of(pair) == Backend.of(string)
    made = Backend.of(pair).connector(Clock())
    assert isinstance(made, TCP4ClientEndpoint)
    assert made._host == pair[0]


def test_a_backend_is_itself_as_a_backend() -> None:
    backend = Backend("tcp:a:1", name="a")
    assert Backend.of(backend) is backend


def test_an_endpoint_object_has_to_be_made_a_backend_once() -> None:
    with pytest.raises(TypeError, match="make one Backend of the endpoint"):
        Backend.of(FakeBackend(Clock()))  # type: ignore[arg-type]


def test_messages_call_it_by_its_name_or_else_its_endpoint() -> None:
    assert str(Backend("tcp:a:1", name="cache")) == "cache"
    assert str(Backend("tcp:a:1")) == "tcp:a:1"


def test_several_backends_are_not_one_and_the_error_says_what_takes_them() -> None:
    pool: Pool[Any] = Pool(Clock(), Protocol)
    group = pool.group(["tcp:a.test:80"])
    for several in (["tcp:a.test:80"], {"tcp:a.test:80"}, group):
        with pytest.raises(TypeError, match=r"see Pool\.select and Pool\.group"):
            pool.connect("us", several)  # type: ignore[arg-type]


def test_a_unix_socket_is_a_backend() -> None:
    assert isinstance(Backend("unix:/run/x.sock").connector(Clock()), UNIXClientEndpoint)


def test_a_plugins_kind_of_endpoint_is_known() -> None:
    assert Backend("tls:example.org:443").endpoint == "tls:example.org:443"


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("", "expected KIND:ARGUMENTS"),
        ("localhost", "expected KIND:ARGUMENTS"),
        ("localhost:80", "unknown kind 'localhost'"),
        ("localhost:80", r"did you mean tcp:localhost:80\?"),
        ("tpc:localhost", "known kinds: .*tcp, tls, unix\\)"),
        ("tpc:localhost:80", r"known kinds: .*tcp, tls, unix; did you mean tcp:localhost:80\?"),
        ("tsl:localhost:80", r"did you mean tls:localhost:80\?"),
        ("redis:localhost:80", r"did you mean tcp:localhost:80\?"),
        ("http://a.test:80/page", r"did you mean tcp:a.test:80\?"),
        ("redis://me:secret@a.test:80/0", r"did you mean tcp:a.test:80\?"),
        ("[::1]:80", r"did you mean tcp:\\:\\:1:80\?"),
        ("tcp:localhost", "not a client endpoint string: 'tcp:localhost'"),
        ("tcp:localhost", "the port is missing; expected tcp:HOST:PORT"),
        ("tcp:localhost:http", "'http' is not a number; expected tcp:HOST:PORT"),
        ("tcp:localhost:80:timeout=x", "'x' is not a number.$"),
        ("unix:timeout=3", r"the path is missing\)"),
        ("tcp:localhost:80:colour=red", "unknown argument 'colour'; expected tcp:HOST:PORT"),
        ("tcp:localhost:80:timout=3", "unknown argument 'timout'; did you mean 'timeout'"),
        ("tcp:localhost:0", "its port is not from 1 to 65535"),
        ("tcp:localhost:-5", "its port is not from 1 to 65535"),
        ("tcp:localhost:65536", "its port is not from 1 to 65535"),
        ("tcp::80", "no host, or no path"),
        ("unix:", "no host, or no path"),
        ("ssl:localhost", "not a client endpoint string: 'ssl:localhost'"),
        ("ssl:localhost:https", "'https' is not a number"),
        (("localhost",), r"a backend's pair is \(host, port\)"),
        (("localhost", "80"), "port must be a whole number from 1 to 65535, not '80'"),
        (("localhost", 0), "port must be"),
        (("localhost", 65536), "port must be"),
        (("", 80), r"a backend's pair is \(host, port\)"),
    ],
)
def test_an_unparsable_endpoint_is_refused_and_named(endpoint: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Backend(endpoint)


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("tls:localhost", "'tls:localhost' .the port is missing; expected tls:HOST:PORT"),
        ("tls:localhost:https", "'https' is not a number"),
        ("tls:localhost:65536", "its port is not from 1 to 65535"),
        ("tls:127.0.0.1:0", "its port is not from 1 to 65535"),
        ("tls:localhost:443:trustRoots=/nowhere", r"trustRoots must be a folder of \*.pem files"),
        ("TLS:localhost:443:colour=red", "unknown argument 'colour'"),
        ("tls:localhost:443:certificate=/nowhere.pem", "No such file"),
    ],
)
def test_the_arguments_of_a_plugins_endpoint_are_checked_with_a_reactor(
    endpoint: str, why: str
) -> None:
    backend = Backend(endpoint)
    backend.check(Clock())
    with pytest.raises(ValueError, match=f"not a client endpoint string: .*{why}"):
        backend.check(reactor)


@pytest.mark.parametrize("endpoint", ["tls:localhost:443", "tcp:localhost:1", FakeBackend(Clock())])
def test_a_check_accepts_what_can_be_connected_to(endpoint: Any) -> None:
    Backend(endpoint).check(reactor)


def test_plugins_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    Backend("tls:localhost:443")
    monkeypatch.setattr("kolus.endpoints.from_string.getPlugins", None)
    Backend("tls:localhost:444")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("limit", 0),
        ("limit", -1),
        ("limit", 1.5),
        ("limit", True),
        ("weight", 0),
        ("weight", -1.0),
        ("weight", float("nan")),
        ("weight", float("inf")),
        ("weight", "heavy"),
        ("weight", True),
        ("weight", 1e-320),
        ("weight", 0.9e-6),
        ("weight", 1.1e6),
        ("weight", 1e308),
        ("weight", 10**400),
        ("name", 5),
        ("zone", None),
    ],
)
def test_a_number_out_of_its_range_is_refused_and_named(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{field} must be .*{re.escape(str(value))}"):
        Backend("tcp:a:1", **{field: value})


def test_the_range_of_weights_is_told() -> None:
    with pytest.raises(ValueError, match=r"a number from 0\.000001 to 1000000, not 1e\+308"):
        Backend("tcp:a:1", weight=1e308)


@pytest.mark.parametrize(
    "balancer", [round_robin, lambda: consistent("k"), pick_two, lambda: least_leased]
)
def test_the_least_and_the_most_weight_can_be_chosen_among(
    balancer: Callable[[], Balancer],
) -> None:
    clock = Clock()
    weights = (1e-6, 1e6, 1e6)
    backends = [
        Backend(FakeBackend(clock), name=f"{at}", weight=each) for at, each in enumerate(weights)
    ]
    group = Pool(clock, Protocol, policy=Policy(limit=1)).group(backends, balancer())
    leases = [result_of(group.connect("us")) for _ in backends]
    assert {str(each.backend) for each in leases} == {"0", "1", "2"}


@pytest.mark.parametrize("endpoint", [None, 5, b"tcp:a:1", object()])
def test_what_is_no_endpoint_is_refused(endpoint: Any) -> None:
    with pytest.raises(TypeError, match="not a backend: expected"):
        Backend(endpoint)

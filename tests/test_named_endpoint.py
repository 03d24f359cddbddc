"""Connecting by name, on a Clock: what is asked, where each connect begins, and what is left."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionRefusedError,
    DNSLookupError,
    NoProtocol,
    NoRouteError,
    TimeoutError,
)
from twisted.internet.interfaces import (
    IHostnameResolver,
    IReactorPluggableNameResolver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from kolus import Backend
from kolus.named_endpoint import NamedEndpoint
from kolus.testing.results import failure_of, result_of

ONE, TWO, THREE = "10.0.0.1", "10.0.0.2", "10.0.0.3"
LATE = 0.25


class Question:
    """One resolution, as the fake resolver was asked for it."""

    def __init__(self, receiver: Any, host: str, port: int) -> None:
        self.name = host
        self.port = port
        self.cancelled = 0
        self.can_be_cancelled = True
        self._receiver = receiver

    def answer(self, *hosts: str) -> None:
        for host in hosts:
            kind: Any = IPv4Address if ip_address(host).version == 4 else IPv6Address
            self._receiver.addressResolved(kind("TCP", host, self.port))
        self._receiver.resolutionComplete()

    def cancel(self) -> None:
        if not self.can_be_cancelled:
            raise NotImplementedError
        self.cancelled += 1


@implementer(IHostnameResolver)
class Resolver:
    """It answers at once if it has something to answer.

    @ivar answers: the addresses it tells; C{None} to let the question wait.
    """

    def __init__(self) -> None:
        self.answers: list[str] | None = None
        self.asked: list[Question] = []

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        question = Question(resolutionReceiver, hostName, portNumber)
        self.asked.append(question)
        resolutionReceiver.resolutionBegan(question)
        if self.answers is not None:
            question.answer(*self.answers)
        return question


@implementer(IReactorPluggableNameResolver)
class Reactor(MemoryReactorClock):
    """One with a resolver, which that of older Twisteds lacks."""

    def __init__(self, resolver: IHostnameResolver) -> None:
        super().__init__()
        self.nameResolver = resolver

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        before, self.nameResolver = self.nameResolver, resolver
        return before


class Builder(Factory):
    """Counts what it builds."""

    noisy = False

    def __init__(self) -> None:
        self.built_for: list[Any] = []

    def buildProtocol(self, addr: Any) -> Protocol:
        self.built_for.append(addr)
        return Protocol()


class Rig:
    """An endpoint, and the network that it believes to be in."""

    def __init__(self) -> None:
        self.resolver = Resolver()
        self.reactor = Reactor(self.resolver)
        self.endpoint = NamedEndpoint(self.reactor, "a.test", 80)
        self.factory = Builder()

    def connect(self) -> Deferred[Any]:
        return self.endpoint.connect(self.factory)

    @property
    def tried(self) -> list[str]:
        """Every address so far to which a connection was begun."""
        return [each[0] for each in self.reactor.tcpClients]

    @property
    def stopped(self) -> list[str]:
        """Those whose attempt was ended."""
        attempts: Any = zip(self.tried, self.reactor.connectors, strict=True)
        return [host for host, connector in attempts if connector.stoppedConnecting]

    def accept(self, number: int = -1) -> bool:
        """Let an attempt succeed, the last by default; whether the connection is kept."""
        host, port, factory = self.reactor.tcpClients[number][:3]
        protocol = factory.buildProtocol(IPv4Address("TCP", host, port))
        if protocol is not None:
            protocol.makeConnection(StringTransport())
        return protocol is not None

    def refuse(self, number: int = -1, kind: type[ConnectError] = ConnectionRefusedError) -> None:
        factory: Any = self.reactor.tcpClients[number][2]
        factory.clientConnectionFailed(self.reactor.connectors[number], Failure(kind()))

    def begins_at(self) -> str:
        """Where the next connect begins; it succeeds there."""
        made = self.connect()
        host = self.tried[-1]
        self.accept()
        result_of(made)
        return host


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    assert rig.reactor.getDelayedCalls() == []


def test_it_is_an_endpoint(rig: Rig) -> None:
    assert verifyObject(IStreamClientEndpoint, rig.endpoint)
    assert repr(rig.endpoint) == "<NamedEndpoint a.test:80>"


# Resolving


def test_the_name_is_asked_of_the_resolver_that_the_reactor_has_now(rig: Rig) -> None:
    other = Resolver()
    other.answers = [ONE]
    rig.reactor.installNameResolver(other)
    assert rig.begins_at() == ONE
    assert [(each.name, each.port) for each in other.asked] == [("a.test", 80)]
    assert rig.resolver.asked == []


def test_a_name_that_has_only_ipv6_addresses_connects(rig: Rig) -> None:
    rig.resolver.answers = ["2001:db8::1"]
    assert rig.begins_at() == "2001:db8::1"


def test_an_address_keeps_its_scope(rig: Rig) -> None:
    made = rig.connect()
    receiver = rig.resolver.asked[0]._receiver
    receiver.addressResolved(IPv6Address("TCP", "fe80::1", 80, scopeID=2))
    receiver.resolutionComplete()
    assert rig.tried == ["fe80::1%2"]
    rig.accept()
    result_of(made)


def test_what_is_no_address_or_one_twice_is_left_out(rig: Rig) -> None:
    made = rig.connect()
    rig.resolver.asked[0]._receiver.addressResolved(UNIXAddress("/run/x.sock"))
    rig.resolver.asked[0].answer(ONE, ONE)
    rig.refuse()
    failure_of(ConnectionRefusedError, made)
    assert rig.tried == [ONE]


def test_addresses_are_used_for_15_seconds_and_no_longer(rig: Rig) -> None:
    rig.resolver.answers = [ONE]
    rig.begins_at()
    rig.reactor.advance(14.9)
    rig.resolver.answers = [TWO]
    assert rig.begins_at() == ONE
    assert len(rig.resolver.asked) == 1
    rig.reactor.advance(0.1)
    assert rig.begins_at() == TWO


def test_a_failed_resolution_is_not_remembered(rig: Rig) -> None:
    rig.resolver.answers = []
    error = failure_of(DNSLookupError, rig.connect())
    assert str(error) == "DNS lookup failed: a.test: no address."
    rig.resolver.answers = [ONE]
    assert rig.begins_at() == ONE


def test_two_connects_at_once_share_one_question(rig: Rig) -> None:
    one, two = rig.connect(), rig.connect()
    (question,) = rig.resolver.asked
    question.answer(ONE, TWO)
    assert rig.tried == [ONE, TWO]
    rig.accept(0)
    result_of(one)
    rig.accept(1)
    result_of(two)


def test_all_who_share_a_question_fail_with_it(rig: Rig) -> None:
    one, two = rig.connect(), rig.connect()
    rig.resolver.asked[0].answer()
    failure_of(DNSLookupError, one)
    failure_of(DNSLookupError, two)


@pytest.mark.parametrize("host", ["a" * 64, "a..b", "a\0b"])
def test_what_no_resolver_could_look_up_fails_at_once(rig: Rig, host: str) -> None:
    made = NamedEndpoint(rig.reactor, host, 80).connect(rig.factory)
    failure_of(DNSLookupError, made)
    assert rig.resolver.asked == []


def test_a_resolver_that_raises_fails_the_connect(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of threads")

    monkeypatch.setattr(rig.resolver, "resolveHostName", broken)
    error = failure_of(DNSLookupError, rig.connect())
    assert "RuntimeError: out of threads" in str(error)


def test_two_endpoints_know_nothing_of_each_other(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO]
    assert rig.begins_at() == ONE
    rig.endpoint = NamedEndpoint(rig.reactor, "a.test", 80)
    assert rig.begins_at() == ONE
    assert len(rig.resolver.asked) == 2


# Choosing


def test_each_connect_begins_at_another_address(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO, THREE]
    assert [rig.begins_at() for _ in range(6)] == [ONE, TWO, THREE] * 2


@pytest.mark.parametrize("second", [[ONE, TWO], [TWO, ONE]])
def test_connects_are_spread_whatever_the_order_of_the_answers(rig: Rig, second: list[str]) -> None:
    begun = []
    for answer in ([ONE, TWO], second) * 3:
        rig.resolver.answers = answer
        begun.append(rig.begins_at())
        rig.reactor.advance(15)
    assert begun == [ONE, TWO] * 3


def test_the_next_address_is_tried_as_soon_as_one_fails(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO, THREE]
    made = rig.connect()
    rig.refuse()
    rig.refuse(kind=NoRouteError)
    assert rig.tried == [ONE, TWO, THREE]
    rig.accept()
    result_of(made)


def test_the_next_address_is_tried_beside_one_that_does_not_answer(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO, THREE]
    made = rig.connect()
    rig.reactor.advance(LATE - 0.01)
    assert rig.tried == [ONE]
    rig.reactor.advance(0.01)
    assert rig.tried == [ONE, TWO]
    rig.refuse(1)
    assert rig.tried == [ONE, TWO, THREE]
    assert rig.stopped == []
    rig.accept(0)
    result_of(made)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_the_first_that_connects_wins_and_the_others_are_ended(rig: Rig, first: int) -> None:
    rig.resolver.answers = [ONE, TWO, THREE]
    made = rig.connect()
    rig.reactor.pump([LATE, LATE])
    assert rig.accept(first)
    assert result_of(made).transport is not None
    assert rig.stopped == [each for each in rig.tried if each != rig.tried[first]]


def test_the_protocol_is_built_for_the_winner_alone(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO]
    made = rig.connect()
    rig.reactor.advance(LATE)
    assert rig.accept(1)
    assert rig.factory.built_for == [IPv4Address("TCP", TWO, 80)]
    result_of(made)


def test_one_that_does_not_answer_is_waited_for_when_all_others_have_failed(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO]
    made = rig.connect()
    rig.reactor.advance(LATE)
    rig.refuse(1)
    rig.reactor.advance(20)
    assert rig.stopped == []
    rig.accept(0)
    result_of(made)


def test_an_address_that_failed_comes_last_until_the_name_is_resolved_anew(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO, THREE]
    made = rig.connect()
    rig.refuse()
    rig.accept()
    result_of(made)
    assert [rig.begins_at() for _ in range(4)] == [THREE, TWO, THREE, TWO]
    rig.reactor.advance(15)
    assert rig.begins_at() == ONE


def test_an_address_that_was_overtaken_comes_last_too(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO, THREE]
    made = rig.connect()
    rig.reactor.pump([LATE, LATE])
    rig.accept(1)
    result_of(made)
    assert [rig.begins_at() for _ in range(3)] == [TWO, THREE, TWO]


def test_an_address_that_failed_is_tried_when_the_others_fail(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO]
    made = rig.connect()
    rig.refuse()
    rig.refuse()
    failure_of(ConnectionRefusedError, made)
    assert rig.begins_at() == ONE
    assert rig.begins_at() == ONE


# Failing


def test_of_one_address_the_failure_is_its_own(rig: Rig) -> None:
    rig.resolver.answers = [ONE]
    made = rig.connect()
    rig.refuse()
    error = failure_of(ConnectionRefusedError, made)
    assert str(error) == "Connection was refused by other side."


def test_of_several_addresses_the_failure_names_each_and_why(rig: Rig) -> None:
    rig.resolver.answers = [ONE, "2001:db8::1"]
    made = rig.connect()
    rig.refuse()
    rig.refuse(kind=NoRouteError)
    error = failure_of(ConnectError, made)
    assert type(error) is ConnectError
    assert str(error) == (
        "An error occurred while connecting: a.test:80 (10.0.0.1: ConnectionRefusedError: "
        "Connection was refused by other side.; 2001:db8::1: NoRouteError: No route to host.)."
    )


def test_if_all_addresses_refuse_the_failure_is_a_refusal(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO]
    made = rig.connect()
    rig.refuse()
    rig.refuse()
    error = failure_of(ConnectionRefusedError, made)
    assert "(10.0.0.1: " in str(error)
    assert "; 10.0.0.2: " in str(error)


def test_the_time_limit_holds_for_all_addresses_together(rig: Rig) -> None:
    rig.endpoint = NamedEndpoint(rig.reactor, "a.test", 80, timeout=0.4)
    rig.resolver.answers = [ONE, TWO, THREE]
    made = rig.connect()
    rig.refuse()
    rig.reactor.advance(LATE)
    rig.reactor.advance(0.4 - LATE)
    assert rig.stopped == [TWO, THREE]
    error = failure_of(TimeoutError, made)
    assert "a.test:80 took longer than 0.4 s (10.0.0.1: ConnectionRefusedError" in str(error)
    assert "; 10.0.0.2: no answer; 10.0.0.3: no answer)" in str(error)


def test_the_time_limit_may_leave_an_address_untried(rig: Rig) -> None:
    rig.endpoint = NamedEndpoint(rig.reactor, "a.test", 80, timeout=0.2)
    rig.resolver.answers = [ONE, TWO]
    made = rig.connect()
    rig.reactor.advance(0.2)
    assert "(10.0.0.1: no answer; 10.0.0.2: not tried)" in str(failure_of(TimeoutError, made))
    assert [rig.begins_at() for _ in range(2)] == [TWO, TWO]


def test_the_time_limit_holds_for_the_resolution(rig: Rig) -> None:
    made = rig.connect()
    rig.reactor.advance(30)
    error = failure_of(TimeoutError, made)
    assert "a.test:80 took longer than 30 s (its name was not resolved)" in str(error)
    assert rig.resolver.asked[0].cancelled == 1


def test_what_the_factory_raises_is_the_failure_and_no_other_address_is_tried(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(addr: object) -> Protocol:
        raise RuntimeError("no protocol today")

    monkeypatch.setattr(rig.factory, "buildProtocol", broken)
    rig.resolver.answers = [ONE, TWO]
    made = rig.connect()
    assert not rig.accept()
    failure_of(RuntimeError, made)
    assert rig.tried == [ONE]


def test_a_factory_that_builds_nothing_is_the_failure(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.factory, "buildProtocol", lambda addr: None)
    rig.resolver.answers = [ONE, TWO]
    made = rig.connect()
    assert not rig.accept()
    failure_of(NoProtocol, made)
    assert rig.tried == [ONE]


# Cancelling


def test_cancelling_ends_the_resolution(rig: Rig) -> None:
    made = rig.connect()
    made.cancel()
    error = failure_of(ConnectingCancelledError, made)
    assert error.address == HostnameAddress(b"a.test", 80)
    assert rig.resolver.asked[0].cancelled == 1
    rig.resolver.asked[0].answer(ONE)
    assert rig.tried == []
    rig.resolver.answers = [TWO]
    assert rig.begins_at() == TWO


def test_cancelling_ends_all_attempts(rig: Rig) -> None:
    rig.resolver.answers = [ONE, TWO, THREE]
    made = rig.connect()
    rig.reactor.advance(LATE)
    made.cancel()
    failure_of(ConnectingCancelledError, made)
    assert rig.stopped == [ONE, TWO]
    assert rig.reactor.getDelayedCalls() == []
    rig.reactor.advance(60)
    assert rig.tried == [ONE, TWO]


def test_cancelling_one_of_two_leaves_the_other_its_question(rig: Rig) -> None:
    one, two = rig.connect(), rig.connect()
    one.cancel()
    failure_of(ConnectingCancelledError, one)
    assert rig.resolver.asked[0].cancelled == 0
    rig.resolver.asked[0].answer(ONE)
    rig.accept()
    result_of(two)


def test_cancelling_while_the_protocol_is_built_sends_the_connection_away(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.resolver.answers = [ONE, TWO]
    made = rig.connect()

    def build(addr: object) -> Protocol:
        made.cancel()
        return Protocol()

    monkeypatch.setattr(rig.factory, "buildProtocol", build)
    assert not rig.accept()
    failure_of(ConnectingCancelledError, made)
    assert rig.tried == [ONE]


def test_cancelling_while_the_protocol_is_connected_closes_the_connection(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.resolver.answers = [ONE]
    made = rig.connect()
    transports: list[Any] = []

    class Fickle(Protocol):
        def connectionMade(self) -> None:
            transports.append(self.transport)
            made.cancel()

    monkeypatch.setattr(rig.factory, "buildProtocol", lambda addr: Fickle())
    rig.accept()
    failure_of(ConnectingCancelledError, made)
    assert transports[0].disconnecting


def test_a_question_that_cannot_be_cancelled_is_shared_with_the_next_connect(rig: Rig) -> None:
    made = rig.connect()
    (question,) = rig.resolver.asked
    question.can_be_cancelled = False
    made.cancel()
    failure_of(ConnectingCancelledError, made)
    again = rig.connect()
    assert rig.resolver.asked == [question]
    question.answer(ONE)
    rig.accept()
    result_of(again)


def test_a_question_that_never_ends_is_not_shared_after_15_seconds(rig: Rig) -> None:
    made = rig.connect()
    rig.resolver.asked[0].can_be_cancelled = False
    made.cancel()
    failure_of(ConnectingCancelledError, made)
    rig.reactor.advance(15)
    rig.resolver.answers = [ONE]
    assert rig.begins_at() == ONE
    assert len(rig.resolver.asked) == 2


def test_a_late_answer_serves_those_who_still_wait_for_it_and_whoever_comes(rig: Rig) -> None:
    one = rig.connect()
    rig.reactor.advance(15)
    two = rig.connect()
    late, asked = rig.resolver.asked
    late.answer(ONE)
    rig.accept()
    result_of(one)
    assert rig.begins_at() == ONE
    asked.answer(TWO)
    rig.accept()
    result_of(two)
    assert rig.tried == [ONE, ONE, TWO]


def test_a_late_failure_takes_nothing_from_what_is_known(rig: Rig) -> None:
    one = rig.connect()
    rig.reactor.advance(15)
    rig.resolver.answers = [ONE]
    assert rig.begins_at() == ONE
    rig.resolver.asked[0].answer()
    failure_of(DNSLookupError, one)
    assert rig.begins_at() == ONE
    assert len(rig.resolver.asked) == 2


def test_the_callers_factory_hears_of_each_attempt_and_its_end(rig: Rig) -> None:
    rig.resolver.answers = [ONE]
    made = rig.connect()
    factory: Any = rig.reactor.tcpClients[0][2]
    factory.doStart()  # as a real connector would
    assert rig.factory.numPorts == 1
    factory.doStop()
    assert rig.factory.numPorts == 0
    rig.refuse()
    failure_of(ConnectionRefusedError, made)


# What backends make of it


@pytest.mark.parametrize("string", ["tcp:a.test:80", "TCP:host=a.test:port=80"])
def test_a_backend_with_a_name_connects_by_it(rig: Rig, string: str) -> None:
    made = Backend(string).connector(rig.reactor)
    assert repr(made) == "<NamedEndpoint a.test:80>"


def test_timeout_and_bind_address_of_the_string_are_honoured(rig: Rig) -> None:
    backend = Backend("tcp:a.test:80:timeout=7:bindAddress=10.1.1.1")
    rig.resolver.answers = [ONE]
    made = backend.connector(rig.reactor).connect(rig.factory)
    assert rig.reactor.tcpClients[0][4] == ("10.1.1.1", 0)
    rig.reactor.advance(6.9)
    assert rig.stopped == []
    rig.reactor.advance(0.1)
    failure_of(TimeoutError, made)


@pytest.mark.parametrize("host", ["10.0.0.1", "::1", "fe80::1%eth0"])
def test_a_literal_address_stays_with_twisteds_endpoint(rig: Rig, host: str) -> None:
    made = Backend((host, 80)).connector(rig.reactor)  # type: ignore[arg-type]
    assert isinstance(made, TCP4ClientEndpoint)
    made.connect(rig.factory).addErrback(lambda _: None)
    assert rig.tried == [host]
    assert rig.resolver.asked == []


def test_a_name_stays_with_twisteds_endpoint_where_the_reactor_resolves_none() -> None:
    assert isinstance(Backend("tcp:a.test:80").connector(Clock()), TCP4ClientEndpoint)


def test_a_unix_socket_stays_with_twisteds_endpoint(rig: Rig) -> None:
    assert isinstance(Backend("unix:/run/x.sock").connector(rig.reactor), UNIXClientEndpoint)

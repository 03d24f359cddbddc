"""Rule 38, on a clock: all managers of a backend connect through one endpoint, which knows the
addresses of its host."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from kolus import Backend, ConnectionManager, Lease, Policy, Pool, SharedManager
from kolus.balance import fill_first
from kolus.manager.backend.record import BackendRecord
from kolus.testing import result_of
from tests.rigs.named_rig import ONE, THREE, TWO, Reactor, Resolver
from tests.rigs.pools import Half

NAMED = "tcp:a.test:80"


class Transport(StringTransport):
    """One that tells its protocol when it is closed."""

    protocol: Any = None

    def loseConnection(self) -> None:
        super().loseConnection()
        self.protocol.connectionLost(Failure(ConnectionDone()))


class Net:
    """A pool, a resolver that knows three addresses, and a network where all of them answer.

    @ivar answered: how many attempts to connect were answered.
    @ivar leases: all of them, or those that nobody has would be taken back.
    """

    def __init__(self, **policy: Any) -> None:
        self.resolver = Resolver()
        self.resolver.answers = [ONE, TWO, THREE]
        self.reactor = Reactor(self.resolver)
        self.answered = 0
        self.leases: list[Lease[Any]] = []
        policy = {"limit": 100, "idents": "separate"} | policy
        self.pool: Pool[Any] = Pool(self.reactor, Protocol, policy=Policy(**policy), rng=Half())

    @property
    def tried(self) -> list[str]:
        return [each[0] for each in self.reactor.tcpClients]

    def answer(self) -> None:
        """Answer all attempts."""
        clients = self.reactor.tcpClients
        while self.answered < len(clients):
            host, port, factory = clients[self.answered][:3]
            self.answered += 1
            protocol: Any = factory.buildProtocol(IPv4Address("TCP", host, port))
            transport = Transport()
            transport.protocol = protocol
            protocol.makeConnection(transport)

    def lease(self, ident: str, backend: Any = NAMED) -> Lease[Any]:
        return self.served(self.pool.connect(ident, backend))

    def served(self, asked: Deferred[Any]) -> Lease[Any]:
        self.answer()
        self.reactor.advance(0)
        self.leases.append(result_of(asked))
        return self.leases[-1]


@pytest.mark.parametrize("slots", [None, 1])
def test_a_name_is_resolved_once_for_all_idents_and_they_spread_over_its_addresses(
    slots: int | None,
) -> None:
    net = Net(slots=slots)
    for number in range(30):
        net.lease(f"user {number}")
    assert len(net.resolver.asked) == 1
    assert Counter(net.tried) == {ONE: 10, TWO: 10, THREE: 10}


def test_idents_that_ask_at_once_wait_for_one_answer() -> None:
    net = Net()
    net.resolver.answers = None
    asked = [net.pool.connect(f"user {number}", NAMED) for number in range(30)]
    (question,) = net.resolver.asked
    question.answer(ONE, TWO, THREE)
    net.answer()
    for each in asked:
        result_of(each)
    assert Counter(net.tried) == {ONE: 10, TWO: 10, THREE: 10}


def test_one_ident_that_cancels_leaves_the_others_the_answer() -> None:
    net = Net()
    net.resolver.answers = None
    given_up, asked = net.pool.connect("a", NAMED), net.pool.connect("b", NAMED)
    given_up.addErrback(lambda _: None)
    given_up.cancel()
    net.resolver.asked[0].answer(ONE)
    net.answer()
    result_of(asked)
    assert net.resolver.asked[0].cancelled == 0


def test_the_same_backend_in_any_form_has_one_endpoint() -> None:
    net = Net()
    forms = [NAMED, ("a.test", 80), Backend(NAMED, name="other", weight=2.0)]
    for number, form in enumerate(forms):
        net.lease(f"user {number}", form)
    net.served(net.pool.group(forms[2:], fill_first).connect("user 3"))
    net.served(net.pool.select("user 4", forms[:1], fill_first))
    assert len(net.resolver.asked) == 1
    assert net.tried == [ONE, TWO, THREE, ONE, TWO]


def test_two_backends_with_one_host_have_an_endpoint_each() -> None:
    net = Net()
    net.lease("a", "tcp:a.test:80")
    net.lease("a", "tcp:a.test:81")
    assert [each.port for each in net.resolver.asked] == [80, 81]
    assert net.tried == [ONE, ONE]


def test_what_idents_share_is_asked_for_again_after_15_seconds() -> None:
    net = Net()
    for number in range(4):
        net.lease(f"user {number}")
        net.reactor.advance(7.5)
    assert len(net.resolver.asked) == 2
    net.resolver.answers = ["10.0.0.4"]
    net.lease("another")
    assert net.tried == [ONE, TWO, THREE, ONE, "10.0.0.4"]


def test_an_endpoint_outlives_the_managers() -> None:
    net = Net(idle_timeout=1.0, manager_idle_timeout=1.0)
    for ident in "ab":
        net.lease(ident).release()
        net.reactor.pump([1, 1])
        assert net.pool.manager(NAMED, ident) is None
    assert len(net.resolver.asked) == 1
    assert net.tried == [ONE, TWO]


def test_an_endpoint_outlives_a_drained_backend_and_one_that_leaves_its_group() -> None:
    net = Net()
    backends = [Backend(NAMED)]
    for ident in "abc":
        group = net.pool.group(backends, fill_first)
        net.served(group.connect(ident)).release()
        group.close()
        result_of(net.pool.drain(NAMED))
    assert len(net.resolver.asked) == 1
    assert net.tried == [ONE, TWO, THREE]


def test_a_string_is_made_an_endpoint_once_for_all_idents(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Backend] = []
    make = Backend.connector

    def counted(backend: Backend, reactor: Any) -> Any:
        made.append(backend)
        return make(backend, reactor)

    monkeypatch.setattr(Backend, "connector", counted)
    net = Net()
    for ident in "abc":
        net.lease(ident)
    assert made == [Backend(NAMED)]


def test_two_pools_know_nothing_of_each_others_endpoints() -> None:
    net = Net()
    net.lease("a")
    net.pool = Pool(net.reactor, Protocol)
    net.lease("a")
    assert net.tried == [ONE, ONE]
    assert len(net.resolver.asked) == 2


@pytest.mark.parametrize(
    ("kind", "policy"), [(ConnectionManager, Policy()), (SharedManager, Policy(slots=1))]
)
def test_a_string_that_a_plugin_refuses_raises_for_every_manager(
    kind: type[Any], policy: Policy
) -> None:
    clock = Clock()
    backend = Backend("tls:nowhere")
    record = BackendRecord(1, 1, backend, clock)
    for ident in "ab":
        with pytest.raises(ValueError, match="not a client endpoint string: 'tls:nowhere'"):
            kind(clock, Protocol, backend, ident, policy, record=record)
    assert record.members == []

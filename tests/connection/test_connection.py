"""Rules 14 to 16 and 20, on a clock: idle and leased connections, and their end."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.events import Lost
from tests.rigs.pools import Managed


class Recorder(Protocol):
    """Writes down what its connection tells it."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def connectionMade(self) -> None:
        self.heard.append("made")

    def dataReceived(self, data: bytes) -> None:
        self.heard.append(data)

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.heard.append(type(reason.value))


# 14: an idle connection is watched


@pytest.mark.parametrize("act", ["close", "reset", "half_close"])
def test_an_idle_connection_that_its_peer_ends_is_removed_at_once(act: str) -> None:
    rig = Managed()
    rig.lease().release()
    rig.clock.advance(2)
    getattr(rig.fake.connections[0], act)()
    assert rig.numbers() == (0, 0, 0, 2, 0)


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Recorder):
    def readConnectionLost(self) -> None:
        self.heard.append("read lost")

    def writeConnectionLost(self) -> None:
        self.heard.append("write lost")


def test_an_idle_connection_whose_peer_half_closes_is_removed_at_once() -> None:
    rig = Managed(HalfCloseable)
    lease = rig.lease()
    protocol = lease.protocol
    lease.release()
    rig.clock.advance(2)
    rig.fake.connections[0].half_close()
    assert rig.numbers()[0] == 0
    rig.turn()
    assert protocol.heard == ["made", ConnectionDone]


def test_bytes_on_an_idle_connection_close_it_and_reach_nobody() -> None:
    rig = Managed(Recorder)
    lease = rig.lease()
    protocol = lease.protocol
    lease.release()
    rig.clock.advance(2)
    rig.fake.connections[0].speak(b"late answer")
    assert rig.numbers()[0] == 0
    assert not rig.lease().reused
    rig.turn()
    assert protocol.heard == ["made", ConnectionDone]


def test_while_it_is_leased_the_transport_calls_the_protocol_itself() -> None:
    rig = Managed(Recorder)
    lease = rig.lease()
    (connection,) = rig.manager.connections.all
    rig.fake.connections[0].speak(b"the first answer")  # proves that the backend serves
    assert connection.dataReceived == lease.protocol.dataReceived
    lease.release()
    assert connection.dataReceived != connection.protocol.dataReceived


def test_while_it_is_leased_bytes_reach_the_protocol() -> None:
    rig = Managed(Recorder)
    lease = rig.lease()
    rig.fake.connections[0].speak(b"answer")
    assert lease.protocol.heard == ["made", b"answer"]


def test_bytes_reach_the_protocol_while_a_hook_runs() -> None:
    protocols: list[Recorder] = []
    rig = Managed(Recorder, prepare=lambda protocol: (protocols.append(protocol), Deferred())[1])
    rig.ask().addErrback(lambda failure: None)
    rig.fake.connections[0].speak(b"banner")
    assert protocols[0].heard == ["made", b"banner"]
    rig.clock.advance(5)


# 15: a loss during a lease


def test_a_loss_during_a_lease_reaches_the_protocol_first_then_the_pool() -> None:
    order: list[str] = []

    class Ordered(Protocol):
        def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
            order.append("protocol")

    rig = Managed(Ordered, observed=True, limit=1)
    lease = rig.lease()
    rig.manager.observers.append(
        lambda event: order.append("pool") if isinstance(event, Lost) else None
    )
    rig.fake.connections[0].reset()
    assert order == ["protocol", "pool"]
    assert rig.numbers() == (0, 0, 0, 1, 0)
    lease.release()


# 16: idle timeout, lifetime


def test_an_idle_connection_is_closed_after_the_idle_timeout() -> None:
    rig = Managed(idle_timeout=60, idle_jitter=0)
    rig.lease().release()
    rig.clock.advance(59.9)
    assert rig.numbers()[0] == 1
    rig.clock.advance(0.1)
    assert rig.numbers()[0] == 0


def test_the_idle_timeout_is_shortened_by_chance() -> None:
    rig = Managed(idle_timeout=60, idle_jitter=0.1)
    rig.lease().release()
    rig.clock.pump([54, 2.9])
    assert rig.numbers()[0] == 1
    rig.clock.advance(0.1)  # half of the jitter: 57 s
    assert rig.numbers()[0] == 0


def test_surplus_ages_out_while_the_hot_connection_stays() -> None:
    rig = Managed(limit=3, idle_timeout=60)
    leases = [rig.lease() for _ in range(3)]
    for lease in leases:
        lease.release()
    for _ in range(100):
        rig.clock.advance(1)
        rig.lease().release()
    assert rig.numbers()[0] == 1
    assert rig.fake.attempts == 3


def test_min_idle_connections_are_spared_by_the_idle_timeout() -> None:
    rig = Managed(limit=3, idle_timeout=60, min_idle=1)
    leases = [rig.lease() for _ in range(3)]
    for lease in leases:
        lease.release()
    rig.clock.pump([30] * 10)
    assert rig.numbers()[0] == 1
    assert rig.fake.attempts == 3


def test_min_idle_is_refilled_on_the_event() -> None:
    rig = Managed(limit=4, min_idle=2)
    lease = rig.lease()
    assert rig.numbers() == (2, 1, 0, 1, 0)
    rig.clock.advance(2)
    idle = [each for each in rig.fake.connections if each.transport is not lease.protocol.transport]
    idle[0].close()
    assert rig.numbers() == (2, 1, 0, 1, 0)
    lease.release()


@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_an_idle_connection_past_its_lifetime_is_closed(jitter: float) -> None:
    rig = Managed(lifetime=100, lifetime_jitter=jitter, idle_timeout=None)
    rig.lease().release()
    rig.fake.refuse(always=True)
    lifetime = 100 * (1 - jitter / 2)
    rig.clock.advance(lifetime - 0.1)
    assert rig.numbers()[0] == 1
    rig.clock.advance(0.1)
    assert rig.numbers()[0] == 0


def test_a_leased_connection_past_its_lifetime_is_closed_when_it_comes_home() -> None:
    rig = Managed(lifetime=100, lifetime_jitter=0, idle_timeout=None)
    lease = rig.lease()
    rig.clock.advance(200)
    assert rig.fake.accepted[0].open
    lease.release()
    rig.turn()
    assert not rig.fake.accepted[0].open


# 20: optional interfaces


def test_half_close_reaches_a_protocol_that_can_hear_it() -> None:
    rig = Managed(HalfCloseable)
    lease = rig.lease()
    rig.fake.connections[0].half_close()
    lease.protocol.transport.loseWriteConnection()
    rig.turn()
    assert lease.protocol.heard == ["made", "read lost", "write lost"]
    lease.release()
    rig.turn()
    assert not rig.fake.connections

"""The front: its queue, leases, draining, and log lines about refused clients."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.logger import LogLevel, capturedLogs

from kolus.errors import KolusError, PoolFull
from kolus.lease import FINISHED, RELEASED, Lease, Outcome
from kolus.testing import NotFired, result_of
from kolus.tunnel import End, Framing, Front
from kolus.tunnel.end import EARLY_LIMIT
from kolus.tunnel.session import Session, Tell
from kolus.tunnel.throttle import Throttle
from tests.conftest import LoggedFailures
from tests.rigs.wire import WireReactor, WireSocket, WireTransport, connect

MIB = 1024 * 1024


class Slot:
    """A connection as a lease sees it."""

    manager: Any = None
    reused = False
    age = 0.0

    def __init__(self, protocol: End) -> None:
        self.protocol = protocol


class Stage:
    """A front, whose leases the test grants."""

    def __init__(self, **settings: Any) -> None:
        self.reactor = WireReactor()
        self.asked: list[Deferred[Lease[End]]] = []
        self.cancelled: list[Deferred[Lease[End]]] = []
        self.idents: list[Hashable] = []
        self.outcomes: list[Outcome] = []
        self.front = Front(self.reactor, self._ask, **settings)

    def _ask(self, ident: Hashable) -> Deferred[Lease[End]]:
        self.idents.append(ident)
        self.asked.append(Deferred(self.cancelled.append))
        return self.asked[-1]

    def client(self) -> WireSocket:
        end = self.front.buildProtocol(None)
        assert end is not None
        return connect(self.reactor, end)

    def grant(self, place: int = 0, room: int = 1 << 40) -> WireSocket:
        """Give the client that asked at that place a lease.

        @return: the backend's socket, which takes C{room} bytes.
        """
        end = End()
        backend = WireTransport(self.reactor, end)
        backend.wire.room = room

        def settle(slot: object, outcome: Outcome) -> None:
            self.outcomes.append(outcome)
            if outcome is FINISHED:
                backend.loseConnection()

        self.asked[place].callback(Lease(Slot(end), settle))
        return backend.wire

    def settle(self) -> None:
        self.reactor.settle()

    def pass_time(self, seconds: float) -> None:
        self.reactor.advance(seconds)
        self.settle()


def test_a_client_has_a_lease_to_itself_and_it_is_finished_at_the_end() -> None:
    stage = Stage()
    client = stage.client()
    backend = stage.grant()
    client.arrive(b"question")
    client.finish()
    stage.settle()
    backend.arrive(b"answer")
    stage.settle()
    assert stage.outcomes == []
    backend.finish()
    stage.settle()
    assert stage.outcomes == [FINISHED]
    assert (client.sent, backend.sent) == (b"answer", b"question")
    assert (client.closed, backend.closed) == ("closed", "closed")
    assert (len(stage.front.clients), stage.front.served) == (0, 1)
    assert (stage.front.sent, stage.front.received) == (8, 6)


class OneAnswer:
    """A session that ends as it begins."""

    sent = received = 0
    is_backends_turn = False

    def __init__(self, client: End, backend: End, ended: Tell, half_closed: Tell) -> None:
        self._ended = ended

    def begin(self) -> None:
        self._ended(self)

    def stop(self) -> None: ...

    def abort(self) -> None: ...


def test_a_front_that_knows_the_state_may_release_the_lease_instead() -> None:
    stage = Stage(pump=OneAnswer, framing=Lease.release)
    client = stage.client()
    backend = stage.grant()
    stage.settle()
    assert stage.outcomes == [RELEASED]
    assert (client.closed, backend.closed) == (None, None)


def _leave(lease: object) -> None:
    """Do not settle it."""


def _fail(lease: object) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(("framing", "errors"), [(_leave, 0), (_fail, 1)])
def test_a_lease_that_no_framing_settles_is_finished(
    framing: Framing, errors: int, logged_failures: LoggedFailures
) -> None:
    stage = Stage(pump=OneAnswer, framing=framing)
    stage.client()
    stage.grant()
    stage.settle()
    assert stage.outcomes == [FINISHED]
    assert len(logged_failures.flush(ZeroDivisionError)) == errors


def test_a_client_in_the_queue_is_read_up_to_a_bound_and_loses_nothing() -> None:
    stage = Stage()
    client = stage.client()
    client.arrive(b"x" * MIB)
    stage.settle()
    assert MIB - 2 * EARLY_LIMIT <= client.unread <= MIB - EARLY_LIMIT
    backend = stage.grant()
    client.finish()
    stage.settle()
    assert len(backend.sent) == MIB
    assert backend.ended


def test_a_slow_backend_holds_back_a_client_that_had_to_be_paused_in_the_queue() -> None:
    stage = Stage()
    client = stage.client()
    client.arrive(b"x" * MIB)
    stage.settle()
    early = client.unread
    stage.grant(room=0)
    stage.settle()
    assert early - client.unread <= 65536


def test_a_client_that_is_gone_gives_up_its_place_in_the_queue() -> None:
    stage = Stage()
    client = stage.client()
    stage.settle()
    client.reset()
    stage.settle()
    assert stage.cancelled == stage.asked
    assert len(stage.front.clients) == 0
    assert stage.front.refused == 0


def test_a_half_closed_client_in_the_queue_is_served() -> None:
    stage = Stage()
    client = stage.client()
    client.arrive(b"request")
    client.finish()
    stage.settle()
    assert stage.cancelled == []
    backend = stage.grant()
    stage.settle()
    assert (backend.sent, backend.ended) == (b"request", True)
    backend.arrive(b"reply")
    backend.finish()
    stage.settle()
    assert (client.sent, client.closed) == (b"reply", "closed")


def test_a_client_that_cannot_have_a_lease_is_closed() -> None:
    stage = Stage()
    client = stage.client()
    with capturedLogs() as logs:
        stage.asked[0].errback(PoolFull("all 5 are leased"))
    stage.settle()
    assert client.closed == "closed"
    assert (len(stage.front.clients), stage.front.refused) == (0, 1)
    (event,) = (each for each in logs if each["log_level"] is LogLevel.warn)
    assert "all 5 are leased" in event["error"]
    stage.pass_time(1.0)
    assert not stage.reactor.calls


def test_complaints_are_said_once_a_second_with_the_number_held_back() -> None:
    reactor = WireReactor()
    said: list[tuple[str, int]] = []
    throttle = Throttle(reactor, lambda error, others: said.append((str(error), others)))
    throttle.add(KolusError("a"))
    assert said == [("a", 0)]
    for name in "bcd":
        throttle.add(KolusError(name))
        reactor.advance(0.1)
    assert len(said) == 1
    reactor.advance(0.7)
    assert said[1:] == [("d", 2)]
    throttle.add(KolusError("e"))
    reactor.advance(0.9)
    assert len(said) == 2
    reactor.advance(0.1)
    assert said[2:] == [("e", 0)]
    reactor.advance(1.0)
    assert not reactor.calls
    throttle.add(KolusError("f"))
    assert said[3:] == [("f", 0)]
    throttle.add(KolusError("g"))
    throttle.flush()
    assert said[4:] == [("g", 0)]
    assert not reactor.calls


def test_a_pump_that_raises_costs_that_client_and_its_lease_only(
    logged_failures: LoggedFailures,
) -> None:
    def broken(*arguments: object) -> Session:
        raise ZeroDivisionError

    stage = Stage(pump=broken)
    client, other = stage.client(), stage.client()
    stage.grant()
    stage.settle()
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    assert stage.outcomes == [FINISHED]
    assert client.closed == "reset"
    assert other.closed is None


# Draining


def test_draining_with_no_client_ends_at_once() -> None:
    stage = Stage()
    assert result_of(stage.front.drain(30.0)) == 0
    assert not stage.reactor.calls


def test_a_draining_front_takes_no_new_clients() -> None:
    stage = Stage()
    stage.front.drain(30.0)
    assert stage.front.buildProtocol(None) is None
    assert isinstance(stage.front, Factory)


def test_draining_waits_for_clients_also_for_those_in_the_queue() -> None:
    stage = Stage()
    served, queued = stage.client(), stage.client()
    first = stage.grant(0)
    drained = stage.front.drain(30.0)
    for socket in (served, first):
        socket.finish()
    stage.pass_time(29.0)
    assert served.closed == "closed"
    with pytest.raises(NotFired):
        result_of(drained)
    second = stage.grant(1)
    for socket in (queued, second):
        socket.finish()
    stage.settle()
    assert result_of(drained) == 0
    assert queued.closed == "closed"
    assert not stage.reactor.calls


def test_when_the_grace_is_over_the_rest_is_aborted_counted_and_logged() -> None:
    stage = Stage()
    served, queued = stage.client(), stage.client()
    backend = stage.grant()
    drained = stage.front.drain(30.0)
    with capturedLogs() as logs:
        stage.pass_time(30.0)
    assert result_of(drained) == 2
    assert (served.closed, queued.closed, backend.closed) == ("reset", "reset", "reset")
    assert stage.cancelled == [stage.asked[1]]
    assert [each["aborted"] for each in logs if "aborted" in each] == [2]
    assert stage.outcomes == [FINISHED]


def test_draining_waits_until_the_backend_has_what_a_gone_client_sent() -> None:
    stage = Stage()
    client = stage.client()
    backend = stage.grant()
    backend.room = 0
    client.arrive(b"an upload")
    client.finish()
    stage.settle()
    client.reset()
    backend.arrive(b"an answer that nobody wants")
    stage.settle()
    assert client.closed is not None
    drained = stage.front.drain(30.0)
    with pytest.raises(NotFired):
        result_of(drained)
    backend.room = 100
    stage.settle()
    assert backend.sent == b"an upload"
    assert result_of(drained) == 0


def test_many_clients_one_after_the_other_leave_nothing_behind() -> None:
    stage = Stage()
    for place in range(50):
        client = stage.client()
        backend = stage.grant(place)
        for socket in (client, backend):
            socket.arrive(b"x" * 1000)
            socket.finish()
        stage.settle()
        assert (client.closed, backend.closed) == ("closed", "closed")
    assert len(stage.front.clients) == 0
    stage.pass_time(100.0)  # the last look at the times of sessions
    stage.pass_time(100.0)
    reactor = stage.reactor
    assert [*reactor.readers, *reactor.writers, *reactor.calls] == []
    assert stage.outcomes == [FINISHED] * 50

"""User code that calls back into the pool, or raises in the middle: nothing is lost or stuck."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus import Backend, Closed, ConnectFailed, LeaseError, LeaseTimeout
from kolus.events import (
    Connected,
    ConnectFailure,
    Event,
    Finished,
    Lost,
    Recovered,
    Released,
    Resized,
    TimedOut,
)
from kolus.testing import result_of
from tests.conftest import LoggedFailures
from tests.rigs.pools import Managed, Pooled


class Hooked(Protocol):
    """Does what the test says when its connection is made or lost."""

    def __init__(self, made: Any = None, lost: Any = None) -> None:
        self._made, self._lost = made, lost

    def connectionMade(self) -> None:
        if self._made is not None:
            self._made(self)

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        if self._lost is not None:
            self._lost(self)


@pytest.mark.parametrize("max_waiters", [0, 100])
def test_attempts_that_fail_at_once_without_a_back_off_come_to_an_end(max_waiters: int) -> None:
    rig = Managed(backoff=None, max_waiters=max_waiters)
    rig.fake.refuse(always=True)
    with pytest.raises(ConnectFailed):
        rig.lease()
    assert rig.fake.attempts == 1


def test_a_connection_lost_within_connect_is_a_failed_attempt() -> None:
    rig = Managed(lambda: Hooked(made=lambda protocol: rig.fake.accepted[-1].reset()))
    with pytest.raises(ConnectFailed):
        rig.lease()
    assert rig.fake.attempts == 1
    assert rig.manager.counters.connect_failures == 1


@pytest.mark.parametrize("hook", ["check", "reset"])
def test_closing_in_connection_lost_while_a_hook_runs_answers_everybody(hook: str) -> None:
    rig = Managed(
        lambda: Hooked(lost=lambda protocol: rig.manager.close(1)),
        limit=1,
        check_after=1,
        **{hook: lambda protocol: Deferred()},
    )
    rig.lease().release()
    rig.clock.advance(1)
    waiting = [rig.ask() for _ in range(3)]
    rig.fake.connections[0].reset()
    for each in waiting:
        with pytest.raises(Closed):
            result_of(each)
    rig.clock.pump([1, 0, 5])
    assert result_of(rig.manager.when_closed()) is None


def test_an_observer_that_cancels_the_request_that_timed_out_stops_no_other() -> None:
    rig = Managed(limit=1, observed=True)
    held = rig.lease()
    asked = [rig.ask(), rig.ask()]

    def cancel_first(event: Event) -> None:
        if isinstance(event, TimedOut):
            asked[0].cancel()

    rig.manager.observers.append(cancel_first)
    rig.clock.advance(5)
    with pytest.raises(CancelledError):
        result_of(asked[0])
    with pytest.raises(LeaseTimeout):
        result_of(asked[1])
    held.release()


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("hook", ["prepare", "check", "reset"])
def test_an_exception_that_cannot_be_printed_costs_its_connection(hook: str) -> None:
    def broken(protocol: Protocol) -> None:
        raise Unspeakable

    rig = Managed(limit=1, check_after=0, **{hook: broken})
    asked = rig.ask()
    asked.addCallback(lambda lease: lease.release()).addErrback(lambda failure: None)
    rig.clock.advance(2)
    rig.ask().addErrback(lambda failure: None)
    rig.clock.pump([5, 5])
    assert rig.numbers()[1:3] == (0, 0)


def test_what_has_no_data_received_is_a_failed_connect() -> None:
    rig = Managed(object)
    with pytest.raises(ConnectFailed, match="it has no dataReceived"):
        rig.lease()
    assert rig.numbers() == (0, 0, 0, 2, 0)


def test_who_asks_in_connection_lost_of_an_idle_connection_does_not_get_it() -> None:
    got: list[Any] = []
    rig = Managed(lambda: Hooked(lost=lambda protocol: got.append(rig.manager.try_connect("us"))))
    rig.lease().release()
    rig.fake.connections[0].reset()
    assert got == [None]


@implementer(IPushProducer)
class Producer:
    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass


def close_on_a_timer(rig: Managed, lease: Any) -> None:
    transport = lease.protocol.transport
    lease.release()
    transport.loseConnection()


def close(rig: Managed, lease: Any) -> None:
    lease.protocol.transport.loseConnection()
    lease.release()


def abort(rig: Managed, lease: Any) -> None:
    lease.protocol.transport.abortConnection()
    lease.release()


def invalidate(rig: Managed, lease: Any) -> None:
    rig.manager.invalidate()
    lease.release()


def half_close(rig: Managed, lease: Any) -> None:
    lease.protocol.transport.loseWriteConnection()
    lease.release()


def leave_a_producer(rig: Managed, lease: Any) -> None:
    lease.protocol.transport.registerProducer(Producer(), True)
    lease.release()


@pytest.mark.parametrize("spoil", [close_on_a_timer, half_close, leave_a_producer])
def test_a_connection_that_was_told_to_close_is_never_handed_out(spoil: Any) -> None:
    rig = Managed()
    lease = rig.lease()
    spoil(rig, lease)
    assert not rig.lease().reused
    rig.turn()


@pytest.mark.parametrize("spoil", [close, abort, invalidate, half_close, leave_a_producer])
def test_a_connection_that_its_lessee_spoiled_is_never_passed_on(spoil: Any) -> None:
    rig = Managed(limit=1)
    lease = rig.lease()
    asked = rig.ask()
    spoil(rig, lease)
    rig.turn()
    assert not result_of(asked).reused


def test_a_connection_that_is_passed_on_is_read_though_its_lessee_paused_it() -> None:
    heard: list[bytes] = []

    class Hears(Protocol):
        def dataReceived(self, data: bytes) -> None:
            heard.append(data)

    rig = Managed(Hears, limit=1)
    lease = rig.lease()
    asked = rig.ask()
    lease.protocol.transport.pauseProducing()
    lease.release()
    assert result_of(asked).reused
    assert rig.numbers() == (0, 1, 0, 0, 0)
    rig.fake.connections[0].speak(b"answer")
    assert heard == [b"answer"]


@pytest.mark.parametrize("hook", ["prepare", "reset"])
def test_a_connection_that_its_hook_closes_is_never_handed_out(hook: str) -> None:
    rig = Managed(limit=1, **{hook: lambda protocol: protocol.transport.abortConnection()})
    asked = rig.ask()
    if hook == "prepare":
        with pytest.raises(ConnectFailed, match="closed while it was made ready"):
            result_of(asked)
    else:
        result_of(asked).release()
        assert rig.manager.try_connect("us") is None


def test_observers_are_told_after_the_state_has_changed() -> None:
    rig = Managed(observed=True)
    seen: list[Any] = []
    rig.manager.observers.append(
        lambda event: (
            seen.append((type(event), rig.numbers()[:2]))
            if isinstance(event, Connected | Released | Finished | ConnectFailure)
            else None
        )
    )
    rig.lease().release()
    rig.lease().finished()
    rig.turn()
    assert seen == [(Connected, (1, 0)), (Released, (1, 0)), (Finished, (0, 0))]


@implementer(IHalfCloseableProtocol)
class Patient(Protocol):
    """Does not mind the end of what its peer sends."""

    def readConnectionLost(self) -> None:
        pass

    def writeConnectionLost(self) -> None:
        pass


@pytest.mark.parametrize("told", [Recovered, Connected])
def test_a_connection_that_ends_as_it_is_told_that_it_is_made_keeps_no_slot(
    told: type[Event],
) -> None:
    rig = Managed(Patient, limit=1, fail_fast=False)
    rig.fake.refuse()

    def end(event: Event) -> None:
        if isinstance(event, told):
            rig.manager.observers.remove(end)
            rig.fake.connections[-1].half_close()

    rig.manager.observers.append(end)
    asked = rig.ask()
    rig.clock.pump([0.25, 0.25, 0])  # an end so soon is a failed attempt
    assert result_of(asked).held
    assert rig.numbers() == (0, 1, 0, 0, 0)


def test_a_connection_made_after_the_attempt_was_given_up_is_closed() -> None:
    rig = Managed()
    built: list[Any] = []

    class Stubborn:
        def connect(self, factory: Any) -> Deferred[Any]:
            built.append(factory.buildProtocol(None))
            return Deferred(lambda _: None)

    rig.manager.record._endpoint = Stubborn()  # type: ignore[assignment]
    rig.ask().addErrback(lambda failure: failure.trap(Closed))
    rig.manager.close(0)
    rig.fake.accepted.clear()
    other = Managed()
    other.lease()
    transport = other.fake.connections[0].transport
    built[0].makeConnection(transport)
    other.turn()
    assert not transport.connected


def test_lost_is_told_when_the_lessee_releases_in_connection_lost() -> None:
    leases: list[Any] = []
    rig = Managed(lambda: Hooked(lost=lambda protocol: leases[0].release()), observed=True)
    leases.append(rig.lease())
    rig.fake.connections[0].reset()
    assert Lost in {type(event) for event in rig.events}


def test_a_new_attempt_begins_after_the_one_that_took_too_long_is_cancelled() -> None:
    rig = Managed(limit=1, backoff=None, connect_timeout=1)
    order: list[str] = []

    class Slow:
        def connect(self, factory: Any) -> Deferred[Any]:
            order.append("begun")
            return Deferred(lambda _: order.append("cancelled"))

    rig.manager.record._endpoint = Slow()  # type: ignore[assignment]
    for _ in range(2):
        rig.ask().addErrback(lambda failure: None)
    rig.clock.pump([1, 1])
    assert order == ["begun", "cancelled", "begun", "cancelled"]


def test_a_check_that_always_fails_backs_off() -> None:
    rig = Managed(limit=1, min_idle=1, check=lambda protocol: False, check_after=0)
    rig.ask(3).addErrback(lambda failure: None)
    for _ in range(300):
        rig.clock.advance(0.01)
    assert rig.fake.attempts < 20


def test_a_lease_that_may_come_home_spares_the_waiter_without_a_back_off_too() -> None:
    rig = Managed(backoff=None)
    held = rig.lease()
    rig.fake.refuse(always=True)
    waiting = rig.ask()
    assert rig.fake.attempts == 2
    held.release()
    assert result_of(waiting).held
    rig.turn()


def test_a_fresh_connection_is_not_kept_from_a_waiter_by_a_stale_one() -> None:
    rig = Managed(reuse="fifo", check=lambda protocol: Deferred(), check_after=10)
    stale, held = rig.lease(), rig.lease()
    stale.release()
    rig.clock.advance(11)
    first = rig.ask()
    held.release()
    assert result_of(first).held
    rig.clock.pump([1, 0])


def test_in_debug_mode_a_queued_request_is_remembered_where_it_was_made(
    logged_failures: LoggedFailures, log_events: list[Any]
) -> None:
    rig = Managed(limit=1, debug=True)
    held = rig.lease()

    def the_asker() -> Deferred[Any]:
        return rig.ask()

    asked = the_asker()
    held.release()
    result_of(asked)
    rig.turn()
    (event,) = [each for each in log_events if "forgotten" in str(each["log_format"])]
    assert "the_asker" in event["origin"]


def test_a_manager_paused_before_its_first_connection_goes_away() -> None:
    rig = Managed(manager_idle_timeout=300)
    rig.manager.pause()
    rig.ask(1).addErrback(lambda failure: None)
    rig.clock.pump([1] * 310)
    assert result_of(rig.manager.when_closed()) is None


def test_a_manager_is_not_closed_under_those_who_wait() -> None:
    rig = Managed(manager_idle_timeout=0, fail_fast=False)
    rig.fake.refuse(always=True)
    asked = rig.ask(4)
    for _ in range(40):
        rig.clock.advance(0.1)
    with pytest.raises(LeaseTimeout):
        result_of(asked)


def test_a_manager_that_never_has_a_connection_goes_away() -> None:
    rig = Managed(manager_idle_timeout=300)
    ended: Deferred[None] = Deferred()
    ended.callback(None)
    with pytest.raises(LeaseError):
        result_of(rig.manager.connect("us", None, ended))
    rig.clock.advance(300)
    assert result_of(rig.manager.when_closed()) is None


def test_an_observer_may_ask_another_backend_while_all_are_resized() -> None:
    rig = Pooled()
    rig.pool.connect("us", rig.backends[0]).addCallback(lambda lease: lease.release())

    def ask(event: Event) -> None:
        if isinstance(event, Resized) and event.backend is rig.backends[0]:
            rig.pool.connect("us", rig.backends[1]).addCallback(lambda lease: lease.release())

    rig.pool._observers.append(ask)
    rig.pool.resize(1)
    assert [each.limit for each in rig.pool.status()] == [1, 1]


@pytest.mark.parametrize("how", ["close", "drain"])
def test_an_observer_may_let_the_clock_ring_while_a_manager_ends(how: str) -> None:
    rig = Managed(manager_idle_timeout=0)
    rig.lease().release()
    rig.manager.observers.append(lambda event: rig.clock.advance(0))
    ended = rig.manager.close(10) if how == "close" else rig.manager.drain()
    rig.turn()
    assert result_of(ended) is None


def test_a_connection_that_is_lost_while_its_release_is_told_is_not_reset() -> None:
    rig = Pooled(reset=lambda protocol: None)

    class Learning:
        def __call__(self, statuses: Any) -> Any:
            return statuses[0]

        def observe(self, backend: Backend, seconds: float) -> None:
            rig.fakes[0].connections[0].reset()

    group = rig.pool.group(rig.backends, Learning())
    result_of(group.connect("us")).release()
    (status,) = rig.pool.status()
    assert (status.idle, status.leased) == (0, 0)

"""Rules 7 to 9, on a clock: failed connects, and connections that are unfit when released."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectionRefusedError

from kolus import (
    Closed,
    ConnectFailed,
    Lease,
    LeaseTimeout,
)
from kolus.backoff import Backoff
from kolus.testing import NotFired, result_of
from tests.rigs.idents import Idents
from tests.rigs.pools import Managed, Pooled

# 7: every failure path frees one slot and looks at the waiters


def test_a_lost_connection_lets_the_next_waiter_connect() -> None:
    rig = Managed(limit=1)
    held = rig.lease()
    waiting = rig.ask()
    rig.fake.connections[0].reset()
    assert result_of(waiting).held
    held.release()
    assert rig.numbers() == (0, 1, 0, 0, 0)


def test_a_finished_connection_lets_the_next_waiter_connect_when_it_is_gone() -> None:
    rig = Managed(limit=1)
    held = rig.lease()
    waiting = rig.ask()
    held.finished()
    with pytest.raises(NotFired):
        result_of(waiting)
    rig.turn()
    assert result_of(waiting).held


# 8: failed connects


def test_a_failed_connect_fails_the_waiter_with_the_reason() -> None:
    rig = Managed()
    rig.fake.refuse()
    with pytest.raises(ConnectFailed, match="cannot connect to fake: ConnectionRefusedError"):
        rig.lease()


def test_another_connect_in_flight_spares_the_oldest_waiter() -> None:
    rig = Managed()
    rig.fake.refuse(after=1).accept(after=2)
    first, second = rig.ask(), rig.ask()
    rig.clock.advance(1)
    with pytest.raises(NotFired):
        result_of(first)
    rig.clock.advance(1)
    result_of(first).release()
    assert result_of(second).held


def test_a_lease_that_may_come_home_spares_the_waiter() -> None:
    rig = Managed()
    held = rig.lease()
    rig.fake.refuse(always=True)
    waiting = rig.ask()
    with pytest.raises(NotFired):
        result_of(waiting)
    held.release()
    assert result_of(waiting).held


def test_while_the_next_attempt_is_not_due_a_request_fails_at_once() -> None:
    rig = Managed(backoff=Backoff(first=8, most=8))
    rig.fake.refuse(always=True)
    with pytest.raises(ConnectFailed):
        rig.lease()
    rig.clock.advance(1)
    with pytest.raises(ConnectFailed, match="next attempt is due in 3 s") as caught:
        rig.lease()
    assert isinstance(caught.value.reason, ConnectionRefusedError)
    assert caught.value.retry_in == pytest.approx(3)
    assert rig.fake.attempts == 1


def test_when_the_next_attempt_is_due_a_request_makes_it() -> None:
    rig = Managed(backoff=Backoff(first=8, most=8))
    rig.fake.refuse()
    with pytest.raises(ConnectFailed):
        rig.lease()
    rig.clock.advance(4)
    assert rig.lease().held


def test_without_fail_fast_waiters_sit_through_the_back_off() -> None:
    rig = Managed(fail_fast=False, backoff=Backoff(first=2, most=2))
    rig.fake.refuse().refuse()
    asked = rig.ask()
    rig.clock.advance(1)
    with pytest.raises(NotFired):
        result_of(asked)
    rig.clock.advance(1)
    assert result_of(asked).held
    assert rig.fake.attempts == 3


def test_without_a_back_off_each_attempt_costs_one_request() -> None:
    rig = Managed(backoff=None)
    rig.fake.refuse(after=1, always=True)
    asked = [rig.ask() for _ in range(3)]
    failed: list[int] = []
    for number, each in enumerate(asked):
        each.addErrback(lambda failure, number=number: failed.append(number))
    for _ in range(5):
        rig.clock.advance(1)
    assert failed == [0, 1, 2]
    assert rig.fake.attempts <= 4


def test_without_a_back_off_an_attempt_nobody_waited_for_costs_no_later_request() -> None:
    rig = Managed(backoff=None)
    rig.fake.refuse(after=1)
    gone = rig.ask()
    gone.cancel()
    gone.addErrback(lambda failure: failure.trap(CancelledError))
    rig.clock.advance(1)
    assert rig.lease().held


def test_a_time_out_carries_the_numbers_and_the_last_connect_error() -> None:
    rig = Managed(limit=2, backoff=Backoff(first=60, most=60))
    held = rig.lease()
    rig.fake.refuse()
    asked = rig.ask(1)
    rig.clock.advance(1)
    with pytest.raises(LeaseTimeout) as caught:
        result_of(asked)
    error = caught.value
    assert isinstance(error, DeferredTimeout)
    assert isinstance(error.last_error, ConnectionRefusedError)
    assert (error.status.limit, error.status.leased, error.status.waiting) == (2, 1, 0)
    assert "within 1 s" in str(error)
    assert "the fake backend refuses" in str(error)
    held.release()


# 9: what comes home unfit


def closed_by_the_peer(rig: Managed, lease: Lease[Any]) -> None:
    rig.fake.connections[0].close()


def told_to_close(rig: Managed, lease: Lease[Any]) -> None:
    lease.protocol.transport.loseConnection()


def aborted(rig: Managed, lease: Lease[Any]) -> None:
    lease.protocol.transport.abortConnection()


def past_its_lifetime(rig: Managed, lease: Lease[Any]) -> None:
    rig.clock.advance(1800)


@pytest.mark.parametrize("spoil", [closed_by_the_peer, told_to_close, aborted, past_its_lifetime])
def test_releasing_a_connection_that_is_unfit_counts_as_finished(spoil: Any) -> None:
    rig = Managed()
    lease = rig.lease()
    rig.fake.refuse(always=True)
    spoil(rig, lease)
    lease.release()
    rig.turn()
    assert rig.numbers() == (0, 0, 0, 2, 0)
    assert not rig.fake.connections


def test_releasing_while_draining_counts_as_finished() -> None:
    rig = Managed()
    lease = rig.lease()
    drained = rig.manager.drain()
    lease.release()
    rig.turn()
    assert result_of(drained) is None
    assert not rig.fake.connections


def test_a_connection_being_closed_holds_its_slot_until_it_is_gone() -> None:
    rig = Managed(limit=1)
    rig.lease().finished()
    assert rig.numbers() == (0, 0, 0, 0, 0)
    waiting = rig.ask()
    assert rig.fake.attempts == 1
    rig.turn()
    assert result_of(waiting).held


def test_a_connection_that_does_not_end_is_aborted() -> None:
    rig = Managed(limit=1, close_timeout=5)
    lease = rig.lease()
    transport = lease.protocol.transport
    transport.loseConnection = lambda: None
    lease.finished()
    rig.clock.advance(4.9)
    assert rig.manager.status().unused == 0
    rig.clock.advance(0.1)
    rig.turn()
    assert rig.manager.status().unused == 1


def test_an_unfit_connection_that_is_released_is_counted_as_finished() -> None:
    rig = Managed()
    lease = rig.lease()
    rig.fake.connections[0].close()
    lease.release()
    counters = rig.manager.counters
    assert (counters.releases, counters.finishes) == (0, 1)


def test_an_ident_that_sits_out_a_back_off_is_served_when_a_siblings_attempt_succeeds() -> None:
    rig = Pooled(idents="separate", limit=3, fail_fast=False, backoff=Backoff(10.0, 2.0, 10.0))
    rig.fakes[0].refuse(after=1).accept(after=2)
    ours = [rig.pool.connect("us", rig.backends[0]) for _ in range(2)]
    theirs = rig.pool.connect("them", rig.backends[0])
    rig.clock.pump([1, 1])
    for each in (*ours[:1], theirs):
        result_of(each).release()
    rig.turn()
    result_of(ours[1]).release()


def test_an_attempt_that_was_given_up_makes_way_for_a_siblings_at_once() -> None:
    rig = Pooled(idents="separate", max_connecting=1, prepare=lambda protocol: Deferred())
    asked = [rig.pool.connect(ident, rig.backends[0]) for ident in ("us", "them")]
    ours, theirs = (rig.pool.manager(rig.backends[0], ident) for ident in ("us", "them"))
    assert ours is not None
    assert theirs is not None
    ours.invalidate()
    assert theirs.status().connecting == 1
    for each in asked:
        each.addErrback(lambda failure: failure.trap(Closed))
    rig.pool.close(0)
    rig.turn()


def test_a_check_that_fails_tells_the_siblings_when_the_next_attempt_is_due() -> None:
    asked: list[Any] = []

    def check(protocol: object) -> None:
        if held and not asked:
            asked.append(rig.ask("c"))
            rig.fake.connections[-1].reset()

    held: list[Any] = []
    settings: dict[str, Any] = {"limit": 2, "min_idle": 2, "check_after": 0, "fail_fast": False}
    rig = Idents("separate", check=check, backoff=Backoff(1.0, 2.0, 1.0), **settings)
    held.append(rig.lease("b"))
    failing = rig.ask("a")
    failing.addErrback(lambda failure: failure.trap(CancelledError))
    rig.turn()
    failing.cancel()
    rig.clock.advance(0.5)
    asked.append(result_of(asked.pop()))
    assert asked[0].ident == "c"
    for lease in (*held, *asked):
        lease.release()
    rig.end()

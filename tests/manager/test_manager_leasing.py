"""Rules 1 to 6, on a clock: which request gets which connection, the order, the deadlines."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from kolus import (
    ConnectFailed,
    Lease,
    LeaseTimeout,
    PoolFull,
)
from kolus.backoff import Backoff
from kolus.events import Leased
from kolus.testing import NotFired, result_of
from tests.rigs.either import either
from tests.rigs.pools import Managed


def test_unused_counts_what_may_still_be_opened() -> None:
    rig = Managed(limit=10)
    lease = rig.lease()
    assert rig.manager.status().unused == 9
    lease.finished()
    rig.turn()
    assert rig.manager.status().unused == 10


# 1: assigning and taking out of idle is one step


def test_assigning_a_waiter_takes_the_connection_out_of_idle_in_one_step() -> None:
    rig = Managed(limit=1)
    held = rig.lease()
    seen: list[Any] = []
    rig.ask().addCallback(lambda lease: (seen.append(rig.numbers()), lease.release()))
    held.release()
    assert seen == [(0, 1, 0, 0, 0)]
    assert rig.numbers() == (1, 0, 0, 0, 0)


def test_cancelling_while_connecting_loses_neither_connection_nor_slot() -> None:
    rig = Managed(limit=1)
    rig.fake.accept(after=1)
    asked = rig.ask()
    asked.cancel()
    with pytest.raises(CancelledError):
        result_of(asked)
    assert rig.numbers() == (0, 0, 1, 0, 0)
    rig.clock.advance(1)
    assert rig.numbers() == (1, 0, 0, 0, 0)


def test_a_waiter_cancelled_by_an_observer_of_its_own_lease_loses_no_connection() -> None:
    rig = Managed(limit=1, observed=True)
    held = rig.lease()
    asked = rig.ask()
    rig.manager.observers.append(lambda event: isinstance(event, Leased) and asked.cancel())
    held.release()
    with pytest.raises(CancelledError):
        result_of(asked)
    assert rig.numbers() == (1, 0, 0, 0, 0)


# 2: FIFO, direct hand-off, no barging


def test_waiters_are_served_in_the_order_they_came() -> None:
    rig = Managed(limit=1)
    held = rig.lease()
    served: list[int] = []

    def serve(lease: Lease[Any], number: int) -> None:
        served.append(number)
        lease.release()

    for number in range(5):
        rig.ask().addCallback(serve, number)
    held.release()
    assert served == [0, 1, 2, 3, 4]


def test_a_newcomer_never_overtakes_the_queue() -> None:
    rig = Managed(limit=1)
    held = rig.lease()
    order: list[str] = []

    def serve_and_ask_again(lease: Lease[Any]) -> None:
        order.append("first")
        rig.ask().addCallback(lambda lease: (order.append("newcomer"), lease.release()))
        lease.release()

    rig.ask().addCallback(serve_and_ask_again)
    rig.ask().addCallback(lambda lease: (order.append("second"), lease.release()))
    held.release()
    assert order == ["first", "second", "newcomer"]


def test_the_releaser_cannot_barge_back_in() -> None:
    rig = Managed(limit=1)
    held = rig.lease()
    waiting = rig.ask()
    held.release()
    assert rig.manager.try_connect("us") is None
    assert result_of(waiting).held


def test_a_hand_off_to_a_waiter_that_timed_out_moves_on_to_the_next() -> None:
    rig = Managed(limit=1)
    held = rig.lease()
    impatient, patient = rig.ask(1), rig.ask(2)
    rig.clock.advance(1)
    held.release()
    with pytest.raises(LeaseTimeout):
        result_of(impatient)
    assert result_of(patient).held


def test_a_hand_off_to_a_waiter_that_was_cancelled_moves_on_to_the_next() -> None:
    rig = Managed(limit=1)
    held = rig.lease()
    gone, patient = rig.ask(), rig.ask()
    gone.cancel()
    gone.addErrback(lambda failure: failure.trap(CancelledError))
    held.release()
    assert result_of(patient).held


@pytest.mark.long
def test_a_hundred_thousand_waiters_that_release_in_their_callback_need_no_recursion() -> None:
    rig = Managed(limit=1, max_waiters=100_000)
    held = rig.lease()
    served = 0

    def serve(lease: Lease[Any]) -> None:
        nonlocal served
        served += 1
        lease.release()

    for _ in range(100_000):
        rig.ask().addCallback(serve)
    held.release()
    assert served == 100_000
    assert rig.fake.attempts == 1


# 3: connections are made for the pool


def test_a_waiter_takes_a_release_that_comes_before_its_connect() -> None:
    rig = Managed()
    held = rig.lease()
    rig.fake.accept(after=1)
    waiting = rig.ask()
    held.release()
    lease = result_of(waiting)
    assert lease.reused
    rig.clock.advance(1)
    assert rig.numbers()[:2] == (1, 1)


def test_a_connect_whose_requester_gave_up_is_pooled() -> None:
    rig = Managed()
    rig.fake.accept(after=2)
    asked = rig.ask(1)
    rig.clock.advance(1)
    with pytest.raises(LeaseTimeout):
        result_of(asked)
    rig.clock.advance(1)
    assert rig.numbers() == (1, 0, 0, 1, 0)


def test_a_backend_slower_than_its_callers_is_reached_in_the_end() -> None:
    rig = Managed(limit=1, connect_timeout=10)
    rig.fake.accept(after=3, always=True)
    impatient = [rig.ask(1)]
    rig.clock.pump([1, 1])
    impatient.append(rig.ask(0.5))
    rig.clock.advance(0.5)
    for each in impatient:
        with pytest.raises(LeaseTimeout):
            result_of(each)
    rig.clock.advance(0.5)
    assert rig.lease().held
    assert rig.fake.attempts == 1


# 4: LIFO and FIFO


@pytest.mark.parametrize(("reuse", "expected"), [("lifo", 1), ("fifo", 0)])
def test_reuse_says_which_idle_connection_is_leased(reuse: str, expected: int) -> None:
    rig = Managed(reuse=reuse)
    leases = [rig.lease(), rig.lease()]
    protocols = [lease.protocol for lease in leases]
    for lease in leases:
        lease.release()
    assert rig.lease().protocol is protocols[expected]


# 5: deadlines


def test_a_deadline_is_not_armed_again_by_a_failed_connect() -> None:
    rig = Managed(fail_fast=False, backoff=Backoff(first=1, most=1))
    rig.fake.refuse(after=0.4, always=True)
    asked = rig.ask(2)
    for _ in range(19):
        rig.clock.advance(0.1)
        with pytest.raises(NotFired):
            result_of(asked)
    rig.clock.advance(0.1)
    with pytest.raises(LeaseTimeout) as caught:
        result_of(asked)
    assert caught.value.waited == pytest.approx(2)
    assert rig.fake.attempts > 1


def test_connect_has_a_time_limit_of_its_own() -> None:
    rig = Managed(connect_timeout=3)
    rig.fake.never_answer()
    asked = rig.ask(60)
    rig.clock.advance(3)
    with pytest.raises(ConnectFailed, match="connect took longer than 3 s"):
        result_of(asked)


def test_waiters_of_many_deadlines_fail_each_at_its_own() -> None:
    rig = Managed(limit=1, acquire_timeout=3)
    held = rig.lease()
    gone: list[float] = []
    for timeout in (4.0, 1.0, None, 2.0, 3.0, None):
        asked = rig.ask(timeout)
        asked.addErrback(lambda failure: gone.append(failure.value.waited))
    for _ in range(5):
        rig.clock.advance(1)
    assert gone == [1, 2, 3, 3, 3, 4]
    held.release()


def test_a_manager_has_one_timer_and_none_when_nothing_is_due() -> None:
    rig = Managed(limit=1, idle_timeout=None, lifetime=None, leak_after=None)
    held = rig.lease()
    rig.clock.advance(5)
    assert rig.clock.getDelayedCalls() == []
    waiting = [rig.ask() for _ in range(10)]
    assert len(rig.clock.getDelayedCalls()) == 1
    held.release()
    for each in waiting:
        result_of(each).release()
    rig.clock.advance(5)
    assert rig.clock.getDelayedCalls() == []


# 6: the bound of the queue


def test_beyond_the_bound_of_the_queue_a_request_is_rejected_at_once() -> None:
    rig = Managed(limit=1, max_waiters=2)
    rig.lease()
    waiting = [rig.ask(), rig.ask()]
    told = "limit 1, idle 0, leased 1, connecting 0, waiting 2.*max_waiters=2"
    with pytest.raises(PoolFull, match=told):
        result_of(rig.ask())
    for each in waiting:
        with pytest.raises(NotFired):
            result_of(each)


def test_without_a_queue_full_means_rejected() -> None:
    rig = Managed(limit=2, max_waiters=0)
    rig.fake.accept(after=1, always=True)
    asked = [rig.ask(), rig.ask()]
    with pytest.raises(PoolFull, match="max_waiters=0"):
        result_of(rig.ask())
    rig.clock.advance(1)
    assert [result_of(each).held for each in asked] == [True, True]


@either
def test_by_default_no_count_rejects_a_request_and_its_deadline_ends_it(rig_of: Any) -> None:
    rig = rig_of(limit=1)
    lease = rig.lease()
    waiting = [rig.ask() for _ in range(5000)]
    assert rig.manager.status().waiting == 5000
    lease.release()
    result_of(waiting.pop(0)).release()
    held = result_of(waiting.pop(0))
    rig.clock.advance(5)
    for each in waiting:
        with pytest.raises(LeaseTimeout):
            result_of(each)
    assert rig.manager.counters.rejections == 0
    held.release()

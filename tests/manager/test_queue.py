"""The queue and its alarm, on a clock: order, deadlines, and the amount of work."""

from __future__ import annotations

import math
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from kolus.manager.waiting.queue import Waiter, WaiterQueue
from kolus.support import Alarm
from kolus.testing import NotFired, result_of
from tests.rigs.stalling import StallingClock


class Queue(WaiterQueue[str]):
    """A queue whose requests fail with the time at which they do."""

    def _expire(self, waiter: Waiter[str]) -> None:
        self.fail(waiter, TimeoutError(f"at {self._now():g}"))


def queue(clock: Clock, timeout: float | None = 5.0) -> WaiterQueue[str]:
    """A queue whose alarm does what a manager's does for it."""

    def ring() -> None:
        waiting.expire_due(clock.seconds())
        alarm.set(waiting.next_due())

    alarm = Alarm(clock, ring)
    waiting = Queue(clock, timeout, alarm)
    return waiting


def test_the_oldest_waiter_is_first() -> None:
    waiting = queue(Clock(), None)
    waiters = [waiting.append() for _ in range(3)]
    assert [waiting.popleft() for _ in range(3)] == waiters
    assert len(waiting) == 0


def test_a_cancelled_waiter_is_skipped() -> None:
    waiting = queue(Clock(), None)
    first, second = waiting.append(), waiting.append()
    first.cancel()
    with pytest.raises(CancelledError):
        result_of(first)
    assert waiting.popleft() is second


@pytest.mark.parametrize("why", ["given up", "due"])
def test_one_that_is_cancelled_as_its_leaving_is_heard_of_fires_once(why: str) -> None:
    class Cancelling(Queue):
        def _has_left(self, waiter: Waiter[str]) -> None:
            waiter.cancel()

    clock = Clock()
    waiting = Cancelling(clock, 5.0, Alarm(clock, lambda: None))
    waiter = waiting.append()
    if why == "given up":
        waiting.fail(waiter, ValueError())
    else:
        waiting.expire_due(5.0)
    with pytest.raises(CancelledError):
        result_of(waiter)


def test_a_waiter_fails_at_its_deadline_and_not_before() -> None:
    clock = Clock()
    waiting = queue(clock)
    waiter = waiting.append()
    clock.advance(4.9)
    with pytest.raises(NotFired):
        result_of(waiter)
    clock.advance(0.1)
    with pytest.raises(TimeoutError, match="at 5"):
        result_of(waiter)
    assert not waiting.waiting


def test_a_waiter_with_its_own_deadline_does_not_hold_up_the_others() -> None:
    clock = Clock()
    waiting = queue(clock)
    late, usual, soon = waiting.append(60), waiting.append(), waiting.append(1)
    clock.advance(1)
    with pytest.raises(TimeoutError):
        result_of(soon)
    clock.advance(4)
    with pytest.raises(TimeoutError):
        result_of(usual)
    assert waiting.popleft() is late


def test_a_callback_that_queues_again_is_not_expired_early() -> None:
    clock = Clock()
    waiting = queue(clock)
    again: list[Waiter[str]] = []
    waiting.append().addErrback(lambda failure: again.append(waiting.append()))
    clock.advance(5)
    clock.advance(4.9)
    with pytest.raises(NotFired):
        result_of(again[0])
    clock.advance(0.1)
    with pytest.raises(TimeoutError):
        result_of(again[0])


def test_the_queue_has_one_timer_however_many_wait() -> None:
    clock = Clock()
    waiting = queue(clock)
    waiters = [waiting.append() for _ in range(100)]
    assert len(clock.getDelayedCalls()) == 1
    for waiter in waiters:
        waiter.cancel()
        waiter.addErrback(lambda failure: failure.trap(CancelledError))
    clock.advance(5)
    assert clock.getDelayedCalls() == []


def test_waiters_that_gave_up_behind_one_that_stays_are_not_kept() -> None:
    waiting = queue(Clock())
    first = waiting.append()
    for _ in range(10_000):
        waiter = waiting.append()
        waiter.cancel()
        waiter.addErrback(lambda failure: None)
    assert len(waiting._timed) < 200
    assert waiting.popleft() is first
    assert waiting.next_due() == math.inf


def test_cancelled_waiters_are_not_kept_for_their_deadline() -> None:
    waiting = queue(Clock())
    for _ in range(10_000):
        waiter = waiting.append()
        waiter.cancel()
        waiter.addErrback(lambda failure: None)
    assert len(waiting._timed) < 200
    assert waiting.next_due() == math.inf


def test_an_alarm_rings_once_at_the_earliest_time() -> None:
    clock, rung = Clock(), []
    alarm = Alarm(clock, lambda: rung.append(clock.seconds()))
    for at in (5.0, 3.0, 4.0):
        alarm.set(at)
    assert alarm.at == 3
    clock.pump([1] * 10)
    assert rung == [3]


def test_an_alarm_for_the_past_rings_in_the_next_turn() -> None:
    clock, rung = Clock(), []
    clock.advance(10)
    alarm = Alarm(clock, lambda: rung.append(clock.seconds()))
    alarm.set(1)
    assert rung == []
    clock.advance(0)
    assert rung == [10]


def test_a_cleared_alarm_does_not_ring() -> None:
    clock = Clock()
    rung: list[Any] = []
    alarm = Alarm(clock, lambda: rung.append(1))
    alarm.set(1)
    alarm.clear()
    alarm.clear()
    clock.advance(2)
    assert rung == []
    assert clock.getDelayedCalls() == []


def test_of_a_waiter_that_has_left_nothing_is_asked_after_a_stall() -> None:
    class Asking(Queue):
        def _has_coming(self, waiter: Waiter[str]) -> bool:
            asked.append(waiter)
            return False

    clock, asked = StallingClock(), list[Waiter[str]]()
    waiting = Asking(clock, 5.0)
    gone, stays = waiting.append(), waiting.append()
    gone.cancel()
    with pytest.raises(CancelledError):
        result_of(gone)
    clock.advance(1)
    clock.stall(6)
    clock.advance(0.1)
    with pytest.raises(TimeoutError):
        result_of(stays)
    assert set(asked) == {stays}

"""A steady clock never goes back, and its late calls come after what the reactor has to read."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent
from zope.interface.verify import verifyObject

from kolus.manager import WaiterQueue
from kolus.support import Alarm, SteadyClock, steady
from tests.rigs.stalling import StallingClock
from tests.rigs.suspending import SuspendingMachine

HOUR = 3600.0
CHECKOUT = Path(__file__).parents[2]


class Calls(list[float]):
    """When its calls were made, on a clock."""

    def __init__(self, clock: SteadyClock) -> None:
        self._clock = clock

    def note(self) -> None:
        self.append(self._clock.seconds())


def rig(kind: Callable[[], Clock] = Clock) -> tuple[Any, SteadyClock, Calls]:
    clock = kind()
    clock.rightNow = 100_000.0
    return clock, steady(clock), Calls(steady(clock))


def back(clock: Clock, seconds: float = HOUR) -> None:
    clock.rightNow -= seconds


def stalls(events: list[LogEvent]) -> list[float]:
    return [each["least"] for each in events if "was blocked" in (each["log_format"] or "")]


def test_the_steady_clock_and_its_calls_are_what_twisted_expects() -> None:
    _, now, calls = rig()
    verifyObject(IReactorTime, now)
    verifyObject(IDelayedCall, now.callLater(1, calls.note))


def test_a_clock_has_one_steady_clock_while_that_is_in_use() -> None:
    clock = Clock()
    assert steady(clock) is steady(steady(clock))
    assert steady(clock) is not steady(Clock())


def test_the_time_goes_on_as_if_the_clock_had_not_been_set_back() -> None:
    clock, now, _ = rig()
    began = now.seconds()
    clock.advance(1)
    now.seconds()
    back(clock)
    assert now.seconds() == began + 1
    clock.advance(2)
    assert now.seconds() == began + 3


def test_a_step_forward_is_time_that_passes() -> None:
    clock, now, _ = rig()
    began = now.seconds()
    clock.advance(HOUR)
    assert now.seconds() == began + HOUR


@pytest.mark.parametrize("look", ["seconds", "look"])
def test_calls_are_made_when_they_would_have_been_before_the_clock_was_set_back(look: str) -> None:
    clock, now, calls = rig()
    began = now.seconds()
    for delay in (5, 1, 3):
        now.callLater(delay, calls.note)
    clock.advance(1)
    back(clock)
    getattr(now, look)()
    clock.pump([1] * 10)
    assert calls == [began + 1, began + 3, began + 5]


def test_a_clock_may_be_set_back_again_and_again() -> None:
    clock, now, calls = rig()
    began = now.seconds()
    now.callLater(5, calls.note)
    for _ in range(5):
        clock.advance(1)
        now.look()
        back(clock)
        now.look()
    assert calls == [began + 5]
    assert clock.getDelayedCalls() == now.getDelayedCalls() == []


def test_an_alarm_rings_when_it_would_have_before_the_clock_was_set_back() -> None:
    clock, now, calls = rig()
    began = now.seconds()
    Alarm(clock, calls.note).set(began + 5)
    clock.advance(1)
    now.look()
    back(clock)
    now.look()
    clock.advance(3.5)
    assert calls == []
    clock.advance(0.5)
    assert calls == [began + 5]


def test_no_call_is_made_before_its_time_by_a_rounding_error() -> None:
    draw = random.Random(1)
    early = []
    for _ in range(1000):
        clock = Clock()
        clock.advance(draw.random() * 10 ** draw.randint(0, 5))
        time = steady(clock)
        time.seconds()
        clock.rightNow -= draw.choice([0.2, 3.0, 3600.0])
        time.seconds()
        seconds, told = draw.random() * 700, []
        call = time.callLater(seconds, lambda time=time, told=told: told.append(time.seconds()))
        clock.pump([seconds / 10] * 10 + [0.0005])
        (at,) = told
        early += [call.getTime() - at] if at < call.getTime() else []
    assert early == [], "whoever looks whether it is due would call again at once, for ever"


def test_the_time_never_goes_back_by_a_rounding_error() -> None:
    draw, fell = random.Random(2), []
    for _ in range(1000):
        clock = Clock()
        clock.advance(draw.random() * 10 ** draw.randint(0, 5))
        time, last = steady(clock), 0.0
        for _ in range(5):
            clock.rightNow += draw.choice([-3600.0, -3.0, 0.0, 0.1, 20.0])
            before, last = last, time.seconds()
            fell += [before - last] if last < before else []
    assert fell == [], "what was due would not be due any more"


def test_a_call_can_be_cancelled_put_off_and_brought_forward() -> None:
    clock, now, calls = rig()
    began = now.seconds()
    cancelled, later, sooner = [now.callLater(5, calls.note) for _ in range(3)]
    cancelled.cancel()
    later.delay(2)
    sooner.reset(1)
    assert [each.active() for each in (cancelled, later, sooner)] == [False, True, True]
    assert [later.getTime(), sooner.getTime()] == [began + 7, began + 1]
    clock.pump([1] * 10)
    assert calls == [began + 1, began + 7]
    with pytest.raises(AlreadyCancelled):
        cancelled.cancel()
    with pytest.raises(AlreadyCalled):
        later.reset(1)


def test_a_call_that_is_late_can_be_cancelled_by_what_is_read() -> None:
    clock, now, calls = rig(StallingClock)
    call = now.callLater(1, calls.note)
    clock.stall(3, call.cancel)
    assert calls == []
    assert clock.getDelayedCalls() == []


def test_a_call_that_is_late_is_made_after_the_reactor_has_read() -> None:
    clock, now, _ = rig(StallingClock)
    order: list[str] = []
    now.callLater(1, order.append, "call")
    clock.stall(3, lambda: order.append("input"))
    assert order == ["input", "call"]


def test_a_test_that_skips_time_needs_no_other_turn_of_the_clock() -> None:
    clock, now, calls = rig()
    now.callLater(1, calls.note)
    clock.advance(10)
    assert len(calls) == 1


def test_a_stall_is_logged_once_with_its_length(log_events: list[LogEvent]) -> None:
    clock, now, calls = rig(StallingClock)
    for delay in (1, 2, 2.5):
        now.callLater(delay, calls.note)
    steady(clock).callLater(1.5, calls.note)
    clock.stall(4)
    assert len(calls) == 4
    assert stalls(log_events) == [3]

    now.callLater(1, calls.note)
    clock.stall(2)
    assert stalls(log_events) == [3, 1]


def test_a_call_that_is_a_little_late_is_no_stall(log_events: list[LogEvent]) -> None:
    clock, now, calls = rig(StallingClock)
    now.callLater(1, calls.note)
    clock.stall(1.2)
    assert len(calls) == 1
    assert stalls(log_events) == []


def test_time_that_a_test_skips_is_no_stall(log_events: list[LogEvent]) -> None:
    clock, now, calls = rig()
    now.callLater(1, calls.note)
    clock.advance(HOUR)
    assert stalls(log_events) == []


def test_the_log_tells_the_bounds_of_what_is_known_of_a_stall(log_events: list[LogEvent]) -> None:
    clock, now, calls = rig(StallingClock)
    now.callLater(5, calls.note)
    clock.advance(2)
    now.callLater(1, calls.note)
    clock.stall(4)
    (told,) = [formatEvent(each) for each in log_events if each["log_format"]]
    assert "blocked for 3.00 to 4.00 s" in told


def test_a_stall_is_noticed_by_a_call_that_is_cancelled_too_late(
    log_events: list[LogEvent],
) -> None:
    clock, now, calls = rig(StallingClock)
    call = now.callLater(1, calls.note)
    clock.rightNow += 3
    call.cancel()  # as a reactor does that reads first
    assert stalls(log_events) == [2]
    assert now.resumed_at == now.seconds()


def test_the_steady_clock_tells_when_the_reactor_ran_on() -> None:
    clock, now, calls = rig(StallingClock)
    assert now.resumed_at < now.seconds()
    now.callLater(1, calls.note)
    clock.stall(4)
    assert now.resumed_at == now.seconds()


def test_only_the_steady_clock_asks_a_reactor_for_the_time_or_for_a_later_call() -> None:
    asks = re.compile(r"reactor\.(seconds\(|callLater)|\btime\.(time|monotonic)\b")
    found = [
        f"{path.relative_to(CHECKOUT)}: {line.strip()}"
        for path in sorted((CHECKOUT / "kolus").rglob("*.py"))
        if path.name not in ("steady.py", "steady_time.py", "demo.py")
        for line in path.read_text().splitlines()
        if asks.search(line)
    ]
    assert found == []


def test_whoever_waits_looks_whether_the_clock_was_set_but_not_a_thousand_times_a_second(
    monkeypatch: Any,
) -> None:
    clock = Clock()
    monkeypatch.setattr(clock, "seconds", time.time)
    now = steady(clock)
    looks: list[None] = []
    monkeypatch.setattr(now, "look", lambda: looks.append(None) or SteadyClock.look(now))
    queue: WaiterQueue[Any] = WaiterQueue(clock, None, Alarm(clock, repr))
    began = time.monotonic()
    for _ in range(100):
        queue.append()
    assert 1 <= len(looks) <= 1 + (time.monotonic() - began) / 0.001
    looked, now.look_at = now.look_at, 0.0  # a millisecond later
    queue.append()
    assert now.look_at >= looked


def lag(clock: SteadyClock) -> float:
    """By how much what is told quickly is less than the time."""
    return clock.seconds() - clock.quick_seconds()


@pytest.mark.parametrize("before", [0.0, HOUR])
def test_what_is_told_quickly_is_the_time(monkeypatch: Any, before: float) -> None:
    machine = SuspendingMachine(monkeypatch, before)
    assert abs(lag(steady(machine.reactor))) < 1.0


def test_the_time_of_a_suspension_is_told_quickly_after_the_next_look(monkeypatch: Any) -> None:
    machine = SuspendingMachine(monkeypatch)
    clock = steady(machine.reactor)
    machine.suspend(HOUR)
    assert lag(clock) > HOUR - 1.0
    clock.look()
    assert lag(clock) < 1.0


def test_on_a_clock_of_a_test_all_tell_the_same_time() -> None:
    clock, now, _ = rig()
    back(clock)
    assert now.quick_seconds() == now.seconds() == 100_000.0

"""Long work is done over several turns of the reactor: others have theirs between."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from kolus.support import LongWork, Work, at_once
from kolus.testing.results import failure_of, result_of

PIECE = 0.0015


def making(clock: Clock, name: str, number: int, made: list[str]) -> Work[str]:
    """Pieces of work, each of which takes some time."""
    for _ in range(number):
        made.append(name)
        clock.rightNow += PIECE
        yield
    return name * number


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_is_short_is_done_at_once(clock: Clock) -> None:
    assert result_of(LongWork(clock).do(making(clock, "a", 1, []))) == "a"
    assert not clock.getDelayedCalls()


def test_work_can_be_done_without_turns(clock: Clock) -> None:
    assert at_once(making(clock, "a", 5, [])) == "aaaaa"
    assert not clock.getDelayedCalls()


def be_served(clock: Clock, made: list[str], times: int) -> None:
    """Others that want a part of every turn."""
    made.append("others")
    if times > 1:
        clock.callLater(0, be_served, clock, made, times - 1)


def test_others_have_their_turns_while_what_is_long_is_done(clock: Clock) -> None:
    made: list[str] = []
    whole = LongWork(clock).do(making(clock, "a", 5, made))
    be_served(clock, made, 3)
    assert not whole.called
    clock.advance(0)
    assert made == ["a", "a", "others", "a", "a", "others", "a", "others"]
    assert result_of(whole) == "aaaaa"
    assert not clock.getDelayedCalls()


def test_short_work_does_not_wait_until_what_is_long_is_done(clock: Clock) -> None:
    made: list[str] = []
    long_work = LongWork(clock)
    long = long_work.do(making(clock, "a", 9, made))
    short = long_work.do(making(clock, "b", 1, made))
    assert not short.called  # this turn was long enough
    clock.advance(0)
    assert made == ["a", "a", "a", "b", *"aaaaaa"]
    assert (result_of(short), result_of(long)) == ("b", "a" * 9)


def test_cancelled_work_is_not_done(clock: Clock) -> None:
    made: list[str] = []
    whole = LongWork(clock).do(making(clock, "a", 7, made))
    whole.cancel()
    assert failure_of(CancelledError, whole)
    assert made == ["a", "a"]
    assert not clock.getDelayedCalls()


def test_work_that_fails_leaves_the_others(clock: Clock) -> None:
    def broken() -> Work[str]:
        yield
        raise ValueError("broken")

    made: list[str] = []
    long_work = LongWork(clock)
    other = long_work.do(making(clock, "b", 3, made))
    failed = long_work.do(broken())
    clock.pump([0] * 5)
    assert failure_of(ValueError, failed)
    assert result_of(other) == "bbb"


def test_all_that_is_under_way_can_be_stopped(clock: Clock) -> None:
    made: list[str] = []
    long_work = LongWork(clock)
    both = [long_work.do(making(clock, name, 7, made)) for name in "ab"]
    long_work.stop()
    for each in both:
        assert failure_of(CancelledError, each)
    assert made == ["a", "a"]
    assert not clock.getDelayedCalls()


def test_work_can_be_stopped_by_what_its_own_piece_calls(clock: Clock) -> None:
    made: list[str] = []
    long_work = LongWork(clock)

    def stopping() -> Work[str]:
        yield
        long_work.stop()
        yield
        made.append("stopping")
        return "stopping"

    other = long_work.do(making(clock, "b", 9, made))
    stopped = long_work.do(stopping())
    clock.pump([0] * 9)
    for each in (other, stopped):
        assert failure_of(CancelledError, each)
    assert made == ["b"] * 4
    assert not clock.getDelayedCalls()


def test_work_that_is_over_can_be_cancelled_by_who_is_told_first(clock: Clock) -> None:
    long_work = LongWork(clock)
    long_work.do(making(clock, "a", 2, []))  # so that both are over in the next turn
    first, second = [long_work.do(making(clock, name, 0, [])) for name in "bc"]
    first.addCallback(lambda _: second.cancel())
    third = long_work.do(making(clock, "d", 0, []))
    clock.advance(0)
    assert failure_of(CancelledError, second)
    assert result_of(third) == ""

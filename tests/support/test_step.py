"""A step always ends: with its result, its failure, its time limit, or because it is given up."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from kolus.support import Step
from kolus.testing import NotFired, result_of


def step(clock: Clock, timeout: float | None = 3.0) -> Step:
    return Step(clock, "washing", timeout)


@pytest.mark.parametrize("result", [5, succeed(5)])
def test_a_step_ends_with_the_result_of_its_work(result: Any) -> None:
    clock = Clock()
    assert result_of(step(clock).begin(lambda: result)) == 5
    assert clock.getDelayedCalls() == []


def test_a_step_fails_as_its_work_does() -> None:
    with pytest.raises(OSError, match="no water"):
        result_of(step(Clock()).begin(lambda: fail(OSError("no water"))))


def test_a_step_ends_at_its_time_limit_and_cancels_the_work() -> None:
    clock = Clock()
    cancelled: list[Deferred[None]] = []
    outcome = step(clock).begin(lambda: Deferred(cancelled.append))
    clock.advance(2.9)
    with pytest.raises(NotFired):
        result_of(outcome)
    clock.advance(0.1)
    with pytest.raises(TimeoutError, match="washing took longer than 3 s"):
        result_of(outcome)
    assert len(cancelled) == 1


def test_how_work_ends_that_was_given_up_concerns_nobody() -> None:
    clock = Clock()
    outcome = step(clock).begin(
        lambda: Deferred(lambda work: work.errback(OSError("the water is cold")))
    )
    clock.advance(3)
    with pytest.raises(TimeoutError) as caught:
        result_of(outcome)
    assert str(caught.value) == "washing took longer than 3 s"


def test_a_time_limit_tells_what_the_cancelled_work_notes() -> None:
    def stop(work: Deferred[None]) -> None:
        error = OSError("the water is cold")
        error.add_note("the sleeves are done")
        error.add_note("the collar is not")
        work.errback(error)

    clock = Clock()
    outcome = step(clock).begin(lambda: Deferred(stop))
    clock.advance(3)
    with pytest.raises(TimeoutError) as caught:
        result_of(outcome)
    assert str(caught.value) == (
        "washing took longer than 3 s (the sleeves are done; the collar is not)"
    )


def test_a_step_may_be_given_up_while_its_work_begins() -> None:
    clock = Clock()
    washing = step(clock)
    cancelled: list[Deferred[None]] = []

    def work() -> Deferred[None]:
        washing.give_up(Failure(CancelledError()))
        return Deferred(cancelled.append)

    with pytest.raises(CancelledError):
        result_of(washing.begin(work))
    assert len(cancelled) == 1
    assert clock.getDelayedCalls() == []


def test_a_step_without_a_limit_has_no_timer() -> None:
    clock = Clock()
    washing = step(clock, None)
    outcome = washing.begin(Deferred)
    assert clock.getDelayedCalls() == []
    washing.give_up(Failure(CancelledError()))
    with pytest.raises(CancelledError):
        result_of(outcome)

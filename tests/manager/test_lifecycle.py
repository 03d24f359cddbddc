"""Open, paused, draining, closed: in this order, and never back."""

from __future__ import annotations

from kolus import Closed, Draining
from kolus.manager.lifecycle import Lifecycle
from kolus.status import State
from kolus.testing import result_of


def test_a_pause_ends_and_an_end_does_not() -> None:
    lifecycle = Lifecycle()
    states = [lifecycle.state()]
    for step in (
        lifecycle.pause,
        lifecycle.resume,
        lambda: lifecycle.end(Draining),
        lifecycle.resume,
        lifecycle.note_closed,
    ):
        step()
        states.append(lifecycle.state())
    draining = State.DRAINING
    assert states == [State.OPEN, State.PAUSED, State.OPEN, draining, draining, State.CLOSED]


def test_closing_is_news_to_one_that_drains_and_not_the_other_way_round() -> None:
    lifecycle = Lifecycle()
    assert lifecycle.end(Draining)
    assert not lifecycle.end(Draining)
    assert lifecycle.end(Closed)
    assert not lifecycle.end(Draining)
    assert lifecycle.refusal is Closed


def test_all_who_asked_are_told_of_the_end_once() -> None:
    lifecycle = Lifecycle()
    asked = [lifecycle.when_closed() for _ in range(2)]
    asked[0].cancel()
    asked[0].addErrback(lambda failure: None)
    lifecycle.note_closed()
    assert result_of(asked[1]) is None
    assert result_of(lifecycle.when_closed()) is None


def test_who_no_longer_wants_to_hear_of_the_end_is_forgotten() -> None:
    lifecycle = Lifecycle()
    for _ in range(100):
        asked = lifecycle.when_closed()
        asked.addErrback(lambda failure: None)
        asked.cancel()
    assert not lifecycle._told_closed

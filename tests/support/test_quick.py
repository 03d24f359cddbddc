"""A quick Deferred is like any other, whatever Twisted's consist of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import AlreadyCalledError, CancelledError, Deferred
from twisted.spread.pb import CopyableFailure

from kolus.support import quick
from kolus.support.quick import QuickDeferred
from kolus.testing import result_of

D = Deferred[Any]


class Quick(QuickDeferred, D):
    """As the pool's only one is made."""


class Slow(D):
    """What it is where Twisted's Deferreds are made of something else."""


class Changed(D):
    """A Deferred of some other release."""

    def __init__(self, canceller: Any = None) -> None:
        super().__init__(canceller)
        self.more = None


EITHER = pytest.mark.parametrize(
    ("kind", "waiting", "fired"),
    [
        (Quick, quick._waiting, quick._fired),
        (Slow, quick._waiting_slowly, quick._fired_slowly),
    ],
)
Waiting = Callable[[type[D], Callable[[D], None]], D]
Fired = Callable[[type[D], object], D]


class Forgetful(D):
    """A Deferred of a release that keeps no mark of having failed."""

    _debugInfo = property(lambda self: None, lambda self, value: None)  # type: ignore[assignment]


def give_up(deferred: D) -> None:
    deferred.errback(KeyError("given up"))


async def awaited(deferred: D) -> object:
    return await deferred


def test_twisteds_deferreds_are_known() -> None:
    assert quick.is_known(Deferred)
    assert quick.IS_KNOWN


def test_deferreds_that_consist_of_something_else_are_not_known() -> None:
    assert not quick.is_known(Changed)
    assert not quick.is_known(Forgetful)


@EITHER
def test_one_that_has_fired_gives_its_result(kind: type[D], waiting: Waiting, fired: Fired) -> None:
    assert result_of(fired(kind, 3)) == 3
    assert result_of(fired(kind, 3).addCallback(lambda each: each + 1)) == 4
    assert result_of(Deferred.fromCoroutine(awaited(fired(kind, 3)))) == 3


@EITHER
def test_one_that_is_paused_is_waited_for(kind: type[D], waiting: Waiting, fired: Fired) -> None:
    deferred = fired(kind, 3)
    deferred.pause()
    told: list[object] = []
    Deferred.fromCoroutine(awaited(deferred)).addCallback(told.append)
    assert told == []
    deferred.unpause()
    assert told == [3]


@EITHER
def test_one_whose_callback_raised_raises_where_it_is_awaited(
    kind: type[D], waiting: Waiting, fired: Fired
) -> None:
    deferred = fired(kind, 0).addCallback(lambda each: 1 // each)
    with pytest.raises(ZeroDivisionError):
        result_of(Deferred.fromCoroutine(awaited(deferred)))


@EITHER
def test_one_that_has_failed_with_a_kind_of_failure_raises_where_it_is_awaited(
    kind: type[D], waiting: Waiting, fired: Fired
) -> None:
    failure = CopyableFailure(ZeroDivisionError())
    deferred = fired(kind, 0).addCallback(lambda each: failure)
    with pytest.raises(ZeroDivisionError):
        result_of(Deferred.fromCoroutine(awaited(deferred)))


@EITHER
def test_one_whose_failure_was_handled_gives_its_result(
    kind: type[D], waiting: Waiting, fired: Fired
) -> None:
    deferred = fired(kind, 0).addCallback(lambda each: 1 // each).addErrback(lambda failure: 3)
    assert result_of(Deferred.fromCoroutine(awaited(deferred))) == 3


@EITHER
def test_one_that_waits_fires_once_and_can_be_cancelled(
    kind: type[D], waiting: Waiting, fired: Fired
) -> None:
    fire = quick._fire if kind is Quick else quick._fire_slowly
    told: list[object] = []
    deferred = waiting(kind, give_up)
    Deferred.fromCoroutine(awaited(deferred)).addCallback(told.append)
    assert told == []
    deferred.callback(1)
    assert told == [1]
    given = waiting(kind, give_up)
    fire(given, 1)
    assert result_of(given) == 1
    with pytest.raises(AlreadyCalledError):
        fire(given, 2)
    cancelled = waiting(kind, give_up)
    cancelled.cancel()
    cancelled.addErrback(lambda failure: told.append(failure.check(KeyError, CancelledError)))
    assert told == [1, KeyError]


def test_whether_anybody_has_callbacks_is_known_while_they_run() -> None:
    left: list[bool] = []
    deferred: D = Deferred()
    for _ in range(2):
        deferred.addCallback(lambda _: left.append(quick.has_callbacks(deferred)))
    assert quick.has_callbacks(deferred)
    deferred.callback(None)
    assert (left, quick.has_callbacks(deferred)) == ([True, False], False)
    assert quick.has_callbacks(object())  # type: ignore[arg-type]

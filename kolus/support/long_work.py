"""C{LongWork}: does what takes long in pieces, between which the reactor has its turns.

Its state is the works that are under way, whether one goes on just now, and the next turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

__all__ = ["LongWork", "Work", "at_once"]

T = TypeVar("T")

Work = Generator[None, None, T]
"""Work in pieces: it yields after each, and returns its outcome."""

_SLICE = 0.002
"""Seconds that all works together may take of a turn; the last piece may take longer."""


def at_once(work: Work[T]) -> T:
    """Do all pieces of a work now.

    @return: its outcome. What it raises is raised.
    """
    while True:
        try:
            next(work)
        except StopIteration as end:
            outcome: T = end.value
            return outcome


class _UnderWay:
    def __init__(self, work: Work[Any], canceller: Callable[[Any], None]) -> None:
        self.work = work
        self.outcome: Deferred[Any] = Deferred(canceller)


class LongWork:
    """Does the pieces of all works that are under way in turn, one of each."""

    def __init__(self, clock: Any) -> None:
        """
        @param clock: also tells how long a turn has taken.
        """
        self._clock = clock
        self._queue: deque[_UnderWay] = deque()
        self._works = False
        self._next: IDelayedCall | None = None

    def do(self, work: Work[T]) -> Deferred[T]:
        """Do all pieces of a work. Each should take less than a millisecond. What is short is done
        at once, unless others are under way.

        @return: fires with the outcome; fails with what the work raised. Cancelling it stops the
            work.
        """
        begun = _UnderWay(work, lambda _: self._stop(begun))
        self._queue.append(begun)
        if self._next is None and not self._works:
            self._turn()
        return begun.outcome

    def stop(self) -> None:
        """Cancel all that is under way."""
        for begun in tuple(self._queue):
            begun.outcome.cancel()

    def _stop(self, begun: _UnderWay) -> None:
        if begun in self._queue:
            self._queue.remove(begun)
        if self._next is not None and not self._queue:
            self._next.cancel()
            self._next = None

    def _turn(self) -> None:
        self._next = None
        self._works = True
        end = self._clock.seconds() + _SLICE
        over: list[tuple[_UnderWay, Any]] = []
        while self._queue:
            begun = self._queue[0]  # it stays there, so that what it calls can stop it
            is_over, outcome = True, None
            try:
                next(begun.work)
                is_over = False
            except StopIteration as done:
                outcome = done.value
            except Exception:
                outcome = Failure()
            if not begun.outcome.called:
                self._queue.popleft()
                if is_over:
                    over.append((begun, outcome))
                else:
                    self._queue.append(begun)
            if self._clock.seconds() >= end:
                break
        self._works = False
        if self._queue:
            self._next = self._clock.callLater(0.0, self._turn)
        for begun, outcome in over:
            if not begun.outcome.called:  # else who was told before has cancelled it
                begun.outcome.callback(outcome)

"""C{Throttle}: reports something at most once a second, with the number of those left out.

Its state is the timer, which runs for one interval after each report, the last that came since the
report, and how many came since then. C{add}, C{flush} and the timer change it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from kolus.support import steady

__all__ = ["Throttle"]

T = TypeVar("T")

_INTERVAL = 1.0
"""Seconds between two reports, at least."""


class Throttle(Generic[T]):
    """Reports the first at once; of later ones, after each interval, the last and a count."""

    def __init__(self, clock: IReactorTime, report: Callable[[T, int], object]) -> None:
        """
        @param report: called with what was added last, and how many others were since the last
            call.
        """
        self._clock = steady(clock)
        self._report = report
        self._timer: IDelayedCall | None = None
        self._held: list[T] = []
        self._count = 0

    def add(self, what: T) -> None:
        """Report it now, or at the end of the interval."""
        self._held = [what]
        self._count += 1
        if self._timer is None:
            self._pass_on()

    def flush(self) -> None:
        """Report now what is held back, and stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held:
            (what,), self._held = self._held, []
            others, self._count = self._count - 1, 0
            self._report(what, others)

    def _pass_on(self) -> None:
        self._timer = None
        if self._held:
            self.flush()
            self._timer = self._clock.callLater(_INTERVAL, self._pass_on)

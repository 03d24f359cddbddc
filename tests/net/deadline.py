"""Tells whether something ended in time, whatever else the machine was doing."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from kolus.support import steady

__all__ = ["Deadline"]

_RUNS = 1.0
"""Seconds for which this process must have run since it was stopped."""


class Deadline:
    """A block that is to end in time: a timer that is not to be called before it ends.

    It is on the clock of the pools' own timers, which are called in order. So it does not matter
    how late both are; and when this process was stopped, it is not called before it has run for a
    second.

    @ivar passed: whether the time came first.
    """

    def __init__(self, reactor: Any, seconds: float, late: Callable[[], object] = bool) -> None:
        """
        @param late: called when the time has come.
        """
        self.passed = False
        self._clock = steady(reactor)
        self._seconds = seconds
        self._late = late

    def __enter__(self) -> Deadline:
        self._call = self._clock.callLater(self._seconds, self._come)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._call.active():
            self._call.cancel()

    def _come(self) -> None:
        left = self._clock.resumed_at + _RUNS - self._clock.seconds()
        if left > 0.0:
            self._call = self._clock.callLater(left, self._come)
        else:
            self.passed = True
            self._late()

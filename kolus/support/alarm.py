"""C{Alarm}: one timer for many deadlines; it fires at the earliest, and its owner checks them."""

from __future__ import annotations

import math
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from kolus.support.steady import steady

__all__ = ["Alarm"]


class Alarm:
    """Calls C{ring} at the earliest time that was set. It may ring although nothing is due.

    Moving a timer for each deadline costs more than a check that finds nothing due. So an alarm
    only moves to an earlier time, and its owner sets it again when it rings. Times are those of the
    C{SteadyClock}.

    @ivar at: the clock time at which it rings; infinity while it is not set.
    """

    __slots__ = ("_call", "_clock", "_ring", "at")

    def __init__(self, clock: IReactorTime, ring: Callable[[], object]) -> None:
        self._clock = steady(clock)
        self._ring = ring
        self._call: IDelayedCall | None = None
        self.at = math.inf

    def set(self, at: float) -> None:
        """Ring at the time C{at} or earlier; in the next turn if that time is past."""
        if at >= self.at:
            return
        self.clear()
        self.at = at
        self._call = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._rings)

    def clear(self) -> None:
        """Stop the timer."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
            self.at = math.inf

    def _rings(self) -> None:
        self._call = None
        self.at = math.inf
        self._ring()

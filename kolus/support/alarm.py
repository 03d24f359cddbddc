"""One timer for many deadlines: it rings at the earliest, and its owner looks what is due."""

from __future__ import annotations

import math
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Alarm"]


class Alarm:
    """Calls C{ring} at the earliest time it was set to, perhaps once more than needed.

    Moving a timer for every deadline that comes and goes costs more than a pass that finds
    nothing due, so an alarm only moves to earlier times; its owner sets it again when it rings.

    @ivar at: when it rings, on the clock; infinity while it is not set.
    """

    __slots__ = ("_call", "_clock", "_ring", "at")

    def __init__(self, clock: IReactorTime, ring: Callable[[], object]) -> None:
        self._clock = clock
        self._ring = ring
        self._call: IDelayedCall | None = None
        self.at = math.inf

    def set(self, at: float) -> None:
        """Ring at C{at} at the latest, at once if that is past."""
        if at >= self.at:
            return
        self.clear()
        self.at = at
        self._call = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._rings)

    def clear(self) -> None:
        """Do not ring."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
            self.at = math.inf

    def _rings(self) -> None:
        self._call = None
        self.at = math.inf
        self._ring()

"""C{UnderWay}: connections for which something is under way, and when the oldest takes too long."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kolus.connection import Connection
    from kolus.support import SteadyClock

__all__ = ["UnderWay"]


class UnderWay(OrderedDict["Connection[Any]", float]):
    """Connections that are being made or checked, or are about to tell their slots, the oldest
    first. Each is with the time when that began, on the clock."""

    __slots__ = ("_clock",)

    def __init__(self, clock: SteadyClock) -> None:
        self._clock = clock

    def due_at(self, seconds: float) -> float:
        """When the oldest has taken so many seconds, on the clock; infinity if there is none. If
        the reactor was blocked, the time begins anew after that."""
        began = next(iter(self.values()), math.inf)
        return max(began, self._clock.resumed_at) + seconds

    def drop_due(self, now: float, seconds: float) -> None:
        """Forget those that have taken so many seconds."""
        while self.due_at(seconds) <= now:
            self.popitem(last=False)

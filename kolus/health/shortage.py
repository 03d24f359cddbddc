"""C{Shortage}: a fault of this machine prevents connects, and they pause for a short time.

Its state is the fault, when it began, how often connecting failed again after a pause, and until
when connects pause.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kolus.backoff import Backoff

if TYPE_CHECKING:
    from kolus.backoff import Rng
    from kolus.errors import MachineFault

__all__ = ["Shortage"]

_PAUSE = Backoff(first=0.1, factor=2.0, most=1.0)


class Shortage:
    """Connects pause while this machine lacks what they need; no backend is to blame.

    @ivar fault: the fault of the last attempt; C{None} if connecting works.
    @ivar until: the clock time from which the next attempt is allowed.
    """

    def __init__(self) -> None:
        self.fault: MachineFault | None = None
        self.until = -math.inf
        self._since = 0.0
        self._pauses = 0

    def failed(self, fault: MachineFault, now: float, rng: Rng) -> bool:
        """An attempt failed for it. What fails in the same pause counts once.

        @return: whether this is the first attempt that failed for it.
        """
        is_new = self.fault is None
        if is_new:
            self._since = now
        if now >= self.until:
            self._pauses += 1
            self.until = now + _PAUSE.delay(self._pauses, rng)
        self.fault = fault
        return is_new

    def over(self, now: float) -> float:
        """An attempt succeeded.

        @return: for how many seconds connecting had failed.
        """
        self.fault = None
        self.until = -math.inf
        self._pauses = 0
        return now - self._since

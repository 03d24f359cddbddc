"""C{Shortage}: a fault of this machine prevents connects, and they pause for a short time.

Its state is the fault, when it began and was last seen, the number of pauses since, and when the
present one and the one before it end.
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
    @ivar until: when the present pause ends, on the clock.
    @ivar number: the number of pauses in a row.
    """

    def __init__(self) -> None:
        self.fault: MachineFault | None = None
        self.until = -math.inf
        self.number = 0
        self._before = -math.inf
        self._since = self._last = 0.0

    def failed(self, fault: MachineFault, now: float, rng: Rng) -> bool:
        """An attempt failed for it. What fails in the same pause counts once.

        @return: whether this is the first attempt that failed for it.
        """
        is_new = self.fault is None
        if is_new:
            self._since = now
        if now >= self.until:
            self.number += 1
            before, self.until = self.until, now + _PAUSE.delay(self.number, rng)
            self._before = before if self.number > 1 else self.until
        self.fault = fault
        self._last = now
        return is_new

    def explains(self, began: float) -> bool:
        """Whether an attempt that began then, and was not answered, can have lacked this, too."""
        return self.fault is not None and began <= self._last

    def due_at(self, tried_in: int) -> float:
        """The clock time from which a backend's next attempt is allowed: the end of the pause. If
        it was not tried since the pause before, the end of that one. Else, where several backends
        are to be tried when a pause ends, the failure of the first would keep the others waiting
        for ever.

        @param tried_in: the number of the pause that the failure of its last attempt began, or was
            in; 0 if it did not fail because of this.
        """
        return self.until if tried_in == self.number else self._before

    def over(self, now: float) -> float:
        """An attempt succeeded.

        @return: for how many seconds connecting had failed.
        """
        self.fault = None
        self.until = -math.inf
        self._before = -math.inf
        self.number = 0
        return now - self._since

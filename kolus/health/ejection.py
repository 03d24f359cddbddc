"""C{Ejection}: when a backend is not chosen any more because of its health, and for how long."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kolus.support import check_seconds, check_whole

if TYPE_CHECKING:
    from kolus.backoff import Rng

__all__ = ["Ejection"]


@dataclass(frozen=True, slots=True)
class Ejection:
    """So many failures in a row eject a backend, for a time that doubles each time it fails again.

    Equal jitter: a time is uniform between half of its bound and the bound, so that a backend that
    is ejected is left alone for a while in any case; see Marc Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015.

    @raise ValueError: a number is out of its range.
    """

    failures: int = 5
    """How many failures in a row eject a backend."""
    first: float = 5.0
    """The bound of the first time, in seconds."""
    most: float = 300.0
    """The largest bound, in seconds."""
    slow_start: float = 0.0
    """Seconds in which a backend that is admitted again comes to its full weight."""

    def __post_init__(self) -> None:
        check_whole("failures", self.failures, 1)
        for name in ("first", "most", "slow_start"):
            check_seconds(name, getattr(self, name), optional=False)
        if self.slow_start == math.inf:
            raise ValueError(f"slow_start must end, not {self.slow_start!r}")
        if not 0 < self.first < math.inf:
            raise ValueError(f"first must be a number of seconds above 0, not {self.first!r}")
        if not self.first <= self.most < math.inf:
            raise ValueError(f"most must be at least first ({self.first}), not {self.most!r}")

    def time(self, ejections: int, rng: Rng) -> float:
        """How long the next ejection lasts, in seconds.

        @param ejections: how many there were in a row, this one included.
        """
        return self._bound(ejections) * (1 + rng.random()) / 2

    def is_longest(self, ejections: int) -> bool:
        """Whether no later one lasts longer than that one."""
        return self._bound(ejections) == self.most

    def _bound(self, ejections: int) -> float:
        return min(self.most, self.first * 2.0 ** min(ejections - 1, 60))

"""C{Ejection}: after how many failures a backend is ejected, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kolus.support import check_duration, check_seconds, check_whole

if TYPE_CHECKING:
    from kolus.backoff import Rng

__all__ = ["Ejection"]


@dataclass(frozen=True, slots=True)
class Ejection:
    """A number of failures in a row ejects a backend. The bound of the time doubles after each
    failed probe.

    It uses equal jitter: the time is uniform between half the bound and the bound, so an ejected
    backend is always left alone for a while. See Marc Brooker, "Exponential Backoff And Jitter",
    AWS Architecture Blog, 2015.

    @ivar failures: number of failures in a row that ejects a backend.
    @ivar first: the bound of the first ejection, in seconds.
    @ivar most: the largest bound, in seconds.
    @ivar slow_start: seconds in which the weight of a backend that is admitted again grows to its
        full value; 0.0: it has its full weight at once.
    @raise ValueError: a number is out of its range.
    """

    failures: int = 5
    first: float = 5.0
    most: float = 60.0
    slow_start: float = 0.0

    def __post_init__(self) -> None:
        check_whole("failures", self.failures, 1)
        check_duration("first", self.first)
        check_duration("most", self.most)
        check_seconds("slow_start", self.slow_start, optional=False, endless=False)
        if self.most < self.first:
            raise ValueError(f"most must be at least first ({self.first}), not {self.most!r}")

    def time(self, ejections: int, rng: Rng) -> float:
        """The length of an ejection, in seconds.

        @param ejections: number of ejections in a row, including this one.
        """
        return self._bound(ejections) * (1 + rng.random()) / 2

    def is_longest(self, ejections: int) -> bool:
        """Whether the bound of that ejection is the largest already."""
        return self._bound(ejections) == self.most

    def _bound(self, ejections: int) -> float:
        return min(self.most, self.first * 2.0 ** min(ejections - 1, 60))

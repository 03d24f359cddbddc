"""C{Histogram}: counts durations in buckets, as Prometheus does."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

__all__ = ["LONG", "SHORT", "Histogram"]

SHORT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds in seconds for waits, connects and leases."""

LONG = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0)
"""Bounds in seconds for whole sessions."""


class Histogram:
    """Durations, of which only the number in each bucket and the sum are kept.

    @ivar bounds: the upper bounds of the buckets, but for the last bucket, which has none.
    @ivar counts: the number of values in each bucket.
    @ivar sum: all values added up.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = SHORT) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    @property
    def count(self) -> int:
        return sum(self.counts)

    def cumulative(self) -> list[tuple[str, int]]:
        """Each bound as text, the last as C{+Inf}, with the number of values up to it."""
        found, total = [], 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            found.append((bound, total))
        return found

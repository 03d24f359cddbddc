"""C{Backoff}: the delays between attempts after failures, as pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Backoff", "Rng"]


class Rng(Protocol):
    """A source of random numbers: a C{random.Random}, or the module C{random} itself."""

    def random(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with full jitter: a delay is uniform between 0 and the bound.

    Full jitter spreads the attempts of many clients best and causes the fewest attempts; see
    Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    @ivar first: the bound after one failure, in seconds.
    @ivar factor: the factor by which the bound grows with each failure in a row.
    @ivar most: the largest bound, in seconds.
    @raise ValueError: a number is out of its range.
    """

    first: float = 0.25
    factor: float = 2.0
    most: float = 2.0

    def __post_init__(self) -> None:
        for name in ("first", "factor", "most"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name} must be a number, not {value!r}")
        if not 0 < self.first < math.inf:
            raise ValueError(f"first must be a number of seconds above 0, not {self.first!r}")
        if not 1 <= self.factor < math.inf:
            raise ValueError(f"factor must be a number of at least 1, not {self.factor!r}")
        if not self.first <= self.most < math.inf:
            raise ValueError(f"most must be at least first ({self.first}), not {self.most!r}")

    def bound(self, failures: int) -> float:
        """The longest delay in seconds after so many failures in a row (at least 1)."""
        try:
            return min(self.most, self.first * self.factor ** (failures - 1))
        except OverflowError:
            return self.most

    def delay(self, failures: int, rng: Rng) -> float:
        """The delay before the next attempt, in seconds; always above 0."""
        return (1 - rng.random()) * self.bound(failures)

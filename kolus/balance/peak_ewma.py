"""The quicker of two backends: by how long leases have been held there lately, and how many are.

The state of a C{PeakEwma} is one estimate for each backend that it has observed, by its key, those
observed last at the end. C{observe} changes them, and drops those that are too old to count.
"""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.backoff import Rng
    from kolus.status import Status

__all__ = ["PeakEwma", "peak_ewma"]

_PAIRS = 8
"""How often two are drawn of which neither takes requests; as in C{pick_two}."""

_MOST_DECAYS = 10.0
"""An estimate counts for so many time constants; it has shrunk to 1/22026 of itself then."""

_LEAST = 1e-6
"""No estimate is less, in seconds, or load would not matter."""

_PENALTY = 1e12
"""In seconds: longer than any estimate."""


def peak_ewma(clock: IReactorTime, rng: Rng = random, decay: float = 10.0) -> PeakEwma:
    """A balancer that draws two backends and takes the one expected to serve sooner.

    @param clock: a reactor.
    @param rng: draws.
    @param decay: time constant, in seconds, with which an estimate falls.
    @raise ValueError: C{decay} is no number of seconds above 0.
    """
    return PeakEwma(clock, rng, decay)


class PeakEwma:
    """What a request costs at a backend: an estimate of its latency, times the load it meets.

    The estimate rises at once to a higher latency, and falls exponentially: towards a lower one,
    or towards 0 while there is none, so that a backend which was slow once is tried again. A
    backend without an estimate costs nothing while nothing is out or waits there, which gets it
    tried; while something does, more than any other. After Finagle's C{PeakEwma} (Twitter, Apache
    licence), whose look at an estimate is an observation of 0 as well; here a look changes nothing,
    and an estimate ten time constants old counts as none.

    A backend that fails quickly looks quick: keep failing ones out by their health.
    """

    __slots__ = ("__weakref__", "_clock", "_decay", "_estimates", "_rng")

    def __init__(self, clock: IReactorTime, rng: Rng = random, decay: float = 10.0) -> None:
        if isinstance(decay, bool) or not isinstance(decay, int | float):
            raise ValueError(f"decay must be a number of seconds, not {decay!r}")
        if not 0 < decay < math.inf:
            raise ValueError(f"decay must be a number of seconds above 0, not {decay!r}")
        self._clock = clock
        self._rng = rng
        self._decay = decay
        self._estimates: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __call__(self, statuses: Sequence[Status]) -> Status:
        count = len(statuses)
        if count == 1:
            return statuses[0]
        draw = self._rng.random
        now = self._clock.seconds()
        for _ in range(_PAIRS):
            first = int(draw() * count)
            second = int(draw() * (count - 1))
            if second >= first:
                second += 1
            one, other = statuses[first], statuses[second]
            cost, other_cost = self._cost(one, now), self._cost(other, now)
            if other_cost < cost:
                return other
            if cost < math.inf or count == 2:
                return one
        return one if count > 2 * _PAIRS else min(statuses, key=lambda each: self._cost(each, now))

    def observe(self, backend: Backend, seconds: float) -> None:
        """Take note of how long a backend took to serve.

        @param seconds: less than 0, from a clock that was set back, counts as 0.
        @raise ValueError: C{seconds} is not finite.
        """
        if not math.isfinite(seconds):
            raise ValueError(f"a latency must be a finite number of seconds, not {seconds!r}")
        now = self._clock.seconds()
        estimate = max(seconds, _LEAST)
        known = self._estimates.get(backend.key)
        if known is not None and known[0] > estimate:
            kept = math.exp(-max(now - known[1], 0.0) / self._decay)
            estimate = known[0] * kept + estimate * (1 - kept)
        self._estimates[backend.key] = (estimate, now)
        self._estimates.move_to_end(backend.key)
        self._forget(now - _MOST_DECAYS * self._decay)

    def _forget(self, before: float) -> None:
        """Drop the two oldest estimates, if they are older; two, so that they become fewer."""
        for _ in range(2):
            oldest = next(iter(self._estimates))
            if self._estimates[oldest][1] >= before:
                break
            del self._estimates[oldest]

    def _cost(self, status: Status, now: float) -> float:
        load = status.load
        if load == math.inf:
            return load
        known = self._estimates.get(status.backend.key)
        if known is not None:
            age = max(now - known[1], 0.0) / self._decay
            if age <= _MOST_DECAYS:
                return known[0] * math.exp(-age) * load
        requests = load * status.backend.weight * status.ramp  # this one, and those there now
        return _PENALTY * load if requests > 1.5 else 0.0

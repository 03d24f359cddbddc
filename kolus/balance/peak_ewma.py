"""C{peak_ewma}: draws two backends and takes the one with the lower latency times load.

The state is one latency estimate for each observed backend, by its key, the latest
observation last. C{observe} changes the estimates, and drops those that are too old.
"""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from kolus.balance.candidates import two_of
from kolus.balance.pick_two import DRAWS
from kolus.support import check_duration, steady

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.backoff import Rng
    from kolus.balance.balancer import Balancer
    from kolus.status import Status

__all__ = ["peak_ewma"]

_MOST_DECAYS = 10.0
"""Number of time constants after which an estimate is ignored; it is then 1/22026 of itself."""

_MIN_ESTIMATE = 1e-6
"""The least estimate, in seconds. With an estimate of 0 the load would not matter."""

_PENALTY = 1e12
"""More seconds than any estimate."""


def peak_ewma(clock: IReactorTime, rng: Rng = random, decay: float = 10.0) -> Balancer:
    """A balancer that draws two backends and takes the one that should serve sooner.

    @param clock: the reactor, or a C{Clock}.
    @param rng: source of the draws.
    @param decay: time constant of the estimates' decay, in seconds.
    @raise ValueError: C{decay} is not a number of seconds above 0.
    """
    return _PeakEwma(clock, rng, decay)


class _PeakEwma:
    """Compares backends by cost: the estimated latency times the load.

    An estimate rises at once to a higher latency. It falls exponentially towards a lower latency,
    or towards 0 without observations, so a backend that was slow once is tried again. A backend
    without an estimate has cost 0 while it has no lease and no waiter, so it is tried; with one its
    cost is higher than any other.

    It follows Finagle's C{PeakEwma} (Twitter, Apache licence) with one difference: there, reading
    an estimate also counts as an observation of 0. Here reading changes nothing, and an estimate
    older than ten time constants is ignored.

    A backend that fails fast has a low latency: let C{Ejection} keep failing backends out.
    """

    __slots__ = ("__weakref__", "_clock", "_decay", "_estimates", "_rng")

    def __init__(self, clock: IReactorTime, rng: Rng, decay: float) -> None:
        check_duration("decay", decay)
        self._clock = steady(clock)
        self._rng = rng
        self._decay = decay
        self._estimates: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __call__(self, statuses: Sequence[Status]) -> Status:
        count = len(statuses)
        if count == 1:
            return statuses[0]
        draw = self._rng.random
        now = self._clock.seconds()
        for _ in range(DRAWS):
            first, second = two_of(draw, count)
            one, other = statuses[first], statuses[second]
            cost, other_cost = self._cost(one, now), self._cost(other, now)
            if other_cost < cost:
                return other
            if cost < math.inf or count == 2:
                return one
        return one if count > 2 * DRAWS else min(statuses, key=lambda each: self._cost(each, now))

    def observe(self, backend: Backend, seconds: float) -> None:
        """Update the estimate of a backend.

        @param seconds: the latency. A negative one, from a clock that was set back, counts as 0.
        @raise ValueError: C{seconds} is not finite.
        """
        if not math.isfinite(seconds):
            raise ValueError(f"a latency must be a finite number of seconds, not {seconds!r}")
        now = self._clock.seconds()
        estimate = max(seconds, _MIN_ESTIMATE)
        known = self._estimates.get(backend.key)
        if known is not None and known[0] > estimate:
            kept = math.exp(-max(now - known[1], 0.0) / self._decay)
            estimate = known[0] * kept + estimate * (1 - kept)
        self._estimates[backend.key] = (estimate, now)
        self._estimates.move_to_end(backend.key)
        self._forget(now - _MOST_DECAYS * self._decay)

    def _forget(self, before: float) -> None:
        """Drop the two oldest estimates if they are too old. Two, so that the number can shrink."""
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
        requests = load * status.backend.weight * status.ramp  # the present ones and this one
        return _PENALTY * load if requests > 1.5 else 0.0

"""C{round_robin}: takes backends in turn, in proportion to their weights, without bursts.

The state, changed only by C{__call__} and the methods that it calls:

  - C{_index}: the index in the list at which the sweep continues;
  - C{_heaviest}: the largest weight in the last sweep, and C{_max_seen} that of this sweep;
  - C{_credits}: the credits of the lighter backends in this sweep, and C{_old_credits} those of the
    sweep before, so a backend that has left is forgotten after two sweeps;
  - C{_phase}: the first credit of the next new backend;
  - C{_rng}: draws the start of the first sweep.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kolus.balance.candidates import by_load, lowest

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.backoff import Rng
    from kolus.balance.balancer import Balancer
    from kolus.status import Status

__all__ = ["round_robin"]

_MOST_LOOKS = 64
"""The most backends to look at for one request. It is reached if 64 in a row take no requests, if
the heaviest has just left, or if it weighs more than 64 times the others. In the last case the
others get more than their share: of each 64, one is taken in each sweep."""

_FIRST_LOOKS = 16
"""Number of backends in which to search the heaviest, once, before the first sweep. In a longer
list, a backend may count as the heaviest at its first visit although a heavier one comes later."""

_GOLDEN = 0.6180339887498949
"""The fractional parts of any number of its multiples are evenly spread from 0 to 1: Donald Knuth,
"The Art of Computer Programming", volume 3, section 6.4, theorem S."""


def round_robin(rng: Rng | None = None) -> Balancer:
    """A balancer that takes the backends in turn and skips those that take no requests.

    With equal weights it is an exact rotation. With other weights each backend gets its share of
    the requests, without bursts; in slow start the weight of a backend is lower. The number of
    statuses to look at depends on the weights (the heaviest divided by the mean), not on the number
    of backends. It is at most 64, so shares are exact if no weight is more than 64 times another.

    @param rng: draws the first backend, so that many processes with the same list do not all begin
        with the same one. C{None}: begin with the first in the list.
    """
    return _RoundRobin(rng)


class _RoundRobin:
    """Sweeps over the list again and again.

    At each visit a backend earns a credit: its weight divided by the heaviest weight. A backend
    with a whole credit is taken, and pays one. So no backend is taken twice in one sweep, which
    avoids the bursts of deficit round robin (M. Shreedhar and George Varghese, "Efficient Fair
    Queuing using Deficit Round Robin", 1995); otherwise this is the same. Lighter backends begin
    with different fractions of a credit, or all would be taken in the same sweep.
    """

    __slots__ = ("_credits", "_heaviest", "_index", "_max_seen", "_old_credits", "_phase", "_rng")

    def __init__(self, rng: Rng | None) -> None:
        self._rng = rng
        self._index = 0
        self._heaviest = self._max_seen = 0.0
        self._credits: dict[Backend, float] = {}
        self._old_credits: dict[Backend, float] = {}
        self._phase = 0.0

    def __call__(self, statuses: Sequence[Status]) -> Status:
        count = len(statuses)
        if not self._heaviest:
            self._begin(statuses)
        unavailable: Status | None = None
        best: Status | None = None
        most = 0.0
        for looks in range(_MOST_LOOKS):
            status = statuses[self._next(count)]
            if status.load == math.inf:
                unavailable = status if unavailable is None else unavailable
                if looks + 1 >= count and best is None:
                    break
                continue
            weight = _weight(status)
            if weight >= self._heaviest:  # earns a whole credit at each visit: no need to count
                self._heaviest = self._max_seen = weight
                return status
            credit = self._earn(status.backend, weight)
            if credit >= 1:
                self._credits[status.backend] = credit - 1
                return status
            if best is None or credit > most:
                best, most = status, credit
        if best is not None:  # it goes into debt, at most one credit
            self._credits[best.backend] = max(self._credit(best.backend) - 1, -1.0)
            return best
        assert unavailable is not None
        return self._all_unavailable(statuses, unavailable)

    def _begin(self, statuses: Sequence[Status]) -> None:
        if self._rng is not None:
            self._index = int(self._rng.random() * len(statuses))
            self._rng = None
        first = [statuses[at] for at in range(min(len(statuses), _FIRST_LOOKS))]
        self._heaviest = max([_weight(each) for each in first if each.load < math.inf], default=0.0)

    def _next(self, count: int) -> int:
        at = self._index
        if at >= count:
            at = 0
            self._heaviest, self._max_seen = self._max_seen or self._heaviest, 0.0
            self._credits, self._old_credits = {}, self._credits
        self._index = at + 1
        return at

    def _earn(self, backend: Backend, weight: float) -> float:
        if weight > self._max_seen:
            self._max_seen = weight
        credit = self._credit(backend) + weight / self._heaviest
        self._credits[backend] = credit
        return credit

    def _credit(self, backend: Backend) -> float:
        credit = self._credits.get(backend)
        if credit is None:
            credit = self._old_credits.get(backend)
        if credit is None:
            credit = self._phase = (self._phase + _GOLDEN) % 1
        return credit

    def _all_unavailable(self, statuses: Sequence[Status], first: Status) -> Status:
        """No visited backend takes requests: return the first, and continue behind it next time.

        If the list is longer than the visits, any backend that takes requests is returned instead.
        """
        count = len(statuses)
        if count > _MOST_LOOKS:
            found = lowest(statuses, by_load)
            if found.load < math.inf:
                return found
        self._index = (self._index - min(count, _MOST_LOOKS)) % count + 1
        return first


def _weight(status: Status) -> float:
    return status.backend.weight * status.ramp

"""Backends in turn, each as often as its weight says, and spread out rather than in bursts.

The state of a C{RoundRobin} is C{_at}, where its sweep goes on; C{_heaviest}, the largest weight of
the last sweep, and C{_rising}, that of this one so far; and the credits of backends that are not
the heaviest: C{_credits} those looked at in this sweep, C{_earlier} those of the sweep before, so
that a backend that has gone is forgotten after two. C{_phase} is where the next new one begins, and
C{_rng} draws where the first sweep does. Only C{__call__}, and what it calls, changes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from kolus.balance.candidates import Rank, lowest

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.backoff import Rng
    from kolus.balance.balancer import Balancer
    from kolus.status import Status

__all__ = ["RoundRobin", "round_robin"]

_MOST_LOOKS = 64
"""How many backends are looked at for one request: so many where as many in a row take no requests,
where the heaviest backend has just gone, or where it weighs more than so many times what others do.
These get more than their share then: one of each 64 is taken in each sweep."""

_FIRST_LOOKS = 16
"""How many backends are looked at once, for the heaviest of them, before the first sweep. Of more,
those lighter than one further on are taken at the first visit as if they were the heaviest."""

_GOLDEN = 0.6180339887498949
"""Its multiples, less their whole part, fill an interval evenly, however many there are: Donald
Knuth, "The Art of Computer Programming", volume 3, section 6.4, theorem S."""

_by_load: Rank = attrgetter("load")


def round_robin(rng: Rng | None = None) -> Balancer:
    """A balancer that takes the backends in turn, passing over those that take no requests.

    Among equal weights that is the exact rotation. Others get their share of the requests, spread
    out; while a backend starts slowly its weight is less. How many statuses it looks at depends on
    the weights (the heaviest over the mean), and not on how many backends there are; it is 64 at
    most, so that shares are exact while no backend outweighs another by more than that.

    @param rng: draws the backend that it begins with, so that many processes with one list do not
        all begin with the same one; with the first if C{None}.
    """
    return RoundRobin(rng)


class RoundRobin:
    """A sweep over the list. Whom it comes by earns its weight over the heaviest; who has a whole
    credit is taken and pays it.

    So no backend is taken twice in one sweep, which spreads them out; in a deficit round robin (M.
    Shreedhar and George Varghese, "Efficient Fair Queuing using Deficit Round Robin", 1995), which
    this is otherwise, a heavy one is served in a burst. The light ones begin with a part of a
    credit, each with another, or all would be taken in the same sweep.
    """

    __slots__ = ("_at", "_credits", "_earlier", "_heaviest", "_phase", "_rising", "_rng")

    def __init__(self, rng: Rng | None = None) -> None:
        self._rng = rng
        self._at = 0
        self._heaviest = self._rising = 0.0
        self._credits: dict[Backend, float] = {}
        self._earlier: dict[Backend, float] = {}
        self._phase = 0.0

    def __call__(self, statuses: Sequence[Status]) -> Status:
        count = len(statuses)
        if not self._heaviest:
            self._look_ahead(statuses)
        unfit: Status | None = None
        richest: Status | None = None
        most = 0.0
        for looks in range(_MOST_LOOKS):
            status = statuses[self._next(count)]
            if status.load == math.inf:
                unfit = status if unfit is None else unfit
                if looks + 1 >= count and richest is None:
                    break
                continue
            weight = _weight(status)
            if weight >= self._heaviest:  # a whole credit at each visit: there is nothing to count
                self._heaviest = self._rising = weight
                return status
            credit = self._earn(status.backend, weight)
            if credit >= 1:
                self._credits[status.backend] = credit - 1
                return status
            if richest is None or credit > most:
                richest, most = status, credit
        if richest is not None:  # it runs into debt, as far as that goes
            self._credits[richest.backend] = max(self._credit(richest.backend) - 1, -1.0)
            return richest
        assert unfit is not None
        return self._among_unfit(statuses, unfit)

    def _look_ahead(self, statuses: Sequence[Status]) -> None:
        if self._rng is not None:
            self._at = int(self._rng.random() * len(statuses))
            self._rng = None
        first = [statuses[at] for at in range(min(len(statuses), _FIRST_LOOKS))]
        self._heaviest = max([_weight(each) for each in first if each.load < math.inf], default=0.0)

    def _next(self, count: int) -> int:
        at = self._at
        if at >= count:
            at = 0
            self._heaviest, self._rising = self._rising or self._heaviest, 0.0
            self._credits, self._earlier = {}, self._credits
        self._at = at + 1
        return at

    def _earn(self, backend: Backend, weight: float) -> float:
        if weight > self._rising:
            self._rising = weight
        credit = self._credit(backend) + weight / self._heaviest
        self._credits[backend] = credit
        return credit

    def _credit(self, backend: Backend) -> float:
        credit = self._credits.get(backend)
        if credit is None:
            credit = self._earlier.get(backend)
        if credit is None:
            credit = self._phase = (self._phase + _GOLDEN) % 1
        return credit

    def _among_unfit(self, statuses: Sequence[Status], first: Status) -> Status:
        """Of those looked at none takes requests. The next request begins behind the first."""
        count = len(statuses)
        if count > _MOST_LOOKS:
            found = lowest(statuses, _by_load)
            if found.load < math.inf:
                return found
        self._at = (self._at - min(count, _MOST_LOOKS)) % count + 1
        return first


def _weight(status: Status) -> float:
    return status.backend.weight * status.ramp

"""Balancers: plain callables that choose one C{Status} out of a sequence of them.

Health comes before load: what takes no requests is chosen only if nothing else could be found.
Where no manager runs yet nothing is leased and nothing waits, and the whole limit is unused.

The sequence is lazy, and making a status costs something: a balancer that looks at two pays for
two. What looks for the lowest of all is quick in a group, which keeps an index; of any other
sequence it looks at each. No balancer asks twice for the status that it returns, if that takes
requests.

Besides being called, a balancer may have an attribute C{bound} (C{True}: the request may be served
by the backend chosen and by no other), an attribute C{prefers} (C{True}: rather than with what is
idle elsewhere the request is served with a new connection to the backend chosen, if that may make
one), and a method C{observe}, which hears how long each lease was held: see C{kolus.consistent} and
C{kolus.peak_ewma}.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter

from twisted.internet.interfaces import IReactorTime

from kolus.backend import Status
from kolus.backoff import Rng
from kolus.candidates import Rank, in_zone, lighter, lowest
from kolus.consistent import Consistent, Ring, consistent
from kolus.peak_ewma import PeakEwma, peak_ewma
from kolus.round_robin import RoundRobin, round_robin

__all__ = [
    "NAMES",
    "Balancer",
    "Consistent",
    "PeakEwma",
    "Ring",
    "RoundRobin",
    "consistent",
    "fill_first",
    "idle_first",
    "least_leased",
    "peak_ewma",
    "pick_two",
    "prefer_zone",
    "round_robin",
    "usable",
]

Balancer = Callable[[Sequence[Status]], Status]

_PAIRS = 8
"""How often two are drawn of which neither takes requests. With half of the backends ejected, the
most that there can be, this fails once in 65 536 requests."""


def fill_first(statuses: Sequence[Status]) -> Status:
    """The first backend, in the order given, that can serve without a queue.

    When all are full: the one with the fewest waiting.
    """
    return _soonest(statuses, _by_queue)


def idle_first(statuses: Sequence[Status]) -> Status:
    """The first backend that has a connection ready; if none has, the least leased one."""
    return _soonest(statuses, _by_readiness)


def least_leased(statuses: Sequence[Status]) -> Status:
    """The backend with the fewest leased and waiting for its weight; the first of equals."""
    return lowest(statuses, _by_load)


def pick_two(rng: Rng = random) -> Balancer:
    """A balancer that draws two backends and takes the less loaded one.

    Nearly as even as looking at all of them, at the cost of looking at two: Michael Mitzenmacher,
    "The Power of Two Choices in Randomized Load Balancing", 2001. If neither takes requests it
    draws again, up to 8 times; what it has then is the answer, unless there are so few backends
    that looking at each costs no more.
    """
    draw = rng.random

    def less_loaded_of_two(statuses: Sequence[Status]) -> Status:
        count = len(statuses)
        if count == 1:
            return statuses[0]
        look = getattr(statuses, "lighter", None) or partial(lighter, statuses)
        for _ in range(_PAIRS):
            first = int(draw() * count)
            second = int(draw() * (count - 1))
            if second >= first:
                second += 1
            chosen: Status | None = look(first, second)
            if chosen is not None:
                return chosen
            if count == 2:
                break
        return min(statuses, key=_by_load) if 2 < count <= 2 * _PAIRS else statuses[first]

    return less_loaded_of_two


def prefer_zone(zone: str, then: Balancer | None = None) -> Balancer:
    """A balancer that chooses in one zone for as long as something there takes requests.

    @param zone: the C{zone} of the backends that are preferred.
    @param then: chooses among them, and among all if they take no requests; C{pick_two()} if
        C{None}. Its attributes C{bound} and C{observe}, if it has them, are the result's too.
    """
    choose = pick_two() if then is None else then

    def nearest(statuses: Sequence[Status]) -> Status:
        near = in_zone(statuses, zone)
        if len(near):
            chosen = choose(near)
            if chosen.takes_requests:
                return chosen
        return choose(statuses)

    for name in ("bound", "observe"):
        if hasattr(choose, name):
            setattr(nearest, name, getattr(choose, name))
    nearest.prefers = True  # type: ignore[attr-defined]
    return nearest


def usable(balancer: Balancer) -> Balancer:
    """
    @raise TypeError: it cannot be called.
    """
    if not callable(balancer):
        raise TypeError(f"balancer must be callable with statuses, not {balancer!r}")
    return balancer


NAMES: dict[str, Callable[[IReactorTime], Balancer]] = {
    "fill_first": lambda clock: fill_first,
    "idle_first": lambda clock: idle_first,
    "least_leased": lambda clock: least_leased,
    "peak_ewma": lambda clock: peak_ewma(clock),
    "pick_two": lambda clock: pick_two(),
    "round_robin": lambda clock: round_robin(random),
}
"""Each balancer's name, as a command line gives it, and what makes a new one for a reactor."""


# Ranks. A group keeps an index for each, so a rank is one object. A live status looks up what it is
# asked for, its load at the least cost: so that is asked for first, and nothing twice.

_by_load: Rank = attrgetter("load")

_BEST = (0, 0.0)


def _by_queue(status: Status) -> tuple[int, float]:
    if status.load == math.inf:
        return (2, 0.0)
    return _BEST if status.room > 0 else (1, status.waiting)


def _by_readiness(status: Status) -> tuple[int, float]:
    load = status.load
    return _BEST if load < math.inf and status.idle and not status.waiting else (1, load)


def _soonest(statuses: Sequence[Status], rank: Rank) -> Status:
    """The one of the lowest rank. Without an index the search ends where there can be no better."""
    if hasattr(statuses, "lowest"):
        return lowest(statuses, rank)
    soonest = statuses[0]
    best = rank(soonest)
    for at in range(1, len(statuses)):
        if best == _BEST:
            break
        status = statuses[at]
        its = rank(status)
        if its < best:
            soonest, best = status, its
    return soonest

"""Queries that a balancer may make about a sequence of statuses, and how it draws two of them.

A group's sequence answers them from indices, by methods of these names. For any other sequence the
functions here look at each status.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeGuard

from kolus.status import Status

if TYPE_CHECKING:
    from kolus.backend import Backend

__all__ = [
    "Rank",
    "another",
    "backends_of",
    "by_load",
    "has_own",
    "in_zone",
    "lighter",
    "lighter_of",
    "lowest",
    "total_load",
    "two_of",
    "whole_of",
]

Rank = Callable[[Status], Any]
"""Ranks a backend by its status alone; the lowest rank is chosen first. A group keeps one index for
each rank object. A live status computes each attribute when it is read; C{load} costs the least. So
a rank reads C{load} first, and nothing twice. It must not read C{unused} or C{room}: no index is
told when the limit of the pool changes these."""

by_load: Rank = attrgetter("load")


def two_of(draw: Callable[[], float], count: int) -> tuple[int, int]:
    """Draw two different numbers below C{count}, which is at least 2.

    @param draw: draws a number from 0 to 1, without the latter.
    """
    first = int(draw() * count)
    second = int(draw() * (count - 1))
    return first, second if second < first else second + 1


def another(draw: Callable[[], float], count: int, first: int) -> int:
    """Draw the second of C{two_of}, if the first was drawn."""
    second = int(draw() * (count - 1))
    return second if second < first else second + 1


def has_own(statuses: Sequence[Status], name: str) -> TypeGuard[Any]:
    """Whether a sequence answers a query by itself. What wraps a group's sequence, to leave some
    out for example, may have the attributes of that by a C{__getattr__}. They are not its own."""
    return hasattr(type(statuses), name) or name in getattr(statuses, "__dict__", ())


def whole_of(statuses: Sequence[Status]) -> tuple[Sequence[Status], Collection[int]]:
    """The sequence that C{statuses} is a part of, and the positions in it that are left out.

    That is C{statuses} itself and none, if it is not a part of another sequence.
    """
    if has_own(statuses, "whole"):
        whole: tuple[Sequence[Status], Collection[int]] = statuses.whole
        return whole
    return statuses, ()


def lighter(statuses: Sequence[Status], first: int, second: int) -> Status | None:
    """The less loaded status of those at two positions, the first if they are equal.

    C{None} if neither takes requests.
    """
    if has_own(statuses, "lighter"):
        found: Status | None = statuses.lighter(first, second)
        return found
    return lighter_of(statuses[first], statuses[second])


def lighter_of(one: Status, other: Status) -> Status | None:
    """The same of two statuses."""
    load, other_load = one.load, other.load
    if other_load < load:
        return other
    return one if load < math.inf else None


def lowest(statuses: Sequence[Status], rank: Rank) -> Status:
    """The status with the lowest rank, the first of equals."""
    if has_own(statuses, "lowest"):
        found: Status = statuses.lowest(rank)
        return found
    return min(statuses, key=rank)


def in_zone(statuses: Sequence[Status], zone: str) -> Sequence[Status]:
    """The statuses of the backends in a zone, in their order."""
    if has_own(statuses, "in_zone"):
        near: Sequence[Status] = statuses.in_zone(zone)
        return near
    return [each for each in statuses if each.backend.zone == zone]


def backends_of(statuses: Sequence[Status]) -> tuple[Backend, ...]:
    """The backends, in their order. A group returns the same tuple until its backends change."""
    if has_own(statuses, "backends"):
        backends: tuple[Backend, ...] = statuses.backends
        return backends
    return tuple([each.backend for each in statuses])


def total_load(statuses: Sequence[Status]) -> float:
    """The number of leases and waiters at all backends together."""
    if has_own(statuses, "total_load"):
        total: float = statuses.total_load
        return total
    return sum([each.leased + each.waiting for each in statuses])

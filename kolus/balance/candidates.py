"""Queries that a balancer may make about a sequence of statuses.

A group answers them from indices. For any other sequence the functions here look at each status.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from kolus.status import Status

if TYPE_CHECKING:
    from kolus.backend import Backend

__all__ = [
    "Rank",
    "backends_of",
    "in_zone",
    "lighter",
    "lowest",
    "total_load",
    "whole_of",
]

Rank = Callable[[Status], Any]
"""Ranks a backend by its status alone; the lowest rank is chosen first."""


def whole_of(statuses: Sequence[Status]) -> tuple[Sequence[Status], Collection[int]]:
    """The sequence that C{statuses} is a part of, and the positions in it that are left out.

    That is C{statuses} itself and none, if it is not a part of another sequence.
    """
    if hasattr(statuses, "whole"):
        whole: tuple[Sequence[Status], Collection[int]] = statuses.whole
        return whole
    return statuses, ()


def lighter(statuses: Sequence[Status], first: int, second: int) -> Status | None:
    """The less loaded status of those at two positions, the first if they are equal.

    C{None} if neither takes requests. A group's sequence has a faster method of the same name.
    """
    one, other = statuses[first], statuses[second]
    load, other_load = one.load, other.load
    if other_load < load:
        return other
    return one if load < math.inf else None


def lowest(statuses: Sequence[Status], rank: Rank) -> Status:
    """The status with the lowest rank, the first of equals."""
    if hasattr(statuses, "lowest"):
        found: Status = statuses.lowest(rank)
        return found
    return min(statuses, key=rank)


def in_zone(statuses: Sequence[Status], zone: str) -> Sequence[Status]:
    """The statuses of the backends in a zone, in their order."""
    if hasattr(statuses, "in_zone"):
        near: Sequence[Status] = statuses.in_zone(zone)
        return near
    return [each for each in statuses if each.backend.zone == zone]


def backends_of(statuses: Sequence[Status]) -> tuple[Backend, ...]:
    """The backends, in their order. A group returns the same tuple until its backends change."""
    if hasattr(statuses, "backends"):
        backends: tuple[Backend, ...] = statuses.backends
        return backends
    return tuple([each.backend for each in statuses])


def total_load(statuses: Sequence[Status]) -> float:
    """The number of leases and waiters at all backends together."""
    if hasattr(statuses, "total_load"):
        total: float = statuses.total_load
        return total
    return sum([each.leased + each.waiting for each in statuses])

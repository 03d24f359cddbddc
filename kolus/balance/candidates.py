"""What a balancer may ask of the statuses it chooses from, beyond what any sequence can tell.

A group answers these without looking at all of its backends; of any other sequence they are found
out by looking at each.
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
"""Tells how soon a backend is to be chosen: the lowest first. It depends on the status alone."""


def whole_of(statuses: Sequence[Status]) -> tuple[Sequence[Status], Collection[int]]:
    """What these are a part of, and the places in it that are left out; these, if of nothing."""
    if hasattr(statuses, "whole"):
        whole: tuple[Sequence[Status], Collection[int]] = statuses.whole
        return whole
    return statuses, ()


def lighter(statuses: Sequence[Status], first: int, second: int) -> Status | None:
    """Of those at two places the one with the lower load, the first of equals; C{None} if neither
    takes requests. What has a method of this name is quicker at it."""
    one, other = statuses[first], statuses[second]
    load, other_load = one.load, other.load
    if other_load < load:
        return other
    return one if load < math.inf else None


def lowest(statuses: Sequence[Status], rank: Rank) -> Status:
    """The status of the lowest rank, the first of equals."""
    if hasattr(statuses, "lowest"):
        found: Status = statuses.lowest(rank)
        return found
    return min(statuses, key=rank)


def in_zone(statuses: Sequence[Status], zone: str) -> Sequence[Status]:
    """Those of a zone, in their order."""
    if hasattr(statuses, "in_zone"):
        near: Sequence[Status] = statuses.in_zone(zone)
        return near
    return [each for each in statuses if each.backend.zone == zone]


def backends_of(statuses: Sequence[Status]) -> tuple[Backend, ...]:
    """The backends, in their order: of a group the same object for as long as they are the same."""
    if hasattr(statuses, "backends"):
        backends: tuple[Backend, ...] = statuses.backends
        return backends
    return tuple([each.backend for each in statuses])


def total_load(statuses: Sequence[Status]) -> float:
    """How many leases are out and requests wait at all of them together."""
    if hasattr(statuses, "total_load"):
        total: float = statuses.total_load
        return total
    return sum([each.leased + each.waiting for each in statuses])

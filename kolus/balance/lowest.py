"""Balancers that choose the backend with the lowest rank: by queue, idle connections, or load."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kolus.balance.candidates import Rank, by_load, has_own, lowest

if TYPE_CHECKING:
    from kolus.status import Status

__all__ = ["fill_first", "idle_first", "least_leased"]

_BEST = (0, 0.0)


def fill_first(statuses: Sequence[Status]) -> Status:
    """The first backend, in the given order, with fewer leases and waiters than its limit.

    If there is none, the one with the fewest waiters.
    """
    return _soonest(statuses, _by_queue)


def idle_first(statuses: Sequence[Status]) -> Status:
    """The first backend with an idle connection and no waiters; else the least loaded one."""
    return _soonest(statuses, _by_readiness)


def least_leased(statuses: Sequence[Status]) -> Status:
    """The backend with the fewest leases and waiters for its weight; the first of equals."""
    return lowest(statuses, by_load)


def _by_queue(status: Status) -> tuple[int, float]:
    if status.load == math.inf:
        return (2, 0.0)
    # Not by its room: the pool's limit binds all alike, and nobody tells an index when it does.
    is_full = status.outstanding + status.detached >= status.limit
    return (1, status.waiting) if is_full else _BEST


def _by_readiness(status: Status) -> tuple[int, float]:
    load = status.load
    return _BEST if load < math.inf and status.idle and not status.waiting else (1, load)


def _soonest(statuses: Sequence[Status], rank: Rank) -> Status:
    """The status with the lowest rank. Without an index, stop at the best possible rank."""
    if has_own(statuses, "lowest"):
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

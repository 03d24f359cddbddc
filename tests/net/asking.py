"""Helpers for tests on real sockets: waiting, outcomes with durations, checks of a pool."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from kolus import KolusError, Lease, Pool
from kolus.backend import AnyBackend
from kolus.connection.hooks import LOOK_AFTER
from tests.rigs.patience import PATIENCE

__all__ = [
    "LATE",
    "Outcome",
    "assert_in_time",
    "assert_whole",
    "busy",
    "in_parallel",
    "outcome_of",
    "turn",
    "until",
    "wait_for_news",
]


LATE = 30.0
"""Seconds by which no machine is late. That a pool is in time to a moment is seen on a C{Clock}."""


def busy() -> None:
    """Be busy, while the reactor does not run, until a look at a connection is no longer enough."""
    time.sleep(20 * LOOK_AFTER)


def wait_for_news(descriptor: int) -> None:
    """Be busy until something has come there, and lies in it unread.

    A fast machine delivers it while the look at a released connection is still enough.
    """
    assert select.select([descriptor], [], [], PATIENCE)[0]
    busy()


async def turn(reactor: Any) -> None:
    """Wait for one turn of the reactor."""
    await deferLater(reactor, 0)


async def until(reactor: Any, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until C{condition()} is true, checked in each turn of the reactor."""
    give_up_at = reactor.seconds() + seconds
    while not condition():
        assert reactor.seconds() < give_up_at, f"not within {seconds:g} s"
        await turn(reactor)


async def in_parallel(*each: Coroutine[Deferred[Any], Any, Any]) -> list[Any]:
    """Run all of them, and wait for all."""
    return await gatherResults([Deferred.fromCoroutine(one) for one in each])


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result or error of a request, and whether it took too long."""

    lease: Lease[Any] | None
    error: KolusError | None
    is_late: bool


async def outcome_of(reactor: Any, asked: Deferred[Lease[Any]], timeout: float) -> Outcome:
    """Wait for a request that has just been made, whichever way it ends.

    @param timeout: the seconds within which it is to end.
    """
    began = reactor.seconds()
    lease = error = None
    try:
        lease = await asked
    except KolusError as caught:
        error = caught
    seconds = reactor.seconds() - began
    return Outcome(lease, error, seconds > timeout + LATE)


def assert_in_time(outcomes: list[Outcome]) -> None:
    """Every request ended before its deadline, or at it."""
    assert [each for each in outcomes if each.is_late] == []


async def assert_whole(reactor: Any, pool: Pool[Any], backend: AnyBackend, slots: int = 1) -> None:
    """Once nothing is being made or closed, no slot and no count has been lost.

    @param slots: how many leases share a connection.
    """

    def at_rest() -> bool:
        (status,) = pool.status([backend])
        idle, unused = status.idle or 0, status.unused or 0
        return status.connecting == 0 and idle + status.leased + unused == status.limit

    await until(reactor, at_rest)
    (status,) = pool.status([backend])
    assert (status.leased, status.waiting) == (0, 0)
    counters = pool.counters(backend)
    assert (counters.connects - counters.closes) * slots == status.idle
    assert counters.leases == counters.releases + counters.finishes
    assert counters.forgotten == 0

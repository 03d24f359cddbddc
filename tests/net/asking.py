"""Helpers for tests on real sockets: waiting, outcomes with durations, checks of a pool."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from kolus import KolusError, Lease, Pool
from kolus.backend import AnyBackend

__all__ = [
    "SLACK",
    "Outcome",
    "assert_in_time",
    "assert_whole",
    "in_parallel",
    "outcome_of",
    "turn",
    "until",
]

SLACK = 1.0
"""How late, in seconds, a timer of a busy machine may be."""


async def turn(reactor: Any) -> None:
    """Wait for one turn of the reactor."""
    await deferLater(reactor, 0)


async def until(reactor: Any, condition: Callable[[], object], seconds: float = 20.0) -> None:
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
    """The result or error of a request, and the seconds that it took."""

    lease: Lease[Any] | None
    error: KolusError | None
    seconds: float


async def outcome_of(reactor: Any, asked: Deferred[Lease[Any]]) -> Outcome:
    """Wait for a request, whichever way it ends."""
    began = reactor.seconds()
    try:
        lease = await asked
    except KolusError as error:
        return Outcome(None, error, reactor.seconds() - began)
    return Outcome(lease, None, reactor.seconds() - began)


def assert_in_time(outcomes: list[Outcome], timeout: float) -> None:
    """Every request ended before its deadline, or at it."""
    slowest = max(each.seconds for each in outcomes)
    assert slowest < timeout + SLACK


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

"""A group whose statuses a test sees as its balancer does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, KolusError, Lease, Policy, Pool, Status
from kolus.balance import least_leased
from kolus.testing import FakeBackend, result_of
from tests.rigs.pools import Half

__all__ = ["Seen", "by_load", "by_queue"]


class Seen:
    """A group whose statuses a test sees as its balancer does."""

    def __init__(self, count: int = 3, zones: str = "", **policy: Any) -> None:
        self.clock = Clock()
        self.fakes = [FakeBackend(self.clock) for _ in range(count)]
        self.backends = [
            Backend(fake, name=f"b{at}", zone=zones[at : at + 1])
            for at, fake in enumerate(self.fakes)
        ]
        self.pool: Pool[Any] = Pool(
            self.clock, Protocol, policy=Policy(**({"limit": 3} | policy)), rng=Half()
        )
        self.group = self.pool.group(self.backends, self.balancer)
        self.statuses: Sequence[Status] = []
        self.choice: Any = least_leased
        self.chosen = ""

    def balancer(self, statuses: Sequence[Status]) -> Status:
        self.statuses = statuses
        chosen: Status = self.choice(statuses)
        self.chosen = str(chosen.backend)
        return chosen

    def see(self) -> Sequence[Status]:
        """The statuses that a balancer sees now; nothing is leased."""
        found: list[Sequence[Status]] = []

        def look(statuses: Sequence[Status]) -> Status:
            found.append(statuses)
            raise KolusError("only looking")

        self.group.connect("us", balancer=look).addErrback(lambda failure: None)
        return found[0]

    def lease(self, place: int) -> Lease[Any]:
        return result_of(self.pool.connect("us", self.backends[place]))

    def turn(self) -> None:
        self.clock.pump([0, 0, 0])


def by_load(status: Status) -> float:
    return status.load


def by_queue(status: Status) -> tuple[float, int, int]:
    return (status.load, status.waiting, -(status.idle or 0))

"""A group of fake backends, for the tests of late binding."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import (
    Backend,
    Group,
    Lease,
    Policy,
    Pool,
)
from kolus.balance import fill_first
from kolus.testing import FakeBackend, result_of
from tests.rigs.pools import Half

__all__ = ["Grouped", "has_result"]


class Grouped:
    """A group of fake backends, each with a limit of one connection by default."""

    def __init__(self, count: int = 3, balancer: Any = fill_first, **policy: Any) -> None:
        self.clock = Clock()
        self.fakes = [FakeBackend(self.clock) for _ in range(count)]
        names = "abcdefgh"[:count]
        self.backends = [
            Backend(fake, name=name) for fake, name in zip(self.fakes, names, strict=True)
        ]
        self.pool: Pool[Any] = Pool(
            self.clock, Protocol, policy=Policy(**({"limit": 1} | policy)), rng=Half()
        )
        self.group: Group[Any] = self.pool.group(self.backends, balancer)

    def ask(self, **how: Any) -> Deferred[Lease[Any]]:
        return self.group.connect("us", **how)

    def lease(self, **how: Any) -> Lease[Any]:
        return result_of(self.ask(**how))

    def fill(self) -> dict[str, Lease[Any]]:
        """Lease everything; return the leases by the backends' names."""
        leases = [self.lease() for _ in self.backends]
        return {str(each.backend): each for each in leases}

    def turn(self) -> None:
        self.clock.pump([0, 0, 0])

    def waiting(self) -> list[int]:
        return [each.waiting for each in self.pool.status(self.backends)]


def has_result(asked: Deferred[Any]) -> bool:
    return bool(asked.called)

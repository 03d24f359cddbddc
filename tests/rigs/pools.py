"""Rigs for the tests of managers and pools, on a clock with fake backends."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, ConnectionManager, Lease, Policy, Pool
from kolus.events import Event
from kolus.testing import FakeBackend, result_of


class Half:
    """A random number generator that always draws one half."""

    def random(self) -> float:
        return 0.5


class Managed:
    """A C{ConnectionManager} for the ident C{"us"}; every jitter is half of its range."""

    def __init__(self, protocol: Any = Protocol, *, observed: bool = False, **policy: Any) -> None:
        self.clock = Clock()
        self.fake = FakeBackend(self.clock)
        self.events: list[Event] = []
        self.manager = ConnectionManager(
            self.clock,
            protocol,
            Backend(self.fake, name="fake"),
            "us",
            Policy(**({"limit": 2} | policy)),
            observers=[self.events.append] if observed else [],
            rng=Half(),
        )

    def ask(self, timeout: float | None = None) -> Deferred[Lease[Any]]:
        return self.manager.connect("us", timeout)

    def lease(self) -> Lease[Any]:
        return result_of(self.ask())

    def numbers(self) -> tuple[int | None, int, int, int | None, int]:
        """Idle, leased, connecting, unused, waiting."""
        status = self.manager.status()
        return (
            status.idle,
            status.leased,
            status.connecting,
            status.unused,
            status.waiting,
        )

    def turn(self) -> None:
        """Run everything that was put off to a later turn of the reactor."""
        for _ in range(3):
            self.clock.advance(0)


class Pooled:
    """A pool on a clock with three fake backends."""

    def __init__(self, **policy: Any) -> None:
        self.clock = Clock()
        self.fakes = [FakeBackend(self.clock) for _ in range(3)]
        self.backends = [
            Backend(each, name=name) for each, name in zip(self.fakes, "abc", strict=True)
        ]
        self.pool: Pool[Any] = Pool(self.clock, Protocol, policy=Policy(**({"limit": 2} | policy)))

    def turn(self) -> None:
        self.clock.pump([0, 0, 0])

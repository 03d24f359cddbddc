"""Rigs for the tests of managers and pools, on a clock with fake backends."""

from __future__ import annotations

from typing import Any, ClassVar

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
    """A manager for the ident C{"us"}; every jitter is half of its range.

    @cvar kind: its class.
    @cvar defaults: what its policy has, unless the test says otherwise.
    """

    kind: ClassVar[Any] = ConnectionManager
    defaults: ClassVar[dict[str, Any]] = {"limit": 2}

    def __init__(self, protocol: Any = Protocol, *, observed: bool = False, **policy: Any) -> None:
        self.clock = Clock()
        self.fake = FakeBackend(self.clock)
        self.events: list[Event] = []
        self.manager = self.kind(
            self.clock,
            protocol,
            Backend(self.fake, name="fake"),
            "us",
            Policy(**(self.defaults | policy)),
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
    """A pool on a clock with fake backends, named a, b, c and so on; every jitter is half of its
    range."""

    def __init__(
        self, count: int = 3, *, clock: Clock | None = None, observers: Any = (), **policy: Any
    ) -> None:
        self.clock = clock or Clock()
        self.fakes = [FakeBackend(self.clock) for _ in range(count)]
        self.backends = [
            Backend(each, name=name) for each, name in zip(self.fakes, "abcdefgh", strict=False)
        ]
        self.pool: Pool[Any] = Pool(
            self.clock,
            Protocol,
            policy=Policy(**({"limit": 2} | policy)),
            observers=observers,
            rng=Half(),
        )

    def turn(self) -> None:
        """Run everything that was put off to a later turn of the reactor."""
        self.clock.pump([0, 0, 0])

"""The rig for the tests of idents: a pool on a clock with one backend for several idents."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kolus import Backend, IKolusManager, Lease, Policy, Pool
from kolus.events import Event, Retired, Why
from kolus.testing import FakeBackend, FakeConnection, result_of
from tests.rigs.pools import Half
from tests.rigs.sharing import Hears

__all__ = ["Idents"]


class Idents:
    """One backend for many idents, with a limit of two by default.

    @ivar most: the most connections that the backend had at a time, as far as the test looked.
    """

    def __init__(self, idents: str | None, **policy: Any) -> None:
        """
        @param idents: the setting; C{None}: the policy's default.
        """
        self.clock = Clock()
        self.fake = FakeBackend(self.clock)
        self.backend = Backend(self.fake, name="fake")
        self.events: list[Event] = []
        self.pool: Pool[Any] = Pool(
            self.clock,
            Hears,
            policy=Policy(**({"limit": 2} | ({"idents": idents} if idents else {}) | policy)),
            observers=[self.events.append],
            rng=Half(),
        )
        self.most = 0

    def ask(self, ident: str, timeout: float | None = None) -> Deferred[Lease[Any]]:
        return self.pool.connect(ident, self.backend, timeout=timeout)

    def lease(self, ident: str) -> Lease[Any]:
        return result_of(self.ask(ident))

    def manager(self, ident: str) -> IKolusManager:
        manager = self.pool.manager(self.backend, ident)
        assert manager is not None
        return manager

    def open(self) -> list[FakeConnection]:
        """The connections that the backend sees."""
        self.most = max(self.most, len(self.fake.connections))
        return self.fake.connections

    def retired(self) -> list[tuple[Any, Why]]:
        return [(each.ident, each.why) for each in self.events if isinstance(each, Retired)]

    def turn(self) -> None:
        """Run everything that was put off to a later turn of the reactor."""
        for _ in range(4):
            self.clock.advance(0)
            self.open()

    def end(self) -> None:
        """Close, and check that nothing is left behind."""
        closed = self.pool.close(0)
        self.clock.pump([0, 0, 60, 0])
        result_of(closed)
        assert not self.fake.connections
        assert not self.clock.getDelayedCalls()
        counters = self.pool.counters()
        settled = counters.releases + counters.finishes + counters.forgotten
        assert counters.leases == settled
        assert counters.connects == counters.closes
        for record in self.pool._managers.records:
            assert not record.members
            assert not record.turns.wanting

"""C{Rig}: what a clause gets: one manager on a clock, with a fake backend."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from inspect import isfunction
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus.backend import Backend
from kolus.interfaces import IKolusManager
from kolus.lease import Lease
from kolus.policy import Policy
from kolus.testing.backend import FakeBackend
from kolus.testing.results import result_of

__all__ = ["MakeManager", "Rig", "clauses_in"]

MakeManager = Callable[[Clock, Callable[[], Any], Backend, Hashable, Policy], IKolusManager]
"""Makes the manager under test. Arguments: the clock, a callable that makes protocols, the backend,
the ident, the policy."""


def clauses_in(module: Mapping[str, Any]) -> tuple[Callable[[Rig], None], ...]:
    """The clauses of the contract in a module: all functions that it defines, in their order.

    @param module: what C{vars()} gives there.
    """
    functions = [each for each in module.values() if isfunction(each)]
    return tuple([each for each in functions if each.__module__ == module["__name__"]])


class Rig:
    """One manager for the ident C{"us"}, on its own clock, with a fake backend.

    @ivar clock: the only source of time.
    @ivar fake: the fake backend; by default it accepts at once.
    @ivar backend: the C{Backend} that stands for C{fake}.
    @ivar manager: a new manager with limit 2 and an acquire time-out of 5 s.
    """

    def __init__(self, make: MakeManager, **policy: Any) -> None:
        self.clock = Clock()
        self.fake = FakeBackend(self.clock)
        self.backend = Backend(self.fake)
        self._make = make
        self._asked: list[Deferred[Lease[Any]]] = []
        self.manager = self.make(**policy)

    def make(self, **policy: Any) -> IKolusManager:
        """Close the manager, and make another with these changes to the policy."""
        if hasattr(self, "manager"):
            self.manager.close(0)
        settings = {"limit": 2, "acquire_timeout": 5.0} | policy
        self.manager = self._make(self.clock, Protocol, self.backend, "us", Policy(**settings))
        return self.manager

    def ask(self, timeout: float | None = None) -> Deferred[Lease[Any]]:
        asked = self.manager.connect("us", timeout)
        self._asked.append(asked)
        return asked

    def lease(self) -> Lease[Any]:
        return result_of(self.ask())

    def lease_all(self) -> list[Lease[Any]]:
        """Take leases until the limit is reached."""
        leases = [self.lease()]
        while (status := self.manager.status()).leased < status.limit:
            leases.append(self.lease())
        return leases

    def end(self) -> None:
        """Close the manager, and check that no connection and no timer is left."""
        self.fake.refuse(always=True)
        closed = self.manager.close(0)
        self.clock.advance(0)
        self.clock.advance(60)
        result_of(closed)
        for each in self._asked:
            each.addErrback(lambda failure: None)
        assert not self.fake.connections, f"still open: {self.fake.connections}"
        assert not self.clock.getDelayedCalls(), f"timers left: {self.clock.getDelayedCalls()}"

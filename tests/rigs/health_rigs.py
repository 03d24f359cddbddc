"""Rigs for the tests of health: a pool whose backends fail, and a probe that a test controls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol

from kolus import ConnectFailed, Lease
from kolus.backoff import Backoff
from kolus.balance import (
    Balancer,
    fill_first,
    idle_first,
    least_leased,
    peak_ewma,
    pick_two,
    prefer_zone,
    round_robin,
)
from kolus.events import Admitted, Ejected, Event, ProbeDue
from kolus.status import State
from kolus.testing import result_of
from tests.rigs.groups import Grouped

__all__ = ["BALANCERS", "FIRST", "Hook", "Nursed"]


FIRST = 3.75
"""How long the first ejection lasts, with every jitter half of its range."""


class Nursed(Grouped):
    """A pool, a group of all its backends, and the events about their health.

    @ivar heard: is called with each event.
    """

    def __init__(self, count: int = 2, balancer: Balancer = fill_first, **policy: Any) -> None:
        self.events: list[Event] = []
        self.heard: Callable[[Event], object] = lambda event: None
        observers = [self.events.append, lambda event: self.heard(event)]
        settings = {"limit": 10, "backoff": Backoff(0.001, most=0.001), "observers": observers}
        super().__init__(count, balancer, **(settings | policy))

    # What happens at a backend

    def fail(self, place: int = 0, times: int = 5) -> None:
        """Leases that are settled as failed."""
        for _ in range(times):
            self.at(place).finished(failed=True)
            self.turn()

    def refuse(self, place: int = 0, times: int = 5) -> None:
        """Connects that fail."""
        for _ in range(times):
            self.fakes[place].refuse()
            asked = self.pool.connect("us", self.backends[place])
            asked.addErrback(lambda failure: failure.trap(ConnectFailed, CancelledError))
            asked.cancel()  # or a lease that is out might serve it
            self.clock.advance(0.002)

    def at(self, place: int = 0) -> Lease[Any]:
        """A lease of that backend."""
        return result_of(self.pool.connect("us", self.backends[place]))

    def use(self, place: int = 0) -> None:
        self.at(place).release()

    def fill_at(self, place: int) -> list[Lease[Any]]:
        """Lease all that a backend has."""
        limit = self.pool.status([self.backends[place]])[0].limit
        return [self.at(place) for _ in range(limit)]

    # What is to be seen

    def state(self, place: int = 0) -> State:
        return self.pool.status([self.backends[place]])[0].state

    def told(self, *kinds: type[Event]) -> list[Any]:
        return [
            each for each in self.events if type(each) in (kinds or (Ejected, ProbeDue, Admitted))
        ]

    def until_due(self, seconds: float = FIRST) -> None:
        self.clock.advance(seconds)
        assert self.state() is State.DUE


BALANCERS: dict[str, Callable[[Nursed], Balancer]] = {
    "fill_first": lambda rig: fill_first,
    "idle_first": lambda rig: idle_first,
    "least_leased": lambda rig: least_leased,
    "peak_ewma": lambda rig: peak_ewma(rig.clock),
    "pick_two": lambda rig: pick_two(),
    "prefer_zone": lambda rig: prefer_zone("", fill_first),
    "round_robin": lambda rig: round_robin(),
}


class Hook:
    """A probe whose answers a test decides."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []

    def __call__(self, protocol: Any) -> Deferred[Any]:
        assert isinstance(protocol, Protocol)
        asked: Deferred[Any] = Deferred()
        self.asked.append(asked)
        return asked

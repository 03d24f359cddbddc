"""Rigs for the tests of groups: fake backends, and a source that a test controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from zope.interface import implementer

from kolus import Backend, Group, ISource, Lease, Policy, Pool, Status
from kolus.balance import fill_first
from kolus.testing import FakeBackend, result_of
from tests.rigs.pools import Half

__all__ = ["Rig", "Teller", "is_waiting", "names"]


@implementer(ISource)
class Teller:
    """A source that a test controls.

    @ivar started: whether it is started.
    """

    def __init__(self) -> None:
        self.started = False
        self._listener: Any = None

    def start(self, listener: Callable[[Sequence[Backend]], object]) -> None:
        if self.started:
            raise RuntimeError("this source is started already")
        self.started = True
        self._listener = listener

    def stop(self) -> None:
        self.started = False

    def tell(self, *backends: Backend) -> None:
        assert self.started
        self._listener(backends)


class Rig:
    """Fake backends, a source that lists some of them, and a group with this source."""

    def __init__(
        self,
        told: str = "abc",
        balancer: Any = fill_first,
        clock: Clock | None = None,
        **policy: Any,
    ) -> None:
        self.clock = clock or Clock()
        self.fakes = {name: FakeBackend(self.clock) for name in "abcd"}
        self.known = {name: Backend(fake, name=name) for name, fake in self.fakes.items()}
        self.pool: Pool[Any] = Pool(
            self.clock, Protocol, policy=Policy(**({"limit": 1} | policy)), rng=Half()
        )
        self.source = Teller()
        self.group: Group[Any] = self.pool.group(self.source, balancer, "them")
        if told:
            self.tell(told)

    def tell(self, names: str) -> None:
        self.source.tell(*[self.known[name] for name in names])

    def ask(self, **how: Any) -> Deferred[Lease[Any]]:
        return self.group.connect("us", **how)

    def lease(self, **how: Any) -> Lease[Any]:
        return result_of(self.ask(**how))

    def at(self, name: str) -> Lease[Any]:
        return result_of(self.pool.connect("us", self.known[name]))

    def status(self, name: str) -> Status:
        return self.pool.status([self.known[name]])[0]

    def turn(self) -> None:
        self.clock.pump([0, 0, 0])


def names(backends: Sequence[Any]) -> str:
    """The names of backends, of their statuses or of leases of them."""
    return "".join([str(getattr(each, "backend", each)) for each in backends])


def is_waiting(asked: Deferred[Any]) -> bool:
    return not asked.called

"""Rigs for the tests of groups: fake backends, and a source that a test controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from kolus import Backend, Group, ISource, Lease, Status
from kolus.balance import fill_first
from kolus.testing import FakeBackend, result_of
from tests.rigs.pools import Pooled

__all__ = ["Grouped", "Sourced", "Teller", "names"]


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


class Grouped(Pooled):
    """A group of fake backends, each with a limit of one connection by default."""

    def __init__(self, count: int = 3, balancer: Any = fill_first, **settings: Any) -> None:
        super().__init__(count, **({"limit": 1} | settings))
        self.group: Group[Any] = self.make_group(balancer)

    def make_group(self, balancer: Any) -> Group[Any]:
        return self.pool.group(self.backends, balancer)

    def ask(self, **how: Any) -> Deferred[Lease[Any]]:
        return self.group.connect("us", **how)

    def lease(self, **how: Any) -> Lease[Any]:
        return result_of(self.ask(**how))

    def fill(self) -> dict[str, Lease[Any]]:
        """Lease everything; return the leases by the backends' names."""
        leases = [self.lease() for _ in self.backends]
        return {str(each.backend): each for each in leases}

    def waiting(self) -> list[int]:
        return [each.waiting for each in self.pool.status(self.backends)]


class Sourced(Grouped):
    """A group of some of four fake backends, as its source tells them.

    @ivar known: the backends by their names.
    """

    def __init__(self, told: str = "abc", balancer: Any = fill_first, **settings: Any) -> None:
        self.source = Teller()
        super().__init__(4, balancer, **settings)
        self.known = {str(each): each for each in self.backends}
        if told:
            self.tell(told)

    def make_group(self, balancer: Any) -> Group[Any]:
        return self.pool.group(self.source, balancer, "them")

    def tell(self, names: str) -> None:
        self.source.tell(*[self.known[name] for name in names])

    def fake(self, name: str) -> FakeBackend:
        return self.fakes["abcd".index(name)]

    def at(self, name: str) -> Lease[Any]:
        return result_of(self.pool.connect("us", self.known[name]))

    def status(self, name: str) -> Status:
        return self.pool.status([self.known[name]])[0]


def names(backends: Sequence[Any]) -> str:
    """The names of backends, of their statuses or of leases of them."""
    return "".join([str(getattr(each, "backend", each)) for each in backends])

"""C{Groups}: the open groups of one pool."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

from kolus.backend import AnyBackend, Backend, several
from kolus.errors import Closed
from kolus.group import Group, Selector
from kolus.interfaces import ISource
from kolus.sources import StaticSource

if TYPE_CHECKING:
    from kolus.balance import Balancer
    from kolus.manager import Managers

__all__ = ["Groups"]


class Groups:
    """Makes groups. When a backend has left the last open group, it is drained."""

    def __init__(
        self,
        managers: Managers,
        selector: Selector,
        clock: IReactorTime,
    ) -> None:
        self._managers = managers
        self._selector = selector
        self._clock = clock
        self._open: list[Group[Any]] = []

    def make(
        self,
        source: Any | Iterable[AnyBackend],
        balancer: Balancer,
        name: str | None,
        ident: Hashable,
    ) -> Group[Any]:
        """See C{Pool.group}."""
        self._managers.process.check()
        if self._managers.closed:
            raise Closed("the pool is closed")
        if not ISource.providedBy(source):
            source = StaticSource(several("source", source))
        group: Group[Any] = Group(
            self._left,
            self._open.remove,
            self._managers,
            self._selector,
            self._clock,
            balancer=balancer,
            name=name,
            ident=ident,
        )
        self._open.append(group)
        try:
            group.start(source)
        except BaseException:
            group.close()
            raise
        return group

    def _left(self, backend: Backend) -> None:
        """Called by a group: a backend has left it."""
        if not any(backend in each for each in self._open):
            self._managers.drain(backend, until_back=True)

    def close(self) -> None:
        """Close them all."""
        for each in tuple(self._open):
            each.close()

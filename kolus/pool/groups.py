"""C{Groups}: the open groups of one pool."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure

from kolus.backend import AnyBackend, Backend, several
from kolus.errors import Closed
from kolus.group import Group, Selector
from kolus.interfaces import ISource
from kolus.sources import StaticSource
from kolus.support import LongWork, Work

if TYPE_CHECKING:
    from kolus.balance import Balancer
    from kolus.manager import Managers
    from kolus.support import SteadyClock

__all__ = ["Groups"]

_log = Logger()


class Groups:
    """Makes groups. When a backend has left the last open group, it is drained.

    Where many leave at a time, that takes several turns of the reactor, so that requests are served
    between.
    """

    def __init__(
        self,
        managers: Managers,
        selector: Selector,
        clock: SteadyClock,
    ) -> None:
        self._managers = managers
        self._selector = selector
        self._clock = clock
        self._open: list[Group[Any]] = []
        self._long_work = LongWork(clock)

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

    def _left(self, backends: Sequence[Backend]) -> None:
        """Called by a group: these have left it."""
        self._long_work.do(self._drain(backends)).addErrback(_failed)

    def _drain(self, backends: Sequence[Backend]) -> Work[None]:
        for backend in backends:
            if not any(backend in each for each in self._open):  # or it is back already
                self._managers.drain(backend, until_back=True)
            yield

    def close(self) -> None:
        """Close them all."""
        self._long_work.stop()
        for each in tuple(self._open):
            each.close()


def _failed(failure: Failure) -> None:
    if not failure.check(CancelledError):  # then the pool has closed
        _log.failure("draining a backend that has left failed", failure)

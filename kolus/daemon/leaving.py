"""C{Leaving}: listeners and groups that a reload has removed, until nobody uses them any more.

Its state is these, and the timer of the next look. It looks once a second whether they are still
used, because the data path is to know nothing of reloads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from kolus.daemon.served_group import close_all
from kolus.support import LongWork

if TYPE_CHECKING:
    from kolus.daemon.front_service import FrontService
    from kolus.daemon.served_group import ServedGroup

__all__ = ["Leaving"]

_log = Logger()

_PERIOD = 1.0


class Leaving:
    """Lets the clients of removed listeners and groups go on until they end by themselves."""

    def __init__(self, clock: Any) -> None:
        self.listeners: list[FrontService] = []
        self.groups: list[ServedGroup] = []
        self._looks = LoopingCall(self._look)
        self._looks.clock = clock
        self._long_work = LongWork(clock)

    def add_listener(self, service: FrontService) -> None:
        """A listener is removed. Its ports are closed now, and its clients stay."""
        service.keep(())
        self.listeners.append(service)
        self._watch()

    def add_group(self, group: ServedGroup) -> None:
        """A group is removed, or replaced by one with another pool."""
        self.groups.append(group)
        self._let_go(group)
        self._watch()

    def predecessors(self, group: ServedGroup) -> list[ServedGroup]:
        """The groups that a group has replaced, and that still have clients."""
        return [each for each in self.groups if each.name == group.name]

    async def stop(self) -> None:
        """Drain them now: the daemon ends."""
        if self._looks.running:
            self._looks.stop()
        self._long_work.stop()
        await gatherResults([each.stopService() for each in self.listeners])
        await close_all(self.groups)

    def abort(self) -> None:
        """Abort the clients that are left."""
        for each in self.listeners:
            each.front.abort()

    def _watch(self) -> None:
        if not self._looks.running:
            self._looks.start(_PERIOD, now=False)

    def _look(self) -> None:
        for service in [each for each in self.listeners if each.front.is_empty]:
            self.listeners.remove(service)
            service.stopService()
        for group in self.groups:
            self._let_go(group)
        for group in [each for each in self.groups if self._is_unused(each)]:
            self.groups.remove(group)
            closed = Deferred.fromCoroutine(group.close())
            closed.addErrback(_failed)
        if not (self.listeners or self.groups):
            self._looks.stop()

    def _let_go(self, group: ServedGroup) -> None:
        if not self._has_listener(group):
            self._long_work.do(group.let_go()).addErrback(_failed)

    def _is_unused(self, group: ServedGroup) -> bool:
        return not self._has_listener(group) and group.is_unused

    def _has_listener(self, group: ServedGroup) -> bool:
        return any(each.route.group is group for each in self.listeners)


def _failed(failure: Failure) -> None:
    if not failure.check(CancelledError):  # then the daemon ends
        _log.failure("closing a group failed", failure)

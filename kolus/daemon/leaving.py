"""C{Leaving}: listeners and groups that a reload has removed, until nobody uses them any more.

Its state is these, and the timer of the next look. Who uses them is not told, but looked at once a
second: the data path is to know nothing of reloads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

if TYPE_CHECKING:
    from kolus.daemon.front_service import FrontService
    from kolus.daemon.route import Route
    from kolus.daemon.served_group import ServedGroup

__all__ = ["Leaving"]

_log = Logger()

_PERIOD = 1.0


class Leaving:
    """Lets the clients of removed listeners and groups go on until they end by themselves."""

    def __init__(self, clock: Any) -> None:
        self.listeners: dict[FrontService, Route] = {}
        self.groups: list[ServedGroup] = []
        self._looks = LoopingCall(self._look)
        self._looks.clock = clock

    def add_listener(self, service: FrontService, route: Route) -> None:
        """A listener is removed. Its ports are closed now, and its clients stay."""
        service.keep(())
        self.listeners[service] = route
        self._watch()

    def add_group(self, group: ServedGroup) -> None:
        """A group is removed, or replaced by one with another pool."""
        self.groups.append(group)
        self._let_go(group)
        self._watch()

    def predecessors(self, group: ServedGroup) -> list[ServedGroup]:
        """Those whose place a group has taken, and that still have clients."""
        return [each for each in self.groups if each.name == group.name]

    async def stop(self) -> None:
        """Drain them now: the daemon ends."""
        if self._looks.running:
            self._looks.stop()
        await gatherResults([each.stopService() for each in self.listeners])
        for group in self.groups:
            await group.close()

    def abort(self) -> None:
        """Abort the clients that are left."""
        for each in self.listeners:
            each.front.abort()

    def _watch(self) -> None:
        if not self._looks.running:
            self._looks.start(_PERIOD, now=False)

    def _look(self) -> None:
        for service in [each for each in self.listeners if each.front.is_empty]:
            del self.listeners[service]
            service.stopService()
        for group in self.groups:
            self._let_go(group)
        for group in [each for each in self.groups if self._is_unused(each)]:
            self.groups.remove(group)
            closed = Deferred.fromCoroutine(group.close())
            closed.addErrback(lambda failure: _log.failure("closing a group failed", failure))
        if not (self.listeners or self.groups):
            self._looks.stop()

    def _let_go(self, group: ServedGroup) -> None:
        if not self._has_listener(group):
            group.let_go()

    def _is_unused(self, group: ServedGroup) -> bool:
        return not self._has_listener(group) and group.is_unused

    def _has_listener(self, group: ServedGroup) -> bool:
        return any(route.group is group for route in self.listeners.values())

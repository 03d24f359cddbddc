"""C{Housekeeper}: does what is due at a manager, and sets its alarm to what is due next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kolus.errors import Closed
from kolus.manager.connections.keepalive import KeepAlive

if TYPE_CHECKING:
    from kolus.manager.base import BaseManager

__all__ = ["Housekeeper"]


class Housekeeper:
    """Runs what is due at one manager. Its state is that of the keep-alive checks."""

    def __init__(self, manager: BaseManager[Any]) -> None:
        self._manager = manager
        self._keepalive = KeepAlive(manager)

    def wake(self) -> None:
        """Do what is due, and set the alarm to what is due next."""
        manager = self._manager
        manager.smooth = False  # the next release is to see that it rings
        if manager.process.is_foreign:
            return
        try:
            self._do_due(manager._now())
        finally:
            if not manager._lifecycle.closed:
                manager._alarm.set(self._next_due())

    def _next_due(self) -> float:
        manager = self._manager
        return min(
            manager._lifecycle.abort_at,
            manager._tracker.next_due(),
            manager._queue.next_due(),
            manager.connections.next_due(),
            self._keepalive.next_due(),
        )

    def _do_due(self, now: float) -> None:
        manager = self._manager
        manager.connections.close_due(now)
        if now >= manager._lifecycle.abort_at:
            manager._shutdown.abort_all()
        manager._queue.expire_due(now)
        if manager.demand() or manager.admission.warming.wishes:
            manager.connections.is_needed()
        elif now >= manager.connections.vacant_until():
            manager._shutdown.begin(Closed)
        manager._tracker.revoke_due(now)
        if now >= manager._tracker.leaks_due:
            self.look_for_leaks(now)
        if now >= manager.connections.checking.slow_at():
            manager.checker.doubt(is_told=False)
        manager._dispatcher.decide()
        self._keepalive.check_due(now)

    def look_for_leaks(self, now: float) -> None:
        looks = self._manager.connections.all and self._manager._policy.leak_after is not None
        self._manager._tracker.look_for_leaks(now, self._manager.supply.held() if looks else None)
        if not self._manager._lifecycle.closed:  # an observer of a leak may have closed it
            self._manager._alarm.set(self._manager._tracker.leaks_due)

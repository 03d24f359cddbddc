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
            self._do_due(manager.now())
        finally:
            if not manager.lifecycle.closed:
                manager.alarm.set(self._next_due())

    def _next_due(self) -> float:
        manager = self._manager
        return min(
            manager.lifecycle.abort_at,
            manager.tracker.next_due(),
            manager.queue.next_due(),
            manager.connections.next_due(),
            self._keepalive.next_due(),
        )

    def _do_due(self, now: float) -> None:
        manager = self._manager
        manager.connections.close_due(now)
        if now >= manager.lifecycle.abort_at:
            manager.shutdown.abort_all()
        manager.queue.expire_due(now)
        if manager.demand() or manager.admission.warming.wishes:
            manager.connections.needed()
        elif now >= manager.connections.vacant_until():
            manager.shutdown.begin(Closed)
        manager.tracker.revoke_due(now)
        if now >= manager.tracker.leaks_due:
            self.look_for_leaks(now)
        if now >= manager.connections.checking.slow_at():
            manager.checker.doubt(manager.connections.checking.slow_good_at(), is_told=False)
        manager.dispatcher.decide()
        self._keepalive.check_due(now)

    def look_for_leaks(self, now: float) -> None:
        looks = self._manager.connections.all and self._manager.policy.leak_after is not None
        self._manager.tracker.look_for_leaks(now, self._manager.supply.held() if looks else None)
        if not self._manager.lifecycle.closed:  # an observer of a leak may have closed it
            self._manager.alarm.set(self._manager.tracker.leaks_due)

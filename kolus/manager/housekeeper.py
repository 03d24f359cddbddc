"""C{Housekeeper}: does what is due at a manager, and sets its alarm to what is due next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kolus.errors import Closed

if TYPE_CHECKING:
    from kolus.manager.base import BaseManager

__all__ = ["Housekeeper"]


class Housekeeper:
    """Runs what is due at one manager. It has no state of its own."""

    def __init__(self, manager: BaseManager[Any]) -> None:
        self._manager = manager

    def wake(self) -> None:
        """Do what is due, and set the alarm to what is due next."""
        manager = self._manager
        manager.smooth = False  # the next release is to see that it rings
        if manager.process.is_foreign:
            return
        try:
            self._do_due(self._manager._now())
        finally:
            if not self._manager._lifecycle.closed:
                due = min(self._manager._lifecycle.abort_at, self._manager._tracker.next_due())
                due = min(
                    due, self._manager._queue.next_due(), self._manager.connections.next_due()
                )
                self._manager._alarm.set(due)

    def _do_due(self, now: float) -> None:
        self._manager.connections.close_due(now)
        if now >= self._manager._lifecycle.abort_at:
            self._manager._shutdown.abort_all()
        self._manager._queue.expire_due(now)
        if self._manager.demand():
            self._manager.connections.is_needed()
        elif now >= self._manager.connections.vacant_until():
            self._manager._shutdown.begin(Closed)
        self._manager._tracker.revoke_due(now)
        if now >= self._manager._tracker.leaks_due:
            self.look_for_leaks(now)
        self._manager._dispatcher.decide()

    def look_for_leaks(self, now: float) -> None:
        looks = self._manager.connections.all and self._manager._policy.leak_after is not None
        self._manager._tracker.look_for_leaks(now, self._manager._held() if looks else None)
        if not self._manager._lifecycle.closed:  # an observer of a leak may have closed it
            self._manager._alarm.set(self._manager._tracker.leaks_due)

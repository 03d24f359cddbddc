"""C{FreshQueue}: the requests to one manager that want a connection which was never leased.

The manager serves it as it serves the queues of groups: by arrival of their heads, besides its own
queue. So such a request keeps its turn, and those behind it may take what is idle meanwhile. Its
waiters are placed at the manager from the beginning. Its state is that of every queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kolus.lease import Lease
from kolus.manager.waiting.queue import Waiter, WaiterQueue

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.manager.base import BaseManager

__all__ = ["FreshQueue"]


class FreshQueue(WaiterQueue[Lease[Any]]):
    """Provides what a manager needs of a queue that it serves besides its own: C{ServedQueue}."""

    fresh = True

    def __init__(self, manager: BaseManager[Any]) -> None:
        timeout, arrivals = manager.policy.acquire_timeout, manager.record.arrivals
        super().__init__(manager.clock, timeout, arrivals=arrivals)
        self._manager = manager

    def append(self, timeout: float | None = None) -> Waiter[Lease[Any]]:
        waiter = super().append(timeout)
        waiter.fresh = True
        return waiter

    def take(self, waiter: Waiter[Any]) -> None:
        self.pop(waiter)
        self._has_left(waiter)

    def _has_left(self, waiter: Waiter[Any]) -> None:
        if not self.waiting:
            self._manager.groups.leave(self)
            self._alarm.clear()
        self._manager.placements.discard(waiter)

    def _was_cancelled(self, waiter: Waiter[Any]) -> None:
        self._manager.admission.cancelled(waiter)

    def _has_coming(self, waiter: Waiter[Any]) -> bool:
        return self._manager.admission.has_coming(waiter)

    def _expire(self, waiter: Waiter[Any]) -> None:
        self.remove(waiter)
        waiter.fail(self._manager.admission.timed_out(waiter))

    def unplaced(self, waiter: Waiter[Any]) -> None:
        """It fails at once."""

    def place_elsewhere(self, waiter: Waiter[Any], error: Exception) -> None:
        """There is no other manager."""
        self.fail(waiter, error)

    def may_serve(self, backend: Backend) -> bool:
        return True

    def is_short(self) -> bool:
        return False

    def relieve(self, waiter: Waiter[Any]) -> None:
        """It waits on: there is no other place."""

    def dropped(self, manager: Any) -> None:
        """It joins again with its next waiter."""

    def manager_gone(self, manager: Any) -> None:
        """Its waiters are given up one by one."""

    def _wake(self) -> None:
        if not self._manager.process.is_foreign:
            super()._wake()

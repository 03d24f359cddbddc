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
    from kolus.watching import Owner

__all__ = ["FreshQueue"]


class FreshQueue(WaiterQueue[Lease[Any]]):
    """Provides what a manager needs of a queue that it serves besides its own: C{ServedQueue}."""

    fresh = True

    def __init__(self, manager: BaseManager[Any]) -> None:
        super().__init__(
            manager._clock,
            manager._policy.acquire_timeout,
            manager.admission.timed_out,
            arrivals=manager._record.arrivals,
            removed=self._has_left,
            cancelled=manager.admission.cancelled,
            hopeful=manager.admission.is_hopeful,
        )
        self._manager = manager

    def append(self, timeout: float | None = None) -> Waiter[Lease[Any]]:
        waiter = super().append(timeout)
        waiter.fresh = True
        return waiter

    def take(self, waiter: Waiter[Any]) -> None:
        self.pop(waiter)
        self._has_left(waiter)

    def _has_left(self, waiter: Waiter[Any]) -> None:
        """A waiter was served, failed or was cancelled."""
        if not self.waiting:
            self._manager.groups.leave(self)
            self._alarm.clear()
        self._manager.placements.discard(waiter)

    def refused(self, waiter: Waiter[Any], error: Exception) -> None:
        """There is no other manager."""
        self.fail(waiter, error)

    def may_serve(self, backend: Backend) -> bool:
        return True

    def is_short(self) -> bool:
        return False

    def wants_room_at(self, backend: Backend) -> bool:
        return False

    def relieve(self, waiter: Waiter[Any]) -> None:
        """It waits on: there is no other place."""

    def has_room_at(self, where: Any) -> None:
        """Never called: it does not ask for room."""

    def look_at(self, due: float) -> None:
        """Never called: it does not ask for room."""

    def is_idle_at(self, manager: Any) -> None:
        """Never called: what is idle is of no use to it."""

    def fail_if_deadlocked(self, waiter: Waiter[Any], owner: Owner) -> None:
        """The manager looks at these waiters itself."""

    def dropped(self, manager: Any) -> None:
        """It joins again with its next waiter."""

    def manager_gone(self, manager: Any) -> None:
        """Its waiters are given up one by one."""

    def _wake(self) -> None:
        if not self._manager.process.is_foreign:
            super()._wake()

"""C{Waiters}: who waits for a manager: in its own queue, in those of groups, and placed here.

It tells who is next, by arrival, and whether somebody is. It has no state of its own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kolus.health import Phase

if TYPE_CHECKING:
    from kolus.lease import Lease
    from kolus.manager.base import BaseManager
    from kolus.manager.waiting.queue import Waiter

__all__ = ["Waiters"]

P = TypeVar("P")


class Waiters(Generic[P]):
    """The waiters that one manager may serve."""

    __slots__ = (
        *("_joined", "_groups", "_lifecycle", "_manager", "_placements", "_queue"),
        *("_record", "_waiting"),
    )

    def __init__(self, manager: BaseManager[P]) -> None:
        """
        @param manager: the manager, which has its lifecycle and its queues.
        """
        self._manager = manager
        self._groups = manager.groups
        self._joined = manager.groups.joined
        self._lifecycle = manager.lifecycle
        self._placements = manager.placements
        self._queue = manager.queue
        self._record = manager.record
        self._waiting = manager.queue.waiting

    def next(self, *, reused: bool = True) -> Waiter[Lease[P]] | None:
        """The waiter to serve next, of the manager's own queue and of those of groups.

        @param reused: whether it is to take a connection that was leased before.
        """
        oldest = next(iter(self._waiting)) if self._waiting else None
        if self._joined:
            queues = [self._groups.first()]
            if not reused and self._groups.fresh:
                queues.append(self._groups.first(fresh=True))
            for queue in queues:
                head = None if queue is None else queue.head()
                if head is not None and (oldest is None or head.order < oldest.order):
                    oldest = head
            if self._record.health.phase is not Phase.WELL:
                # It may serve these even if it is not well.
                placed = self._placements.oldest(reused)
                if placed is not None and (oldest is None or placed.order < oldest.order):
                    oldest = placed
        return oldest

    def take(self, reused: bool) -> Waiter[Lease[P]]:
        """Remove the next waiter from its queue; there must be one.

        @param reused: as for C{next}.
        """
        waiter = self.next(reused=reused)
        assert waiter is not None
        if waiter.queue is self._queue:
            return self._queue.popleft()
        queue: Any = waiter.queue
        queue.take(waiter)
        if waiter.ownership is not None:
            waiter.ownership = self._manager.tracker.ownership_here(waiter.ownership)
        return waiter

    def first(self) -> Waiter[Any]:
        """The oldest waiter of the own queue, or the one that was placed here first if that is
        older; there must be one."""
        queues = self._waiting, self._placements.waiters
        firsts = [next(iter(each)) for each in queues if each]
        return min(firsts, key=lambda waiter: waiter.order)

    def is_asked(self, *, reused: bool = True) -> bool:
        """Whether there is a waiter that it may serve.

        @param reused: as for C{next}.
        """
        return bool(self._waiting) or (bool(self._joined) and self.next(reused=reused) is not None)

    def count(self, most: int) -> int:
        """The number of waiters that take any connection; C{most} or more if there are so many."""
        return len(self._waiting) + (self._groups.count(most) if self._joined else 0)

    def is_short(self) -> bool:
        """Whether more wait here than can be served by what is ready or on its way, or calls of
        C{warm} want more."""
        lacking, warming = self._manager.supply.lacking(), self._manager.admission.warming
        if warming.wishes:
            lacking = max(lacking, warming.wanted())
        return lacking > self._manager.connections.counted_on

    def next_order(self, *, reused: bool) -> float:
        """The number of the arrival of the next waiter, or of a call of C{warm} that only a new
        connection serves; infinity if there is none, or the manager serves nobody.

        @param reused: as for C{next}.
        """
        if not self._lifecycle.serves:
            return math.inf
        head = self.next(reused=reused)
        order = math.inf if head is None else head.order
        return order if reused else min(order, self._manager.admission.warming.next_order())

    def first_order(self) -> float:
        """The number of the arrival of the first who waits here, in the own queue or placed here,
        or of such a call of C{warm}; infinity if nobody does, or the manager serves nobody."""
        if not self._lifecycle.serves:
            return math.inf
        warming = self._manager.admission.warming.next_order()
        return min(self._queue.first_order(), self._placements.first_order(), warming)

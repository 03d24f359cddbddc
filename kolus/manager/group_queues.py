"""C{GroupQueues}: the queues of groups that one manager serves besides its own.

Its state is the queues, and two heaps of them by the arrival of their heads: one of those whose
requests take any connection, one of those that want one which was never leased. When another
manager serves a head, this one is not told, so its entry becomes outdated. The next head of a queue
arrived later than the one before. So an outdated entry is too early, never too late, and is
corrected when it reaches the top. A queue that is empty then is dropped, and joins when it has a
waiter again.
Each operation takes amortised O(log n) for n queues.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.manager.queue import Waiter
    from kolus.watching import Owner

__all__ = ["GroupQueues", "ServedQueue"]

_MOST_TOMBSTONES = 100  # and as many more as there are queues


class ServedQueue(Protocol):
    """What a manager needs of a queue whose requests any of several backends may serve."""

    @property
    def fresh(self) -> bool:
        """Whether its waiters want connections that were never leased."""

    def head(self) -> Waiter[Any] | None:
        """The oldest waiter."""

    def __len__(self) -> int:
        """The number of waiters."""

    def may_serve(self, backend: Backend) -> bool:
        """Whether the health of a backend lets it serve waiters that were not placed there."""

    def take(self, waiter: Waiter[Any]) -> None:
        """Remove a waiter, which a manager serves."""

    def refused(self, waiter: Waiter[Any], error: Exception) -> None:
        """The manager at which a waiter is placed gives up: place it elsewhere, or else fail it."""

    def is_short(self) -> bool:
        """Whether somebody waits for whom no connection is on its way."""

    def wants_room_at(self, backend: Backend) -> bool:
        """Whether one of those would be placed at a backend if that had room. Who is placed there
        already has an attempt of its own there, which is slow."""

    def relieve(self, waiter: Waiter[Any]) -> None:
        """No connection is being made for a waiter where it is placed. Place it at a backend with
        room; if there is none, as soon as there is one."""

    def has_room_at(self, where: Any) -> None:
        """More requests may be connected for than are placed there.

        @param where: a manager, or what is kept of a backend where the queue has none.
        """

    def is_idle_at(self, manager: Any) -> None:
        """A manager that had nothing idle has something idle now."""

    def fail_if_deadlocked(self, waiter: Waiter[Any], owner: Owner) -> None:
        """Fail a waiter if its owner itself holds all leases that could serve it."""

    def dropped(self, manager: Any) -> None:
        """The queue was empty. A manager does not look at it until it joins again."""

    def manager_gone(self, manager: Any) -> None:
        """A manager ends and never serves the queue again."""


class GroupQueues:
    """Finds the queue whose head arrived first.

    @ivar known: the queues, each with the C{order} of its head when last looked at. Only this class
        changes it.
    @ivar fresh: those of them whose waiters want connections that were never leased.
    """

    __slots__ = ("_heaps", "_manager", "fresh", "known")

    def __init__(self, manager: Any) -> None:
        """
        @param manager: the manager that serves the queues.
        """
        self._manager = manager
        self._heaps: tuple[list[tuple[int, ServedQueue]], ...] = ([], [])
        self.fresh: dict[ServedQueue, None] = {}
        self.known: dict[ServedQueue, int] = {}

    def __iter__(self) -> Iterator[ServedQueue]:
        return iter(tuple(self.known))

    def join(self, queue: ServedQueue) -> None:
        """Serve a queue in which somebody waits, unless the manager ends."""
        head = queue.head()
        if queue in self.known or head is None or self._manager._lifecycle.refusal is not None:
            return
        self.known[queue] = head.order
        if queue.fresh:
            self.fresh[queue] = None
        self._manager.smooth = self._manager.passes_on = False
        heap = self._heaps[queue.fresh]
        if len(heap) > 2 * len(self.known) + _MOST_TOMBSTONES:
            fresh = queue.fresh
            heap[:] = [(order, each) for each, order in self.known.items() if each.fresh is fresh]
            heapify(heap)
        else:
            heappush(heap, (head.order, queue))

    def leave(self, queue: ServedQueue) -> None:
        """Stop serving a queue."""
        self.known.pop(queue, None)
        self.fresh.pop(queue, None)

    def clear(self) -> None:
        """Stop serving all queues."""
        self.known.clear()
        self.fresh.clear()
        for heap in self._heaps:
            heap.clear()

    def first(self, *, fresh: bool = False) -> ServedQueue | None:
        """The queue whose head arrived first, of those that the backend may serve.

        @param fresh: whether to look at those whose waiters want connections that were never
            leased, or at the others.
        """
        aside: list[tuple[int, ServedQueue]] = []
        heap = self._heaps[fresh]
        found = None
        while heap and found is None:
            order, queue = heap[0]
            head = queue.head()
            if self.known.get(queue) != order:
                heappop(heap)
            elif head is None:
                heappop(heap)
                self.leave(queue)
                queue.dropped(self._manager)
            elif head.order != order:
                self.known[queue] = head.order
                heapreplace(heap, (head.order, queue))
            elif queue.may_serve(self._manager.backend):
                found = queue
            else:
                aside.append(heappop(heap))
        for each in aside:
            heappush(heap, each)
        return found

    def count(self, most: int) -> int:
        """The number of waiters in all queues together that take any connection.

        @param most: stop counting once so many are found; the result is C{most} or more then.
        """
        count = 0
        for queue in self.known:
            if not queue.fresh:
                count += len(queue)
            if count >= most:
                break
        return count

"""C{ServedQueues}: the queues of groups that one manager serves besides its own.

Its state is the queues, by the arrival of their heads: those whose requests take any connection,
and those that want one which was never leased. When another manager serves a head, this one is not
told. The next head of a queue arrived later than the one before. So what is known of a queue is too
early, never too late, and is corrected when the queue would be next. A queue that is empty then is
dropped, and joins when it has a waiter again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from kolus.support import LazyHeap

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.manager.waiting.queue import Waiter
    from kolus.watching import Owner

__all__ = ["PlacingQueue", "ServedQueue", "ServedQueues"]


class ServedQueue(Protocol):
    """What a manager needs of a queue that it serves besides its own."""

    @property
    def fresh(self) -> bool:
        """Whether its waiters want connections that were never leased."""

    def head(self) -> Waiter[Any] | None:
        """The oldest waiter."""

    def first_order(self) -> float:
        """The number of its arrival; infinity if there is none."""

    def __len__(self) -> int:
        """The number of waiters."""

    def may_serve(self, backend: Backend) -> bool:
        """Whether the health of a backend lets it serve waiters that were not placed there."""

    def take(self, waiter: Waiter[Any]) -> None:
        """Remove a waiter, which a manager serves."""

    def unplaced(self, waiter: Waiter[Any]) -> None:
        """The manager at which a waiter is placed gives up, and calls C{place_elsewhere} soon."""

    def place_elsewhere(self, waiter: Waiter[Any], error: Exception) -> None:
        """The manager at which a waiter is placed gives up: place it elsewhere, or else fail it."""

    def is_short(self) -> bool:
        """Whether somebody waits for whom no connection is on its way."""

    def relieve(self, waiter: Waiter[Any]) -> None:
        """No connection is being made for a waiter where it is placed. Place it at a backend with
        room. If there is none, do so as soon as there is one."""

    def dropped(self, manager: Any) -> None:
        """The queue was empty. A manager does not look at it until it joins again."""

    def manager_gone(self, manager: Any) -> None:
        """A manager ends and never serves the queue again."""


class PlacingQueue(ServedQueue, Protocol):
    """What it needs, too, of a queue whose requests any of several backends may serve. The queue
    asks to be told where something is idle, or where there is room."""

    def wants_room_at(self, backend: Backend) -> bool:
        """Whether a waiter for whom no connection is on its way would be placed at a backend if
        that had room. One that is placed there already would not: its attempt there is slow."""

    def place_short(self) -> None:
        """Place the waiters for whom no connection is being made at backends with room."""

    def has_room_at(self, where: Any) -> None:
        """More requests may be connected for than are placed at the manager C{where}."""

    def attempt_is_due(self, backend: Backend, due: float) -> None:
        """There may be room when the next attempt at a backend is due, on the clock."""

    def is_idle_at(self, manager: Any) -> None:
        """A manager that had nothing idle has something idle now."""

    def fail_if_deadlocked(self, waiter: Waiter[Any], owner: Owner) -> None:
        """Fail a waiter if its owner itself holds all leases that could serve it."""


class ServedQueues:
    """Finds the queue whose head arrived first.

    @ivar joined: the queues. Only this class changes it.
    @ivar fresh: those of them whose waiters want connections that were never leased.
    """

    __slots__ = ("_by_arrival", "_manager", "fresh", "joined")

    def __init__(self, manager: Any) -> None:
        """
        @param manager: the manager that serves the queues.
        """
        self._manager = manager
        self.joined: dict[ServedQueue, None] = {}
        self._by_arrival: tuple[LazyHeap[ServedQueue], ...] = (LazyHeap(), LazyHeap())
        self.fresh = self._by_arrival[True].ranks

    def __iter__(self) -> Iterator[ServedQueue]:
        return iter(tuple(self.joined))

    def join(self, queue: ServedQueue) -> None:
        """Serve a queue in which somebody waits, unless the manager ends."""
        head = queue.head()
        if queue in self.joined or head is None or self._manager.lifecycle.refusal is not None:
            return
        self.joined[queue] = None
        self._by_arrival[queue.fresh].set(queue, head.order)
        self._manager.smooth = self._manager.passes_on = False

    def leave(self, queue: ServedQueue) -> None:
        """Stop serving a queue."""
        self.joined.pop(queue, None)
        self._by_arrival[queue.fresh].discard(queue)

    def clear(self) -> None:
        """Stop serving all queues."""
        self.joined.clear()
        for each in self._by_arrival:
            each.clear()

    def first(self, *, fresh: bool = False) -> ServedQueue | None:
        """The queue whose head arrived first, of those that the backend may serve.

        @param fresh: whether to look at those whose waiters want connections that were never
            leased, or at the others.
        """
        backend, heap = self._manager.backend, self._by_arrival[fresh]
        first = heap.first(self._order)
        if first is None or first.may_serve(backend):
            return first
        return heap.first(self._order, lambda queue: queue.may_serve(backend))

    def _order(self, queue: ServedQueue) -> int | None:
        head = queue.head()
        if head is None:
            self.joined.pop(queue, None)
            queue.dropped(self._manager)
            return None
        return head.order

    def count(self, most: int) -> int:
        """The number of waiters in all queues together that take any connection.

        @param most: stop counting once so many are found; the result is C{most} or more then.
        """
        count = 0
        for queue in self.joined:
            if not queue.fresh:
                count += len(queue)
            if count >= most:
                break
        return count

"""C{GroupQueues}: the queues of groups that one manager serves besides its own.

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

__all__ = ["GroupQueues", "ServedQueue"]


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
        """Whether one of those would be placed at a backend if that had room. A waiter that is
        placed there already would not: its attempt there is slow."""

    def relieve(self, waiter: Waiter[Any]) -> None:
        """No connection is being made for a waiter where it is placed. Place it at a backend with
        room. If there is none, do so as soon as there is one."""

    def has_room_at(self, where: Any) -> None:
        """More requests may be connected for than are placed there.

        @param where: a manager, or what is kept of a backend where the queue has none.
        """

    def look_at(self, due: float) -> None:
        """Look for room at the time C{due} on the clock."""

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

    @ivar known: the queues. Only this class changes it.
    @ivar fresh: those of them whose waiters want connections that were never leased.
    """

    __slots__ = ("_by_arrival", "_manager", "fresh", "known")

    def __init__(self, manager: Any) -> None:
        """
        @param manager: the manager that serves the queues.
        """
        self._manager = manager
        self.known: dict[ServedQueue, None] = {}
        self._by_arrival: tuple[LazyHeap[ServedQueue], ...] = (LazyHeap(), LazyHeap())
        self.fresh = self._by_arrival[True].ranks

    def __iter__(self) -> Iterator[ServedQueue]:
        return iter(tuple(self.known))

    def join(self, queue: ServedQueue) -> None:
        """Serve a queue in which somebody waits, unless the manager ends."""
        head = queue.head()
        if queue in self.known or head is None or self._manager._lifecycle.refusal is not None:
            return
        self.known[queue] = None
        self._by_arrival[queue.fresh].set(queue, head.order)
        self._manager.smooth = self._manager.passes_on = False

    def leave(self, queue: ServedQueue) -> None:
        """Stop serving a queue."""
        self.known.pop(queue, None)
        self._by_arrival[queue.fresh].discard(queue)

    def clear(self) -> None:
        """Stop serving all queues."""
        self.known.clear()
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
            self.known.pop(queue, None)
            queue.dropped(self._manager)
            return None
        return head.order

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

"""C{GroupQueues}: the queues of groups that one manager serves besides its own.

The state is which queues these are, and a heap of them by the arrival of their heads. Heads come
and go at other managers, and nobody tells this one. That is no need: the next head of a queue came
later than the one before, so an entry that is out of date stands too early, never too late, and is
put right when it comes up. A queue that is found empty is dropped; when somebody waits in it again
it joins again. So each operation takes a time that does not depend on how many queues there are,
but for the logarithm of the heap, averaged over the heads that came and went.
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
    """A queue whose requests any of several backends may serve, as managers know it."""

    def head(self) -> Waiter[Any] | None:
        """The oldest waiter."""

    def __len__(self) -> int:
        """How many wait."""

    def may_serve(self, backend: Backend) -> bool:
        """Whether the health of a backend lets it serve requests that were not placed there."""

    def take(self, waiter: Waiter[Any]) -> None:
        """A manager serves this waiter: it leaves the queue."""

    def refused(self, waiter: Waiter[Any], error: Exception) -> None:
        """The manager at which a waiter is placed gives up: place it elsewhere, or fail it."""

    def relieve(self, waiter: Waiter[Any]) -> None:
        """Nothing comes for a waiter where it is placed: place it where there is room, if anywhere,
        now or as soon as there is."""

    def has_room_at(self, where: Any) -> None:
        """More requests may be connected for than are placed there.

        @param where: a manager, or what is kept of a backend where the queue has none.
        """

    def is_idle_at(self, manager: Any) -> None:
        """A manager that had nothing idle has something."""

    def fail_if_deadlocked(self, waiter: Waiter[Any], owner: Owner) -> None:
        """The owner of a waiter holds more than it did: it may be all that could serve it."""

    def dropped(self, manager: Any) -> None:
        """The queue was empty, and a manager looks at it no more until it joins again."""

    def manager_gone(self, manager: Any) -> None:
        """A manager ends, and never serves the queue again."""


class GroupQueues:
    """Finds the queue whose head came first.

    @ivar known: the queues, each with the number of a head that it has or had. Read it; it is
        changed here alone.
    """

    __slots__ = ("_heap", "_manager", "known")

    def __init__(self, manager: Any) -> None:
        """
        @param manager: who serves them.
        """
        self._manager = manager
        self._heap: list[tuple[int, ServedQueue]] = []
        self.known: dict[ServedQueue, int] = {}

    def __iter__(self) -> Iterator[ServedQueue]:
        return iter(tuple(self.known))

    def join(self, queue: ServedQueue) -> None:
        """Serve a queue in which somebody waits, unless the manager ends."""
        head = queue.head()
        if queue in self.known or head is None or self._manager._lifecycle.refusal is not None:
            return
        self.known[queue] = head.order
        self._manager.smooth = self._manager.passes_on = False
        if len(self._heap) > 2 * len(self.known) + _MOST_TOMBSTONES:
            self._heap = [(order, each) for each, order in self.known.items()]
            heapify(self._heap)
        else:
            heappush(self._heap, (head.order, queue))

    def leave(self, queue: ServedQueue) -> None:
        """Serve a queue no more."""
        self.known.pop(queue, None)

    def clear(self) -> None:
        """Serve none any more."""
        self.known.clear()
        self._heap.clear()

    def first(self) -> ServedQueue | None:
        """The queue whose head came first, of those that the manager's backend may serve."""
        aside: list[tuple[int, ServedQueue]] = []
        heap = self._heap
        found = None
        while heap and found is None:
            order, queue = heap[0]
            head = queue.head()
            if self.known.get(queue) != order:
                heappop(heap)
            elif head is None:
                heappop(heap)
                del self.known[queue]
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
        """How many wait in all of them together, as far as that matters.

        @param most: from here on it does not.
        """
        count = 0
        for queue in self.known:
            count += len(queue)
            if count >= most:
                break
        return count

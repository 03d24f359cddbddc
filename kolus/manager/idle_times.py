"""C{IdleTimes}: which idle connections of a manager are due, to be closed or to be checked.

Each has its own share of the jitter, so connections that became idle together are not closed
together. A release takes no time for that: all that are idle are put in order at once, when the
first of them may be due. What becomes idle later cannot be due before the next such look, or is
added.

Its state is a heap of the times at which connections are due, as of the last look; the same times
with their connections, by the ids of these, as long as they exist; and when the next look is due.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar

from kolus.manager.connection_state import IDLE, ConnectionState

__all__ = ["IdleTimes", "Idles"]


class Idles(Protocol):
    """What can be idle.

    @ivar state: whether it is.
    """

    state: ConnectionState


C = TypeVar("C", bound=Idles)


class IdleTimes(Generic[C]):
    """Tells which idle connections are due.

    @ivar shortest: no connection is due before it was idle for so many seconds.
    """

    def __init__(self, idle: Collection[C], shortest: float, due: Callable[[C], float]) -> None:
        """
        @param idle: the idle connections, live.
        @param shortest: no connection is due before it was idle for so many seconds; infinity: none
            is ever due.
        @param due: tells when a connection is due, on the clock, if it stays idle.
        """
        self.shortest = shortest
        self._idle = idle
        self._due = due
        self._dues: list[tuple[float, int]] = []
        self._known: dict[int, tuple[float, C]] = {}
        self._look_at = -math.inf if shortest < math.inf else math.inf

    def pop_due(self, now: float) -> C | None:
        """The connection that is due first; C{None} if none is due. It is told once."""
        if now >= self._look_at:
            self._known = {id(each): (self._due(each), each) for each in self._idle}
            self._dues = [(due, key) for key, (due, _) in self._known.items()]
            heapify(self._dues)
            self._look_at = now + self.shortest
        return self._known.pop(heappop(self._dues)[1])[1] if self._first_due() <= now else None

    def next_due(self) -> float:
        """When C{pop_due} is to be called, on the clock, if anything is idle."""
        return min(self._first_due(), self._look_at)

    def add(self, connection: C) -> None:
        """A connection is idle again, as since long: it may be due before the next look."""
        key, due = id(connection), self._due(connection)
        if key not in self._known and due < math.inf:
            self._known[key] = due, connection
            heappush(self._dues, (due, key))

    def remove(self, connection: C) -> None:
        """A connection is gone."""
        self._known.pop(id(connection), None)

    def _first_due(self) -> float:
        while self._dues:
            due, key = self._dues[0]
            known = self._known.get(key)
            if known is not None and known[0] == due:
                if known[1].state is IDLE and self._due(known[1]) == due:
                    return due
                del self._known[key]
            heappop(self._dues)  # it is gone, or was leased since
        return math.inf

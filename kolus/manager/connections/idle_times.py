"""C{IdleTimes}: which idle connections of a manager are due, to be closed or to be checked.

Each has its own share of the jitter, so connections that became idle together are not closed
together. A release takes no time for that: all that are idle are put in order at once, when the
first of them may be due. What becomes idle later cannot be due before the next such look, or is
added.

Its state is the times at which connections are due, as of the last look, and when the next look is
due.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Generic, Protocol, TypeVar

from kolus.connection import IDLE, ConnectionState
from kolus.support import LazyHeap

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
    @ivar remove: is called with a connection that is gone.
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
        self._dues: LazyHeap[C] = LazyHeap()
        self.remove: Callable[[C], None] = self._dues.discard
        self._look_at = -math.inf if shortest < math.inf else math.inf

    def pop_due(self, now: float) -> C | None:
        """The connection that is due first; C{None} if none is due. It is told once."""
        if now >= self._look_at:
            self._dues.set_all({each: self._due(each) for each in self._idle})
            self._look_at = now + self.shortest
        first = self._dues.first(self._due_now)
        if first is None or self._dues.ranks[first] > now:
            return None
        self._dues.discard(first)
        return first

    def next_due(self) -> float:
        """When C{pop_due} is to be called, on the clock, if anything is idle."""
        first = self._dues.first(self._due_now)
        return self._look_at if first is None else min(self._dues.ranks[first], self._look_at)

    def add(self, connection: C) -> None:
        """A connection is idle again, as since long: it may be due before the next look."""
        due = self._due(connection)
        if connection not in self._dues.ranks and due < math.inf:
            self._dues.set(connection, due)

    def _due_now(self, connection: C) -> float | None:
        """When a connection is due; C{None} if it is to be forgotten: it was leased since."""
        due = self._due(connection) if connection.state is IDLE else None
        return due if due == self._dues.ranks[connection] else None

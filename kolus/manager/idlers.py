"""C{Idlers}: finds the manager whose connection is idle longest, of those that share a limit.

Its state is a heap of managers that have something idle, by the time since when; and for each of
them, which entry of the heap is its own. An entry may be outdated; it is corrected when it reaches
the top. So a lease need not tell.
"""

from __future__ import annotations

import itertools
import math
from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kolus.manager.base import BaseManager

__all__ = ["Idlers"]

_MOST_TOMBSTONES = 100  # and as many more as there are managers


class Idlers:
    """Managers that have something idle, which may have to make way for others."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, BaseManager[Any]]] = []
        self._known: dict[BaseManager[Any], int] = {}
        self._ties = itertools.count()

    def add(self, member: BaseManager[Any]) -> None:
        """A manager that had nothing idle has something."""
        if member not in self._known:
            self._known[member] = tie = next(self._ties)
            heappush(self._heap, (member.connections.order.oldest_since(), tie, member))

    def discard(self, member: BaseManager[Any]) -> None:
        """A manager has ended."""
        self._known.pop(member, None)
        if len(self._heap) > 2 * len(self._known) + _MOST_TOMBSTONES:
            self._heap = [each for each in self._heap if self._known.get(each[2]) == each[1]]
            heapify(self._heap)

    def oldest(self, *, unused: bool = False) -> BaseManager[Any] | None:
        """The manager with the connection that is idle longest; not of those where somebody waits
        and is about to get it.

        @param unused: whether none of its connections may be leased, or being made.
        """
        aside: list[tuple[float, int, BaseManager[Any]]] = []
        heap, found = self._heap, None
        while heap and found is None:
            since, tie, member = heap[0]
            now = member.connections.order.oldest_since()
            if self._known.get(member) != tie:
                heappop(heap)
            elif now == math.inf:
                heappop(heap)
                del self._known[member]
            elif now != since:
                heapreplace(heap, (now, tie, member))
            elif (member.demand() and member.serves()) or (unused and member.connections.in_use()):
                aside.append(heappop(heap))
            else:
                found = member
        for each in aside:
            heappush(heap, each)
        return found

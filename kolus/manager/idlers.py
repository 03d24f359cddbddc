"""C{Idlers}: finds the manager whose connection is idle longest, of those that share a limit.

Its state is a heap of managers that have something idle, by the time since when, and the set of
them. An entry may be outdated; it is corrected when it reaches the top. So a lease need not tell.
"""

from __future__ import annotations

import itertools
import math
from heapq import heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kolus.manager.base import BaseManager

__all__ = ["Idlers"]


class Idlers:
    """Managers that have something idle, which may have to make way for others."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, BaseManager[Any]]] = []
        self._known: set[BaseManager[Any]] = set()
        self._ties = itertools.count()

    def add(self, member: BaseManager[Any]) -> None:
        """A manager that had nothing idle has something."""
        if member not in self._known:
            self._known.add(member)
            heappush(self._heap, (member.connections.oldest_idle(), next(self._ties), member))

    def oldest(self) -> BaseManager[Any] | None:
        """The manager with the connection that is idle longest; not of those where somebody waits
        and is about to get it."""
        aside: list[tuple[float, int, BaseManager[Any]]] = []
        heap, found = self._heap, None
        while heap and found is None:
            since, tie, member = heap[0]
            now = member.connections.oldest_idle()
            if now == math.inf:
                heappop(heap)
                self._known.discard(member)
            elif now != since:
                heapreplace(heap, (now, tie, member))
            elif member.demand() and member.serves():
                aside.append(heappop(heap))
            else:
                found = member
        for each in aside:
            heappush(heap, each)
        return found

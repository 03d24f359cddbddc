"""C{Ranking}: finds the lowest of many ranks without looking at each.

Its state is the last known rank of each place; a heap of (rank, place), in which outdated entries
stay until they reach the top; and the places to look at again. Its owner must tell when a rank may
have become lower. A rank that became higher is noticed when its entry reaches the top.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any

__all__ = ["Ranking"]

_SPARE = 64


class Ranking:
    """The places of a sequence by rank, then by place; O(log n) for each change."""

    def __init__(self, count: int, rank: Callable[[int], Any]) -> None:
        """
        @param rank: returns the current rank of a place.
        """
        self._rank = rank
        self._ranks = [rank(place) for place in range(count)]
        self._heap: list[tuple[Any, int]] = []
        self._told: dict[int, None] = {}  # no set: once large, it is slow for ever
        self._rebuild()

    def changed(self, place: int) -> None:
        """The rank of a place may have become lower. C{lowest} looks at it, so if the rank function
        raises, it raises there."""
        self._told[place] = None

    def lowest(self, exclude: Container[int] = ()) -> int:
        """The place with the lowest rank that is not excluded.

        @raise IndexError: all are excluded, or there are none.
        """
        self._look_again()
        aside: list[tuple[Any, int]] = []
        try:
            while True:
                rank, place = self._heap[0]
                if rank != self._ranks[place]:
                    heappop(self._heap)
                elif place in exclude:
                    aside.append(heappop(self._heap))
                else:
                    now = self._rank(place)
                    if now == rank:
                        return place
                    self._ranks[place] = now
                    heapreplace(self._heap, (now, place))
        finally:
            for each in aside:
                heappush(self._heap, each)

    def _look_again(self) -> None:
        while self._told:
            place = next(reversed(self._told))
            rank = self._rank(place)
            self._told.pop(place, None)
            if rank != self._ranks[place]:
                self._ranks[place] = rank
                heappush(self._heap, (rank, place))
                if len(self._heap) > 2 * len(self._ranks) + _SPARE:
                    self._rebuild()

    def _rebuild(self) -> None:
        self._heap = [(rank, place) for place, rank in enumerate(self._ranks)]
        heapify(self._heap)

"""C{LazyHeap}: finds the item with the lowest rank, of items whose ranks change unseen.

Its state is the items, each with its rank when last looked at and a number, and a heap of these
ranks and numbers. An entry of the heap may be outdated, if its item has another rank and number now
or was removed. It is corrected when it reaches the top, and does not keep the item. So each
operation takes amortised O(log n) for n items.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush, heapreplace
from typing import Generic, TypeVar

__all__ = ["LazyHeap"]

T = TypeVar("T")
_MOST_TOMBSTONES = 64  # and as many more as there are items


class LazyHeap(Generic[T]):
    """Items by rank, such as a time or the number of an arrival.

    @ivar ranks: the items, each with its rank when last looked at. Only this class changes it.
    """

    __slots__ = ("_heap", "_items", "_number_of", "_numbers", "ranks")

    def __init__(self) -> None:
        self.ranks: dict[T, float] = {}
        self._heap: list[tuple[float, int]] = []
        self._numbers = itertools.count()
        self._number_of: dict[T, int] = {}
        self._items: dict[int, T] = {}

    def set(self, item: T, rank: float) -> None:
        """Add an item, or change its rank. A rank that has become higher need not be told, if
        C{first} is called with C{now}."""
        if self.ranks.get(item) != rank:
            self.ranks[item] = rank
            self._items.pop(self._number_of.get(item, -1), None)
            heappush(self._heap, (rank, self._number(item)))
            self._tidy()

    def set_all(self, ranks: Mapping[T, float]) -> None:
        """Replace all items."""
        self.ranks.clear()
        self.ranks.update(ranks)
        self._rebuild()

    def discard(self, item: T) -> None:
        """Remove an item, if it is here."""
        if self.ranks.pop(item, None) is not None:
            del self._items[self._number_of.pop(item)]
            self._tidy()

    def clear(self) -> None:
        """Remove all items."""
        self.set_all({})

    def first(
        self,
        now: Callable[[T], float | None] | None = None,
        may: Callable[[T], object] | None = None,
    ) -> T | None:
        """The item with the lowest rank; C{None} if there is none. It stays.

        @param now: tells the rank of an item now, which may be higher than when it was last looked
            at; C{None} if it is to be removed. Without it, ranks are as they were set.
        @param may: whether an item may be returned. The others stay.
        """
        heap, aside = self._heap, []
        found = None
        while heap:
            entry = rank, number = heap[0]
            if number not in self._items:
                heappop(heap)
                continue
            item = self._items[number]
            is_now = rank if now is None else now(item)
            if not heap or heap[0] is not entry or number not in self._items:
                continue  # to tell it has changed something here
            if is_now is None:
                heappop(heap)
                self.discard(item)
            elif is_now != rank:
                self.ranks[item] = is_now
                heapreplace(heap, (is_now, number))
            elif may is None or may(item):
                found = item
                break
            else:
                aside.append(heappop(heap))
        for each in aside:
            heappush(heap, each)
        return found

    def _number(self, item: T) -> int:
        """Give an item a new number."""
        number = self._number_of[item] = next(self._numbers)
        self._items[number] = item
        return number

    def _tidy(self) -> None:
        if len(self._heap) > 2 * len(self.ranks) + _MOST_TOMBSTONES:
            self._rebuild()

    def _rebuild(self) -> None:
        self._items.clear()
        self._number_of.clear()
        self._heap[:] = [(rank, self._number(item)) for item, rank in self.ranks.items()]
        heapify(self._heap)

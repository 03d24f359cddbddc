"""C{Shrinking}: lets connections of a backend go until a limit that was lowered holds.

Its state is C{active}, and how many leases a shared connection must have to be given more, while
that is known. Nothing that is leased is picked beforehand: see C{IKolusManager.resize}.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kolus.manager.base import BaseManager
    from kolus.manager.record import BackendRecord

__all__ = ["Shrinking"]


class Shrinking:
    """Knows whether a backend has more connections than its limit, and which may be leased.

    @ivar active: whether it had more than its limit when this was last looked at. It is looked at
        when the limit changes, and whenever a connection is gone.
    """

    __slots__ = ("_fewest", "_record", "active")

    def __init__(self, record: BackendRecord) -> None:
        self.active = False
        self._record = record
        self._fewest: int | None = None

    def is_above(self) -> bool:
        """Whether a connection that comes home now is to be closed."""
        return self.active and self._record.room_to_come() < 0

    def look(self) -> None:
        """See whether the limit holds."""
        self._fewest = None
        was, self.active = self.active, self._record.room_to_come() < 0
        if was is not self.active:
            for member in tuple(self._record.members):
                member.shrinking_changed()

    def leases_changed(self) -> None:
        """A shared connection has more leases than before, or fewer."""
        self._fewest = None

    def may_take(self, leases: int) -> bool:
        """Whether a shared connection that has so many leases may be given one more.

        Only as many connections as the limit allows may, those with most leases. So the others
        come home, and a backend that is always asked for gets below its limit, too.
        """
        if self._fewest is None:
            members, limit = self._record.members, self._record.limit
            counts = [len(each.slots) for member in members for each in member.connections.all]
            self._fewest = min(heapq.nlargest(limit, counts)) if len(counts) > limit else 0
        return leases >= self._fewest

    def surplus(self) -> Iterator[tuple[BaseManager[Any], int]]:
        """Which managers close how many of the connections that nobody has.

        Whoever has most connections gives first.
        """
        members = tuple(self._record.members)
        heap = [
            (closing - len(each.connections.all), place, free)
            for place, each in enumerate(members)
            for closing, free in [(len(each.connections.closing), each.connections.unleased())]
            if free
        ]
        heapq.heapify(heap)
        counts = [0] * len(members)
        for _ in range(-self._record.room_to_come()):
            if not heap:
                break
            size, place, free = heap[0]
            counts[place] += 1
            if free > 1:
                heapq.heapreplace(heap, (size + 1, place, free - 1))
            else:
                heapq.heappop(heap)
        return ((each, count) for each, count in zip(members, counts, strict=True) if count)

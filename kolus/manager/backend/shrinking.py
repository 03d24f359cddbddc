"""C{Shrinking}: closes connections of a backend until a lowered limit holds.

Its state is C{active}, and the cached number of leases that a shared connection must have to be
given more. No leased connection is chosen in advance: see C{IKolusManager.resize}.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kolus.manager.backend.record import BackendRecord
    from kolus.manager.base import BaseManager

__all__ = ["Shrinking"]


class Shrinking:
    """Knows whether a backend has more connections than its limit, and which may be leased.

    @ivar active: whether there were more than the limit at the last C{look}, which is called when
        the limit changes, and when a connection comes home or is gone.
    """

    __slots__ = ("_fewest", "_record", "active")

    def __init__(self, record: BackendRecord) -> None:
        self.active = False
        self._record = record
        self._fewest: int | None = None

    def is_above(self) -> bool:
        """Whether a connection that is released now must be closed."""
        if self.active:
            self.look()  # else what becomes idle now would not be leased until another is gone
        return self.active

    def look(self) -> None:
        """Check whether the limit holds."""
        self._fewest = None
        record = self._record
        was, self.active = self.active, bool(record.all) and record.room.to_come() < 0
        if was is not self.active:
            for member in tuple(record.members):
                member.shrinking_changed()

    def leases_changed(self) -> None:
        """The number of leases of a shared connection has changed."""
        self._fewest = None

    def may_take(self, leases: int) -> bool:
        """Whether a shared connection with so many leases may be given one more.

        Only as many connections as the limit allows get more, those with most leases. So the others
        run out of leases and are closed, even if the backend is always busy.
        """
        if self._fewest is None:
            members, limit = self._record.members, self._record.limit
            counts = [len(each.slots) for member in members for each in member.connections.all]
            self._fewest = min(heapq.nlargest(limit, counts)) if len(counts) > limit else 0
        return leases >= self._fewest

    def surplus(self) -> Iterator[tuple[BaseManager[Any], int]]:
        """Which managers close how many of the connections that nobody has.

        The manager with most connections closes first.
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
        for _ in range(-self._record.room.own_to_come()):
            if not heap:
                break
            size, place, free = heap[0]
            counts[place] += 1
            if free > 1:
                heapq.heapreplace(heap, (size + 1, place, free - 1))
            else:
                heapq.heappop(heap)
        return ((each, count) for each, count in zip(members, counts, strict=True) if count)

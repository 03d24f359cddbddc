"""C{SlotQueue}: the backends that want a slot of a pool, by the arrival of their next waiters.

A thousand backends may want a slot for the requests of one group. So the backends have no rank of
their own: those who ask for a slot have, which are the managers where somebody waits and the queues
of groups that wait for room. When the first request of a queue is served, only the queue has
another rank.

Its state is the backends, each with those who ask for a slot there, and the other way round; and
those who ask, by the arrival of their first waiters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from kolus.support import LazyHeap

if TYPE_CHECKING:
    from kolus.manager.backend.record import BackendRecord

__all__ = ["Asker", "SlotQueue"]


class Asker(Protocol):
    """A manager where somebody waits, or a queue of a group that waits for room."""

    def first_order(self) -> float:
        """The number of the arrival of its first waiter; infinity if there is none."""


class SlotQueue:
    """Backends that want a slot, each with at least one who asks for it.

    @ivar wanting: the backends, each with those who asked when it was last looked at. Only this
        class changes it.
    """

    __slots__ = ("_askers", "_at", "_look", "wanting")

    def __init__(self, look: Callable[[BackendRecord], object]) -> None:
        """
        @param look: is called with a backend where somebody asked who asks there no more. It calls
            C{set} with those who do.
        """
        self._look = look
        self.wanting: dict[BackendRecord, tuple[Asker, ...]] = {}
        self._at: dict[Asker, dict[BackendRecord, None]] = {}
        self._askers: LazyHeap[Asker] = LazyHeap()

    def set(self, record: BackendRecord, askers: tuple[Asker, ...]) -> None:
        """Add a backend, or note that others ask there, or that those who do have an older waiter.

        @param askers: who asks for a slot there; if nobody does, the backend is removed.
        """
        if self.wanting.get(record, ()) != askers:
            self.discard(record)
            if askers:
                self.wanting[record] = askers
            for each in askers:
                self._at.setdefault(each, {})[record] = None
        for each in askers:
            order = each.first_order()
            if order < self._askers.ranks.get(each, order + 1):
                self._askers.set(each, order)

    def discard(self, record: BackendRecord) -> None:
        """Remove a backend, if it is here."""
        for each in self.wanting.pop(record, ()):
            there = self._at[each]
            del there[record]
            if not there:
                del self._at[each]
                self._askers.discard(each)

    def clear(self) -> None:
        """Remove all backends."""
        self.wanting.clear()
        self._at.clear()
        self._askers.clear()

    def first(self) -> tuple[BackendRecord, float] | None:
        """The backend whose next waiter arrived first, and the number of that arrival."""
        while (asker := self._askers.first(_order)) is not None:
            record = next(iter(self._at[asker]))
            if asker in (record.turns.askers() or ()):
                return record, asker.first_order()
            self._look(record)
        return None


def _order(asker: Asker) -> float:
    return asker.first_order()

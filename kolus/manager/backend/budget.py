"""C{Budget}: the most connections of all backends of a pool together, and whose turn it is.

Within a backend, its C{Turns} decide which manager connects next. Where the pool's limit binds, the
budget decides which backend does: the one whose next waiter arrived first.

Its state is the limit; the number of connections, and of all that were ever made; those of them
that end; the backends that have some; the backends that have room of their own and wait for a slot
here, by the arrival of their next waiters; those that want one that nobody waits for; the managers
with something idle; whether there were more connections than the limit; and the backends to tell
that there no longer are.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kolus.events import Why
from kolus.manager.backend.idlers import Idlers
from kolus.manager.connections.warming import AFTER_REQUESTS
from kolus.support import LazyHeap

if TYPE_CHECKING:
    from kolus.manager.backend.record import BackendRecord
    from kolus.manager.base import BaseManager

__all__ = ["Budget"]


class Budget:
    """Gives the slots of one pool to its backends.

    @ivar limit: the most connections; C{None}: as many as the backends' own limits allow.
    @ivar used: the number of connections, those included that are being made or closed.
    @ivar leaving: those that are being closed, or will be as soon as their last lease is settled.
    @ivar holders: the backends that have connections.
    @ivar wanting: the backends where somebody waits for a slot of the pool, each with the number of
        the next waiter's arrival when last looked at. Only this class changes it.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.used = self._begun = 0
        self.leaving: set[Any] = set()
        self.holders: dict[BackendRecord, None] = {}
        self._line: LazyHeap[BackendRecord] = LazyHeap()
        self.wanting = self._line.ranks
        self._spare: dict[BackendRecord, None] = {}
        self._idlers = Idlers()
        self._to_tell: dict[BackendRecord, None] = {}
        self._is_waking = self._was_above = False

    # What is used

    def begin(self, record: BackendRecord) -> None:
        """A backend has one more connection."""
        self.used += 1
        self._begun += 1
        self.holders[record] = None

    def ends(self, connection: Any) -> None:
        """A connection is being closed, or will be as soon as its last lease is settled."""
        self.leaving.add(connection)
        self._look_if_above()

    def remove(self, record: BackendRecord, connection: Any) -> None:
        """A connection of a backend is gone."""
        self.used -= 1
        self.leaving.discard(connection)
        if not record.all:
            self.holders.pop(record, None)

    def unused(self) -> int:
        """How many more connections the limit allows; below 0 while there are more."""
        return sys.maxsize if self.limit is None else self.limit - self.used

    def room_to_come(self) -> int:
        """The same once those that are leaving are gone."""
        return self.unused() + len(self.leaving)

    def is_above(self) -> bool:
        """Whether a connection that comes home must be closed, as the limit was lowered."""
        return self._was_above and self.room_to_come() < 0

    def obtainable(self) -> int:
        """How many more connections could be made at once, or as soon as one that is idle has made
        way."""
        if self.limit is None:
            return sys.maxsize
        return self.unused() if self.unused() > 0 else int(self._idlers.oldest() is not None)

    # Whose turn it is

    def want(self, record: BackendRecord) -> None:
        """Note that a backend may want a slot. It is noted only while its own limit leaves room."""
        if self.limit is None:
            return
        order = record.turns.next_order()
        if order is None:
            self._forget(record)
        elif order == math.inf:
            self._line.discard(record)
            self._spare[record] = None
        else:
            self._spare.pop(record, None)
            self._line.set(record, order)

    def _first(self) -> BackendRecord | None:
        """The backend whose next waiter arrived first, of those that want a slot."""
        return self._line.first(self._order)

    def _order(self, record: BackendRecord) -> float | None:
        order = record.turns.next_order()
        if order == math.inf:
            self._spare[record] = None
            return None
        return order

    def grants(self, record: BackendRecord, member: BaseManager[Any]) -> bool:
        """Whether a manager may take a slot now. Backends with older waiters are offered it first.
        A slot for a connection that is only kept ready is not granted while a request waits at
        another backend.

        @param record: the manager's.
        """
        while self.unused() > 0:
            first = self._first() if self.wanting else None
            if first is None:
                return True
            if not member.is_short():
                return False
            if first is record or self.wanting[first] >= member._dispatcher.next_order(
                reused=False
            ):
                return True
            begun = self._begun
            first.turns.wake()
            if self._begun == begun:  # it is about to decide anyway
                return self.unused() > 0
        return False

    def claims(self, member: BaseManager[Any]) -> bool:
        """Whether the connection that comes home to C{member} is to make way for another backend's.

        It must if nobody waits for it here, or if the other backend's waiter is older, and that
        backend has no connection or at least two fewer. So not every other lease costs a
        connection. But a waiter is overtaken by no more requests than the limit has connections.
        """
        if self.room_to_come() >= len(self.wanting):
            return False
        first, record = self._first(), member._record
        order = member._dispatcher.next_order(reused=True)
        if first is None or order == math.inf:
            return first is not None
        if first is record:  # its turns have decided
            return False
        older = self.wanting[first]
        theirs, its = len(first.all), len(record.all)
        is_due = not theirs or theirs + 1 < its or order - older > (self.limit or 0)
        return older < order and is_due

    def wake(self) -> None:
        """Slots may be free: let backends connect, in the order of their waiters."""
        if self._is_waking or self.limit is None:
            return
        self._look_if_above()
        self._is_waking = True
        passed: list[BackendRecord] = []
        try:
            while self._to_tell:
                self._to_tell.popitem()[0].tell_members()
            while self.unused() > 0:
                first = self._first() or (None if passed else next(iter(self._spare), None))
                if first is None:
                    break
                begun = self._begun
                self._forget(first)
                first.turns.wake()
                if self._begun == begun:  # it is about to decide anyway
                    self._forget(first)
                    passed.append(first)
        finally:
            self._is_waking = False
        for each in passed:
            self.want(each)
        self.make_room()

    def _look_if_above(self) -> None:
        """See whether those that go are enough for a limit that was lowered. If so, what is idle
        may be leased again where connections have several lessees."""
        if self._was_above and self.room_to_come() >= 0:
            self._was_above = False
            self._to_tell |= self.holders
            for record in self.holders:
                record.shrinking.look()

    def _forget(self, record: BackendRecord) -> None:
        self._line.discard(record)
        self._spare.pop(record, None)

    def left(self, member: BaseManager[Any]) -> None:
        """A manager has no connections any more and wants none."""
        self._idlers.discard(member)
        self.want(member._record)

    # Making room

    def has_idle(self, member: BaseManager[Any]) -> None:
        """A manager that had nothing idle has something."""
        if self.limit is not None:
            self._idlers.add(member)

    def make_room(self) -> None:
        """Close the connections that are idle longest, one for each backend where somebody waits,
        unless slots become free anyway."""
        while self.room_to_come() < len(self.wanting) and (first := self._first()) is not None:
            oldest = self._idlers.oldest(warm=self.wanting[first] < AFTER_REQUESTS)
            if oldest is None:
                return
            oldest.connections.close_oldest_idle(Why.DISPLACED)

    def give_way(self) -> None:
        """Another pool that shares the limit needs room: close what is idle longest, unless
        something is being closed."""
        if not self.leaving:
            self._idlers.close_spare()

    def resize(self, limit: int | None, records: Iterable[BackendRecord]) -> None:
        """Set another limit.

        @param records: those of all backends.
        """
        everything = list(records)
        self.limit = limit
        self._was_above = self.room_to_come() < 0
        if limit is None:  # nobody waits for a slot of the pool any more
            self._line.clear()
            self._spare.clear()
        for record in everything:
            for member in record.members:
                if member.connections.idle:
                    self.has_idle(member)
            record.changed()
            record.shrinking.look()
        self._shed()
        for record in everything:
            for member in tuple(record.members):
                member.connections_changed()
                member.deadlocks.look_at_all()
            self.want(record)
        self.wake()

    def stays(self) -> None:
        """A connection has left the pool and keeps its slot. If it was leaving before, there may be
        more than a lowered limit allows, and others go."""
        if self.room_to_come() < 0:
            self._was_above = True
            for record in self.holders:
                record.shrinking.look()
            self._shed()

    def _shed(self) -> None:
        """Close the connections that are idle longest, then those being made, as many as needed."""
        while self.room_to_come() < 0 and (oldest := self._idlers.oldest()) is not None:
            oldest.connections.close_oldest_idle(Why.RESIZED)
        for record in tuple(self.holders):
            for member in tuple(record.members):  # where only requests for fresh ones wait
                while self.room_to_come() < 0 and member.connections.idle:
                    member.connections.close_oldest_idle(Why.RESIZED)
            for connection in tuple(record.connecting):
                if self.room_to_come() < 0:
                    connection.manager.connections.close(connection, Why.RESIZED)

"""C{Budget}: the most connections of all backends of a pool together, and whose turn it is.

Within a backend, its C{Turns} decide which manager connects next. Where the pool's limit binds, the
budget decides which backend does: the one whose next waiter arrived first.

Its state is the limit; the number of connections, and of all that were ever made; those of them
that end; the backends that have some; the backends that have room of their own and wait for a slot
here; those that want one that nobody waits for; those that were offered one and took none, while
slots are offered; the managers with something idle; whether there were more connections than the
limit; and the backends to tell that there no longer are.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kolus.events import Why
from kolus.manager.backend.idle_managers import IdleManagers
from kolus.manager.backend.slot_queue import SlotQueue
from kolus.manager.connections.warming import AFTER_REQUESTS

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
    @ivar has_others: the manager that has shown last that an owner does not hold everything.
    @ivar wanting: the backends where somebody waits for a slot of the pool: see C{SlotQueue}.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.used = self._begun = 0
        self.leaving: set[Any] = set()
        self.holders: dict[BackendRecord, None] = {}
        self.has_others: BaseManager[Any] | None = None
        self._slot_queue = SlotQueue(self.want)
        self.wanting = self._slot_queue.wanting
        self._spare: dict[BackendRecord, None] = {}
        self._passed: dict[BackendRecord, int] = {}
        self._idle_managers = IdleManagers()
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
        return self.unused() if self.unused() > 0 else int(self._idle_managers.oldest() is not None)

    # Whose turn it is

    def want(self, record: BackendRecord) -> None:
        """Note that a backend may want a slot. It is noted only while its own limit leaves room.

        A backend that was offered one and took none is not noted before another connection has
        begun, or all have been offered it. A queue may wait at two such backends. When one tells it
        of the slot, it asks at the other again. So both would be offered the slot without end.
        """
        if self.limit is None or self._passed.get(record) == self._begun:
            return
        askers = record.turns.askers()
        self._slot_queue.set(record, askers or ())
        if askers == ():
            self._spare[record] = None
        else:
            self._spare.pop(record, None)

    def grants(self, record: BackendRecord, member: BaseManager[Any]) -> bool:
        """Whether a manager may take a slot now. Backends with older waiters are offered it first.
        A slot for a connection that is only kept ready is not granted while a request waits at
        another backend.

        @param record: the manager's.
        """
        while self.unused() > 0:
            found = self._slot_queue.first()
            if found is None:
                return True
            if not member.waiters.is_short():
                return False
            first, older = found
            if first is record or older >= member.waiters.next_order(reused=False):
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
        found, record = self._slot_queue.first(), member.record
        order = member.waiters.next_order(reused=True)
        if found is None or order == math.inf:
            return found is not None
        first, older = found
        if first is record:  # its turns have decided
            return False
        theirs, its = len(first.all), len(record.all)
        is_due = not theirs or theirs + 1 < its or order - older > (self.limit or 0)
        return older < order and is_due

    def wake(self) -> None:
        """Slots may be free: let backends connect, in the order of their waiters."""
        if self._is_waking or self.limit is None:
            return
        self._look_if_above()
        self._is_waking = True
        try:
            while self._to_tell:
                self._to_tell.popitem()[0].tell_members()
            while self.unused() > 0:
                found = self._slot_queue.first()
                if found is not None:
                    first = found[0]
                elif self._spare and not self._passed:
                    first = next(iter(self._spare))
                else:
                    break
                begun = self._begun
                self._forget(first)
                first.turns.wake()
                if self._begun == begun:  # it is about to decide anyway
                    self._forget(first)
                    self._passed[first] = begun
        finally:
            self._is_waking = False
            passed, self._passed = self._passed, {}
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
        self._slot_queue.discard(record)
        self._spare.pop(record, None)

    def left(self, member: BaseManager[Any]) -> None:
        """A manager has no connections any more and wants none."""
        self._idle_managers.discard(member)
        if self.has_others is member:
            self.has_others = None
        self.want(member.record)

    # Making room

    def note_idle(self, member: BaseManager[Any]) -> None:
        """A manager that had nothing idle has something."""
        if self.limit is not None:
            self._idle_managers.add(member)

    def make_room(self) -> None:
        """Close the connections that are idle longest, one for each backend where somebody waits,
        unless slots become free anyway."""
        while (
            self.room_to_come() < len(self.wanting)
            and (found := self._slot_queue.first()) is not None
        ):
            oldest = self._idle_managers.oldest(warm=found[1] < AFTER_REQUESTS)
            if oldest is None:
                return
            oldest.connections.close_oldest_idle(Why.DISPLACED)

    def give_way(self) -> None:
        """Another pool that shares the limit needs room: close what is idle longest, unless
        something is being closed."""
        if self.leaving:
            return
        if self.limit is None:  # what is idle was not noted while it had to make way for nobody
            for record in self.holders:
                for member in record.members:
                    if member.connections.idle:
                        self._idle_managers.add(member)
        self._idle_managers.close_spare()

    def resize(self, limit: int | None, records: Iterable[BackendRecord]) -> None:
        """Set another limit.

        @param records: those of all backends.
        """
        everything = list(records)
        self.limit = limit
        self._was_above = self.room_to_come() < 0
        if limit is None:  # nobody waits for a slot of the pool any more
            self._slot_queue.clear()
            self._spare.clear()
        for record in everything:
            for member in record.members:
                if member.connections.idle:
                    self.note_idle(member)
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
        while self.room_to_come() < 0 and (oldest := self._idle_managers.oldest()) is not None:
            oldest.connections.close_oldest_idle(Why.RESIZED)
        for record in tuple(self.holders):
            for member in tuple(record.members):  # where only requests for fresh ones wait
                while self.room_to_come() < 0 and member.connections.idle:
                    member.connections.close_oldest_idle(Why.RESIZED)
            for connection in tuple(record.connecting):
                if self.room_to_come() < 0:
                    connection.manager.connections.close(connection, Why.RESIZED)

"""C{Freshness}: serves requests that want a fresh connection, one that was never leased.

Each such request waits in a queue of its kind (C{fresh} is true), of the manager or of a group.
What was never leased goes to the oldest request of all queues. What was leased before goes to the
oldest that takes it, but makes way for an older one that wants a fresh connection if the limit
leaves no room for that. It has no state of its own.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from kolus.connection import LEASED
from kolus.events import Why

if TYPE_CHECKING:
    from kolus.connection import Connection
    from kolus.manager.base import BaseManager
    from kolus.manager.connections.slots import Slots
    from kolus.manager.shared import SharedManager

__all__ = ["Freshness", "SharedFreshness", "SoleFreshness"]


class Freshness(ABC):
    """Does for such requests what the dispatcher of one manager does for the others."""

    def __init__(self, manager: BaseManager[Any]) -> None:
        self._manager = manager
        self._connections = manager.connections
        self._placed = manager.placements.fresh

    def look(self) -> None:
        """Lease what was never leased, in turn, and make way for those who still want some."""
        self._hand_out()
        while self._is_next() and self._is_short():
            if not self._make_way():
                return

    def take(self) -> Connection[Any] | None:
        """Take a connection that was never leased out of C{idle}. C{None} if there is none, if it
        must be checked first, or if somebody waits for it."""
        if self._manager.waiters.is_asked(reused=False):
            return None
        connection = next(self.new_idle(), None)
        if connection is None or self._manager.hooks.is_stale(connection):
            return None
        self._connections.order.leave(connection)
        return connection

    def is_wanted(self) -> bool:
        """Whether something idle was never leased, and is for somebody who waits."""
        is_asked = self._manager.waiters.is_asked(reused=False)
        return is_asked and next(self.new_idle(), None) is not None

    @abstractmethod
    def new_idle(self) -> Iterator[Connection[Any]]:
        """The idle connections that were never leased, and can be."""

    @abstractmethod
    def connections_for(self, leases: int) -> int:
        """How many new connections so many leases need."""

    def ready(self) -> int:
        """How many connections of the kind are ready for the requests that are placed here, or are
        expected to be after their check."""
        if not self._placed:
            return 0
        in_check = self.in_check()
        most = self.connections_for(len(self._placed)) - in_check
        return in_check + sum([1 for _ in islice(self.new_idle(), most)])

    def in_check(self) -> int:
        """How many connections of the kind in a check are for these requests. The others that are
        in a check are for those who take anything."""
        return min(self._connections.checking.new, self.connections_for(len(self._placed)))

    def _hand_out(self) -> None:
        manager = self._manager
        while manager.lifecycle.serves and manager.waiters.is_asked(reused=False):
            connection = next(self.new_idle(), None)
            if connection is None:
                return
            is_stale = manager.hooks.is_stale(connection)
            if is_stale and self.in_check() >= self.connections_for(len(self._placed)):
                return  # those in a check that were leased before are of no use here
            self._connections.take(connection)
            if is_stale:
                manager.checker.check(connection)
            else:
                manager.give(connection)

    def _is_next(self) -> bool:
        """Whether such a request is placed here, and is older than those who take anything."""
        head = next(iter(self._placed), None)
        if head is None or not self._manager.lifecycle.serves:
            return False
        other = self._manager.waiters.next()
        return other is None or head.order < other.order

    def _is_short(self) -> bool:
        """Whether the limit leaves no room for the connections that these requests need."""
        manager = self._manager
        if self.connections_for(len(self._placed)) <= self._coming():
            return False
        due = manager.record.attempts.due_at
        if due > manager.now():
            manager.alarm.set(due)  # nothing has to make way before
            return False
        return not manager.connector.held_back

    def _make_way(self) -> bool:
        """End a connection that was leased, so that a fresh one may be made; return whether there
        was one."""
        used = next((each for each in self._connections.idle if each.uses), None)
        if used is None:
            return False
        self._connections.close(used, Why.DISPLACED)
        return True

    def _coming(self) -> int:
        """How many fresh connections are ready or being made, or may be without another's end."""
        to_come = max(0, self._manager.record.room.to_come())
        return self.ready() + len(self._connections.connecting) + to_come


class SoleFreshness(Freshness):
    """Of connections that have one lessee each."""

    def new_idle(self) -> Iterator[Connection[Any]]:
        return self._connections.order.new()

    def connections_for(self, leases: int) -> int:
        return leases


class SharedFreshness(Freshness):
    """Of connections that have slots.

    All who wait when such a connection is ready get slots of it, in turn: to each of them it is
    fresh. If each had one of its own, a manager that lost a connection with a hundred leases would
    have to make a hundred, one after the other.
    """

    _manager: SharedManager[Any]

    @property
    def _slots(self) -> Slots:
        return self._manager.slots

    def new_idle(self) -> Iterator[Connection[Any]]:
        return self._connections.order.new(self._slots.heard().silent)

    def connections_for(self, leases: int) -> int:
        return math.ceil(leases / self._slots.each)

    def give(self, connection: Connection[Any]) -> None:
        """Lease a connection that was never leased, and is not in C{idle}, to those who wait."""
        manager = self._manager
        last = next(manager.record.arrivals)
        while manager.lifecycle.serves and self._slots.look(connection):
            waiter = manager.waiters.next(reused=False)
            if waiter is None or waiter.order > last:
                return
            if connection in self._connections.idle:  # whoever had it first has released it
                if manager.hooks.is_stale(connection):
                    return
                self._connections.order.leave(connection)
            slot = manager.take(connection, manager.now())
            if slot is None:
                return
            slot.fresh = waiter.fresh
            manager.dispatcher.serve(slot)
            if connection.state is not LEASED and connection not in self._connections.idle:
                return  # whoever had it has detached it, or it is in a check already

    def _make_way(self) -> bool:
        if super()._make_way():
            return True
        busy = next(iter(self._slots.spare), None)
        if busy is None:
            return False
        busy.retire(Why.DISPLACED)
        self._slots.moved(busy)
        self._manager.deadlocks.look_at_all()
        return True

    def _coming(self) -> int:
        slots = self._slots
        return super()._coming() + len(slots.making_way) + slots.about_to_tell()

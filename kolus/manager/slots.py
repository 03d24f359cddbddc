"""C{Slots}: how many slots the connections of one manager have, and which have some left.

Its state is a few sums, over all connections, and connections by what they can carry. All of it
follows from what each connection's C{Taken} says: how many leases the connection can carry, as far
as is known, and how it counts. So a request costs the same with ten connections and with ten
thousand. What neither a protocol nor a transport tells is noted when somebody looks next: until
then a number may be too high, but never too low. Besides there are the connections that were just
made and not asked for their slots yet, and those of the protocols that know theirs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

from kolus.events import Why
from kolus.interfaces import ISlots
from kolus.manager.connection_state import IDLE, LEASED
from kolus.manager.slot import Slot
from kolus.manager.transports import is_sound
from kolus.support import check_whole

if TYPE_CHECKING:
    from kolus.manager.connection import Connection
    from kolus.manager.connections import Connections

__all__ = ["Slots", "Taken"]


class Standing(Enum):
    """How a connection counts."""

    OUT = "it does not: it is being made or checked, or is gone"
    OPEN = "it is idle or leased"
    ENDING = "it is being closed, and its leases are out still"


OUT, OPEN, ENDING = Standing


class Taken(set[Slot]):
    """The slots of one connection that are leased.

    @ivar size: how many leases it can carry, as far as is known; 0 if it takes no new ones.
    @ivar standing: how it counts.
    """

    __slots__ = ("size", "standing")

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self.standing = OUT


class Slots:
    """Counts the slots of the connections of one manager.

    @ivar each: how many a connection has whose protocol does not say.
    @ivar free: how many leases more they can carry.
    @ivar total: how many slots there are, free or leased, of those that are idle or leased.
    @ivar ending: how many leases are out of those that are being closed.
    @ivar open: how many connections are idle or leased.
    @ivar spare: those that are leased and have slots left, the first to be used first.
    @ivar silent: those that are idle and can carry nothing now.
    @ivar fresh: those of them that were never leased, and are about to hear how much they can.
    @ivar making_way: those that end so that a sibling can have one.
    """

    def __init__(
        self,
        each: int,
        connections: Connections[Any],
        failed: Callable[[Connection[Any], Exception], object],
    ) -> None:
        """
        @param failed: called when a protocol does not say how many slots it has; it has to close
            the connection, and that may lead to anything.
        """
        self.each = each
        self.free = self.total = self.ending = self.open = 0
        self.spare: OrderedDict[Connection[Any], None] = OrderedDict()
        self.silent: set[Connection[Any]] = set()
        self.fresh: set[Connection[Any]] = set()
        self.making_way: set[Connection[Any]] = set()
        self._new: list[Connection[Any]] = []
        self._speakers: dict[int, Connection[Any]] = {}
        self._connections = connections
        self._failed = failed
        connections.moved = self.moved

    def heard(self) -> Slots:
        """Itself, when those connections were asked for their slots that have just been made."""
        while self._new:
            self.look(self._new.pop())
        return self

    def capacity(self, connection: Connection[Any]) -> int:
        """How many slots a connection has, free or leased, if it is idle or leased."""
        taken = connection.slots
        is_open = isinstance(taken, Taken) and taken.standing is OPEN
        return max(taken.size, len(taken)) if is_open else 0

    def leased(self) -> int:
        """How many leases are out."""
        return self.total - self.free + self.ending

    def next_idle(self, is_stale: Callable[[Connection[Any]], bool]) -> Connection[Any] | None:
        """An idle connection with a slot left: the next, or else the freshest, that is not stale.

        @return: if all are stale, the next; C{None} if there is none.
        """
        in_turn = self._connections.idle_in_turn()
        first = next((each for each in in_turn if each not in self.silent), None)
        if first is not None and is_stale(first):
            latest = reversed(self._connections.idle)
            freshest = next(each for each in latest if each not in self.silent)
            return first if is_stale(freshest) else freshest
        return first

    # How many leases a connection can carry

    def measure(self, connection: Connection[Any]) -> int:
        """How many it can carry now, with those that it does; 0 if it takes no new ones."""
        if connection.retired or not is_sound(connection.transport, bool(connection.slots)):
            return 0
        protocol: Any = connection.protocol
        if not ISlots.providedBy(protocol):
            return self.each
        self._speakers[id(protocol)] = connection
        try:
            check_whole("slots", slots := protocol.slots, 0)
        except Exception as error:
            self._failed(connection, error)
            return 0
        return int(slots)

    def look(self, connection: Connection[Any]) -> int:
        """Find out how many it can carry.

        @return: how many more than it does.
        """
        self.note(connection, self.measure(connection))
        taken: Taken = connection.slots
        return max(0, taken.size - len(taken))

    def look_at_all(self) -> None:
        for connection in tuple(self._connections.all):
            if connection.state is IDLE or connection.state is LEASED:
                self.look(connection)

    def changed(self, protocol: int) -> None:
        """A protocol says that it can carry more or fewer.

        @param protocol: its C{id}, for it need not be hashable.
        """
        if protocol in self._speakers:
            self.look(self._speakers[protocol])

    def moved(self, connection: Connection[Any]) -> None:
        """It came home, is to take no new leases, or is gone."""
        if isinstance(connection.slots, Taken):
            self.note(connection, 0 if connection.retired else None)
        elif connection in self._connections.idle:
            # Whoever made it has not told of it yet, and to ask it may lead to its end.
            self._new.append(connection)
        is_here = connection in self._connections.all
        if connection.why is Why.DISPLACED and is_here:
            self.making_way.add(connection)
        else:
            self.making_way.discard(connection)
        if not is_here:
            self._speakers.pop(id(getattr(connection, "protocol", None)), None)

    def note(self, connection: Connection[Any], size: int | None = None) -> None:
        """Its state has changed, or how many leases it can carry.

        @param size: how many; as many as before if C{None}.
        """
        taken = connection.slots
        if not isinstance(taken, Taken):
            taken = connection.slots = Taken()
        self._count(taken, -1)
        if size is not None:
            taken.size = size
        is_idle = connection in self._connections.idle
        if connection in self._connections.closing:
            taken.standing = ENDING
        else:
            taken.standing = OPEN if is_idle or connection.state is LEASED else OUT
        self._count(taken, 1)
        self._sort(connection, taken, is_idle)

    # Leases

    def take(self, slot: Slot) -> None:
        """It is leased; its connection is open, and has a slot left."""
        connection = slot.connection
        taken = connection.slots
        if taken.standing is not OPEN:
            self.note(connection)  # it comes from a check
        taken.add(slot)
        self.free -= 1
        leased = len(taken)
        if leased == taken.size:
            self.spare.pop(connection, None)
        elif leased == 1:
            self.spare[connection] = None

    def give_back(self, slot: Slot) -> None:
        """It is leased no more."""
        connection = slot.connection
        taken = connection.slots
        leased = len(taken)
        if leased > taken.size or taken.standing is not OPEN:
            self._count(taken, -1)
            taken.discard(slot)
            self._count(taken, 1)
            return
        taken.discard(slot)
        self.free += 1
        if leased == 1:
            self.spare.pop(connection, None)
        elif leased == taken.size:
            self.spare[connection] = None

    def _count(self, taken: Taken, sign: int) -> None:
        """Add what a connection counts to the sums, or take it away."""
        leased = len(taken)
        if taken.standing is OPEN:
            self.open += sign
            self.total += sign * max(taken.size, leased)
            self.free += sign * max(0, taken.size - leased)
        elif taken.standing is ENDING:
            self.ending += sign * leased

    def _sort(self, connection: Connection[Any], taken: Taken, is_idle: bool) -> None:
        if taken.standing is OPEN and taken and taken.size > len(taken):
            self.spare[connection] = None
        else:
            self.spare.pop(connection, None)
        if is_idle and not taken.size:
            self.silent.add(connection)
            if not connection.uses:
                self.fresh.add(connection)
        else:
            self.silent.discard(connection)
            self.fresh.discard(connection)

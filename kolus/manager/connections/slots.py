"""C{Slots}: counts the slots of one manager's connections, and finds connections with free slots.

Its state is a few sums over all connections; sets of connections by what they can carry; the new
connections that were not asked for their slots yet; and the connections by protocol, for protocols
that tell their slots. The sums and sets follow from the C{Taken} of each connection, so a request
takes the same time with ten connections and with ten thousand. A change that neither protocol nor
transport tells is noted at the next look. Until then a number may be too high, but never too low.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar

from kolus.connection import IDLE, LEASED, Slot, is_sound
from kolus.events import Why
from kolus.health import LATE
from kolus.interfaces import ISlots
from kolus.manager.connections.connections import SLOW_CONNECT
from kolus.manager.connections.under_way import UnderWay
from kolus.support import check_done, check_whole

if TYPE_CHECKING:
    from kolus.connection import Connection
    from kolus.manager.connections.connections import Connections
    from kolus.support import Alarm, SteadyClock

__all__ = ["Slots", "Taken", "watched"]

P = TypeVar("P")


def watched(build: Callable[[], P], changed: Callable[[int], object]) -> Callable[[], P]:
    """A maker of protocols that tell when their slots change.

    @param changed: is called with the C{id} of such a protocol, since it may not be hashable.
    """

    @wraps(build)
    def make() -> P:
        made: Any = build()
        if ISlots.providedBy(made):
            watch: Any = made.watch_slots
            check_done("watch_slots", watch(partial(changed, id(made))))
        return made  # type: ignore[no-any-return]

    return make


class Standing(Enum):
    """How a connection counts."""

    OUT = "not at all: it is being made or checked, or is gone"
    OPEN = "it is idle or leased"
    ENDING = "it is closing, and its leases are not settled yet"


OUT, OPEN, ENDING = Standing


class Taken(set[Slot]):
    """The leased slots of one connection.

    @ivar size: the most leases that it can carry, as last measured; 0 if it takes no new ones.
    @ivar standing: how the connection counts.
    """

    __slots__ = ("size", "standing")

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self.standing = OUT


class Slots:
    """Counts the slots of the connections of one manager.

    @ivar each: the slots of a connection whose protocol does not tell.
    @ivar free: the number of free slots.
    @ivar total: the number of slots, free or leased, of idle and leased connections.
    @ivar ending: the number of leases of closing connections.
    @ivar open: the number of idle and leased connections.
    @ivar spare: the leased connections with free slots, the next to use first.
    @ivar silent: the idle connections that can carry no lease now.
    @ivar fresh: those of them that were never leased, and that may tell their slots soon.
    @ivar making_way: the connections that end so that a sibling can connect.
    """

    def __init__(
        self,
        each: int,
        connections: Connections[Any],
        failed: Callable[[Connection[Any], BaseException], object],
        clock: SteadyClock,
        alarm: Alarm,
    ) -> None:
        """
        @param alarm: is set to when a connection is late to tell its slots.
        @param failed: called when a protocol's C{slots} raises or is invalid. It must close the
            connection, which may call user code.
        """
        self.each = each
        self.free = self.total = self.ending = self.open = 0
        self.spare: OrderedDict[Connection[Any], None] = OrderedDict()
        self.silent: set[Connection[Any]] = set()
        self.fresh = UnderWay(clock)
        self.making_way: set[Connection[Any]] = set()
        self._new: list[Connection[Any]] = []
        self._speakers: dict[int, Connection[Any]] = {}
        self._connections = connections
        self._failed = failed
        self._clock = clock
        self._alarm = alarm
        connections.moved = self.moved

    def heard(self) -> Slots:
        """Ask new connections for their slots; then return C{self}."""
        while self._new:
            self.look(self._new.pop())
        return self

    def about_to_tell(self) -> int:
        """The number of new connections that can carry nothing yet and may tell their slots soon.
        Each counts as an attempt to connect. The alarm rings when one of them is late."""
        if self.fresh:
            self.fresh.drop_due(self._clock.seconds(), LATE)
            self._alarm.set(self.fresh.due_at(LATE))
        return len(self.fresh)

    def slow_at(self) -> float:
        """When the oldest of these counts as slow: see C{UnderWay.due_at}."""
        return self.fresh.due_at(SLOW_CONNECT)

    def capacity(self, connection: Connection[Any]) -> int:
        """The number of slots, free or leased, of a connection; 0 unless it is idle or leased."""
        taken = connection.slots
        is_open = isinstance(taken, Taken) and taken.standing is OPEN
        return max(taken.size, len(taken)) if is_open else 0

    def leased(self) -> int:
        """The number of leases."""
        return self.total - self.free + self.ending

    def next_idle(self, is_stale: Callable[[Connection[Any]], bool]) -> Connection[Any] | None:
        """An idle connection with a free slot: the next, or the freshest if the next is stale.

        @return: the next if both are stale; C{None} if there is none.
        """
        in_turn = self._connections.order.in_turn()
        first = next((each for each in in_turn if each not in self.silent), None)
        if first is not None and is_stale(first):
            latest = reversed(self._connections.idle)
            freshest = next(each for each in latest if each not in self.silent)
            return first if is_stale(freshest) else freshest
        return first

    # How many leases a connection can carry

    def measure(self, connection: Connection[Any]) -> int:
        """The most leases that a connection can carry now; 0 if it takes no new ones."""
        if connection.retired or not is_sound(connection.transport, bool(connection.slots)):
            return 0
        protocol: Any = connection.protocol
        if not ISlots.providedBy(protocol):
            return self.each
        self._speakers[id(protocol)] = connection
        try:
            check_whole("slots", slots := protocol.slots, 0)
        except BaseException as error:
            self._failed(connection, error)
            return 0
        return int(slots)

    def look(self, connection: Connection[Any]) -> int:
        """Measure a connection again. An idle one that cannot be used any more is closed.

        @return: the number of its free slots.
        """
        self.note(connection, self.measure(connection))
        if connection.state is IDLE and not is_sound(connection.transport):
            self._connections.close(connection, Why.UNFIT)
        taken: Taken = connection.slots
        return max(0, taken.size - len(taken))

    def look_at_all(self) -> None:
        for connection in tuple(self._connections.all):
            if connection.state is IDLE or connection.state is LEASED:
                self.look(connection)

    def changed(self, protocol: int) -> None:
        """A protocol tells that its number of slots has changed.

        @param protocol: its C{id}, since it may not be hashable.
        """
        if protocol in self._speakers:
            self.look(self._speakers[protocol])

    def moved(self, connection: Connection[Any]) -> None:
        """A connection became idle, takes no new leases any more, or is gone."""
        if isinstance(connection.slots, Taken):
            self.note(connection, 0 if connection.retired else None)
        elif connection in self._connections.idle:
            # Ask it later: to ask may close it, and its maker has not reported it yet.
            self._new.append(connection)
        is_here = connection in self._connections.all
        if connection.why is Why.DISPLACED and is_here:
            self.making_way.add(connection)
        else:
            self.making_way.discard(connection)
        if not is_here:
            self._speakers.pop(id(getattr(connection, "protocol", None)), None)

    def note(self, connection: Connection[Any], size: int | None = None) -> None:
        """The state or the size of a connection has changed.

        @param size: the most leases that it can carry; C{None}: as before.
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
        """A slot is leased. Its connection must be open and have a free slot."""
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
        """A slot is not leased any more."""
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
        """Add a connection's numbers to the sums, or subtract them."""
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
                self.fresh[connection] = connection.since
        else:
            self.silent.discard(connection)
            self.fresh.pop(connection, None)

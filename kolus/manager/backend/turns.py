"""C{Turns}: whose turn it is to connect, of the managers that share the limit of one backend.

Its state is the managers that want a connection and may not make it yet, in turn; those of them
where somebody asks, since there may be thousands that only keep some ready; how many each of them
has, and how many of them have so many; those at which queues of groups wait for room; the groups
and lists that wait for room for those who have no manager here; the alarm for the next attempt that
is due; and, where there are several managers, those with something idle.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

from kolus.events import Why
from kolus.manager.backend.idle_managers import IdleManagers
from kolus.support import Alarm

if TYPE_CHECKING:
    from kolus.manager.backend.record import BackendRecord
    from kolus.manager.backend.slot_queue import Asker
    from kolus.manager.base import BaseManager
    from kolus.manager.waiting.served_queues import PlacingQueue

__all__ = ["Turns"]

_MOST_LOOKED_AT = 8  # of the queues that wait for room
_LOOK_ELSEWHERE = 0.1  # seconds between looks at what is idle in pools that share the limits


class Turns:
    """Gives the slots of one backend to its managers in turn.

    @ivar wanting: the managers that wait for a slot, in turn.
    @ivar awaited: the managers at which queues of groups wait for room.
    @ivar outside: the groups and lists that want to hear, once, when there is room for idents
        that have no manager here: other idents have all the slots.
    @ivar idle_managers: finds what is idle longest, where there are several managers.
    """

    def __init__(self, record: BackendRecord, clock: IReactorTime) -> None:
        self._record = record
        self._clock = clock
        self.wanting: OrderedDict[BaseManager[Any], None] = OrderedDict()
        self._asked: OrderedDict[BaseManager[Any], None] = OrderedDict()
        self.awaited: OrderedDict[BaseManager[Any], None] = OrderedDict()
        self._counted: dict[BaseManager[Any], int] = {}
        self._having: Counter[int] = Counter()
        self.outside: OrderedDict[Any, None] = OrderedDict()
        self._alarm = Alarm(clock, self.wake)
        self.idle_managers = IdleManagers()

    def joined(self) -> None:
        """A manager has joined. From now on, idle connections of the first may be displaced."""
        if len(self._record.members) == 2:
            first = self._record.members[0]
            if first.connections.order.oldest_since() < math.inf:
                self.note_idle(first)

    def left(self, member: BaseManager[Any]) -> None:
        """A manager has no connections any more and wants none."""
        self.want_no_more(member)
        self.awaited.pop(member, None)
        self.idle_managers.discard(member)
        self._record.budget.left(member)

    def want(self, member: BaseManager[Any]) -> None:
        """A manager wants a slot, and waits for its turn, or until the next attempt is due."""
        self.wanting[member] = None
        if member.is_asked():
            self._asked[member] = None
        else:
            self._asked.pop(member, None)
        self._count(member, len(member.connections.all))
        self._record.changed()
        self._record.budget.want(self._record)
        self.ring_when_due()

    def demand_fell(self, member: BaseManager[Any]) -> None:
        """A waiter of a manager has left, and was not served."""
        if member.demand():
            return
        if not member.is_asked():
            self._asked.pop(member, None)
        member.connections.close_surplus()
        if member.supply.wanted() > len(member.connections.connecting):
            member.connections_changed()  # what it keeps ready while nobody waits
        if not member.connections.all:
            self._record.unused_managers.add(member)
            self._record.unused_managers.close_some()
        elif member.connections.idle and (self.wanting or self._record.budget.wanting):
            self.wake()  # what was idle for it makes way for another manager's

    def want_no_more(self, member: BaseManager[Any]) -> None:
        """A manager does not want a slot any more, or has got one."""
        if member in self.wanting:
            del self.wanting[member]
            self._asked.pop(member, None)
            self._count(member, None)
            if not self.wanting:
                self._alarm.clear()

    def all_want_no_more(self) -> None:
        """The backend is drained: slots of one ending manager must not go to the next."""
        self.wanting.clear()
        self._asked.clear()
        self._counted.clear()
        self._having.clear()
        self._alarm.clear()

    def recount(self, member: BaseManager[Any]) -> None:
        """A member has a connection more, or one less."""
        if not member.connections.all:
            self._record.unused_managers.add(member)
        if member in self._counted:
            self._count(member, len(member.connections.all))

    def _count(self, member: BaseManager[Any], connections: int | None) -> None:
        had = self._counted.pop(member, None)
        if had is not None:
            self._having[had] -= 1
            if not self._having[had]:
                del self._having[had]
        if connections is not None:
            self._counted[member] = connections
            self._having[connections] += 1

    def ring_when_due(self) -> None:
        """If a manager wants a slot, set the alarm to when the next attempt is due."""
        if not self.wanting:
            return
        record, now = self._record, self._clock.seconds()
        due = record.attempts.due_at
        if due > now:
            self._alarm.set(due)
        elif (
            record.connecting and record.room.own_to_come() > 0 and record.attempts.late_at() > now
        ):
            self._alarm.set(record.attempts.late_at())

    def due_changed(self) -> None:
        """The next attempt is due at another time. What wants a slot waits until then, and so do
        the queues that wait for room."""
        self.ring_when_due()
        due = self._record.attempts.due_at
        for each in chain(self._queues_here(), self.outside):
            each.attempt_is_due(self._record.backend, due)

    def grant(self, member: BaseManager[Any]) -> bool:
        """Ask for a slot to connect with.

        @return: whether there is one. If not, the manager is told when it is its turn.
        """
        record = self._record
        if (self.awaited or self.outside) and not (member.demand() and member.waiters.is_short()):
            self._tell_room()  # what is only kept ready or warmed comes after those who wait
        first = self._first_claimant() or member if record.room.may_connect() else None
        is_its_turn = first is member or (
            first and member.waiters.is_short() and not first.waiters.is_short()
        )
        if (
            is_its_turn
            and record.budget.grants(record, member)
            and record.room.may_connect()  # others may have been told first, and have connected
        ):
            self.want_no_more(member)
            return True
        if not member.serves():  # others were told first, and it has ended meanwhile
            return False
        self.want(member)
        if member.waiters.is_short():
            self._make_room()
        if first and not is_its_turn:
            first.connections_changed()  # it may not know yet that it is its turn
        return False

    def claims(self, member: BaseManager[Any]) -> bool:
        """Whether the connection that comes home to C{member} is to make way for a sibling's.

        If a sibling has waiters, it must if C{member} has none, or if the sibling has no connection
        or at least two fewer. So slots are divided evenly. To go further would close a connection
        for every other lease.
        """
        if self._record.room.to_come() > 0:
            return False
        if member.demand():  # there may be a thousand who want one, and have one each
            fewest = min(self._having, default=1)
            if 0 < fewest >= len(member.connections.all) - 1:
                return False
        for claimant in self._claimants():
            if claimant is not member and claimant.is_asked():
                theirs, its = len(claimant.connections.all), len(member.connections.all)
                if not member.demand() or theirs == 0 or theirs + 1 < its:
                    self._asked.move_to_end(claimant, last=False)
                    return True
        return False

    def wake(self) -> None:
        """A slot is free, or an attempt is over or due: let managers connect, in turn."""
        if self._record.shrinking.active:
            self._record.shrinking.look()
            self._record.tell_members()
        if self._record.attempts.due_at > self._clock.seconds():
            connecting = [each.manager for each in self._record.connecting]
            for member in dict.fromkeys([*self._asked, *connecting]):
                member.connections_changed()  # its waiters may have to fail, or to go elsewhere
            if self._record.budget.limit is not None and self._record.budget.unused() > 0:
                for queue in tuple(islice(self._queues_here(), _MOST_LOOKED_AT)):
                    queue.place_short()  # they asked for the pool's slot here, and only here
        while self.wanting and self._record.room.may_connect():
            first, used = self._first_claimant(), len(self._record.all)
            if first is None:
                break
            first.connections_changed()
            if len(self._record.all) <= used:  # it did not take the slot
                break
        if self.awaited or self.outside:
            self._tell_room()
        if self.wanting:
            self.ring_when_due()
            if self._record.room.unused() <= 0 and any(
                each.waiters.is_short() for each in self._claimants()
            ):
                self._make_room()
        budget = self._record.budget
        if budget.limit is not None:
            budget.want(self._record)
            budget.wake()
        self._record.unused_managers.close_some()

    def _tell_room(self) -> None:
        """Tell the queues of groups that wait for room, while there is some."""
        for _ in range(len(self.awaited)):
            if self._record.room.unused() <= 0 or not self.awaited:
                break
            each = next(iter(self.awaited))
            self.awaited.move_to_end(each)
            each.placements.tell_room()
            if not each.placements.wait_for_room:
                self.awaited.pop(each, None)
        for _ in range(len(self.outside)):
            if self._record.room.unused() <= 0 or not self.outside:
                break
            openings, _ = self.outside.popitem(last=False)
            openings.has_room_at(self._record)
            self._look_if_unused()

    def await_room(self, where: BaseManager[Any] | None, queue: Any) -> None:
        """A queue of a group waits for room.

        @param where: the manager that knows it; C{None}: any queue of a group may, without a
            manager here. C{queue} is what these know of room.
        """
        if where is None:
            self.outside[queue] = None
        else:
            self.awaited[where] = None
        asking = self._record.budget.wanting.get(self._record, ())
        if queue not in asking and len(asking) < _MOST_LOOKED_AT:  # else it asks after others
            self._record.budget.want(self._record)

    def forget(self, openings: Any) -> None:
        """The queues of a group or a list wait for room no more."""
        if openings in self.outside:
            del self.outside[openings]
            self._look_if_unused()

    def _look_if_unused(self) -> None:
        """A group does not wait here any more: the backend may be forgotten."""
        record = self._record
        if record.listener is not None and not (record.members or self.outside):
            record.listener.unused(record)

    def askers(self) -> tuple[Asker, ...] | None:
        """Who waits for the next slot: the manager whose turn it is, and the queues of groups that
        wait for room there, or anywhere if no manager waits. Nobody, if something is only to be
        kept ready; C{None} if no slot is wanted, or the backend has no room of its own."""
        record = self._record
        if not record.room.has_own():
            return None
        first, found = self._first_claimant(), dict[Any, None]()
        waiting = chain.from_iterable(each.short() for each in self.outside)
        queues: Iterable[PlacingQueue] = chain(self._queues_here(), waiting)
        if first is not None and first.waiters.is_short():
            found[first] = None
            queues = first.placements.wait_for_room
        for each in islice(queues, _MOST_LOOKED_AT):
            if each.wants_room_at(record.backend):
                found[each] = None  # it may wait at two managers, one of which ends
        return None if first is None and not found else tuple(found)

    def _queues_here(self) -> Iterator[PlacingQueue]:
        """The queues of groups that wait for room and have a manager here."""
        return chain.from_iterable(each.placements.wait_for_room for each in self.awaited)

    def _claimants(self) -> Iterator[BaseManager[Any]]:
        """The managers where somebody asks that want a slot and could use it now, in turn."""
        return (each for each in self._asked if each.wants_connection())

    def _first_claimant(self) -> BaseManager[Any] | None:
        """The first of these with a waiter for whom no connection is on its way. If there is none,
        the first with such a call of C{warm}; else the first of these; else the first of all."""
        first = warming = None
        for each in self._claimants():
            if not each.waiters.is_short():
                first = first or each
            elif each.demand():
                return each
            else:
                warming = warming or each
        others = () if warming or first else self.wanting
        return warming or first or next((each for each in others if each.wants_connection()), None)

    def note_idle(self, member: BaseManager[Any]) -> None:
        """A manager that had nothing idle has something, which may have to make way."""
        if len(self._record.members) > 1:
            self.idle_managers.add(member)
        self._record.budget.note_idle(member)

    def _make_room(self) -> None:
        """Close the longest idle connection of those that share the limit that binds, unless a slot
        becomes free anyway."""
        record = self._record
        is_of_pool = record.room.own_to_come() > 0
        if is_of_pool:
            record.budget.make_room()
        else:
            oldest = self.idle_managers.oldest(
                warm=any(each.demand() for each in self._claimants())
            )
            if oldest is not None:
                oldest.connections.close_oldest_idle(Why.DISPLACED)
        if record.listener is not None and record.listener.sharers and record.room.to_come() <= 0:
            record.listener.make_way_elsewhere(record, is_of_pool)
            self._alarm.set(self._clock.seconds() + _LOOK_ELSEWHERE)

    def give_way(self) -> None:
        """Another pool that shares the limit needs room: close what is idle longest, unless
        something is being closed."""
        record = self._record
        if len(record.members) == 1:  # it is not noted as long as nobody else is here
            self.idle_managers.add(record.members[0])
        if not record.closing:
            self.idle_managers.close_spare()

"""C{SharedManager}: the connections of one backend for one ident, each shared by many leases.

Besides what every manager keeps, its state is C{_spare}, the connections that are leased and have
slots left; which leases a connection has is in its C{slots}.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable, Iterable
from heapq import nlargest
from typing import Any, TypeVar

from zope.interface import implementer

from kolus.backend import Backend
from kolus.backoff import Rng
from kolus.events import Observer, Why
from kolus.interfaces import IKolusManager, IServesGroups, ISlots
from kolus.lease import FAILED, FORGOTTEN, RELEASED, Lease, Outcome
from kolus.manager.base import BaseManager
from kolus.manager.connection import Connection
from kolus.manager.connection_state import IDLE, LEASED
from kolus.manager.record import BackendRecord
from kolus.manager.slot import Slot
from kolus.manager.transports import is_sound
from kolus.policy import Policy
from kolus.status import Status
from kolus.support import check_whole
from kolus.watching import Owner

__all__ = ["SharedManager"]

P = TypeVar("P")


@implementer(IKolusManager, IServesGroups)
class SharedManager(BaseManager[P]):
    """Leases slots on the connections of one backend.

    A lease is a slot: any number of lessees, up to the policy's C{slots}, or what the protocol
    says that provides L{ISlots}, have the same protocol at the same time. Another connection is
    made when all slots are taken. A connection of which one lessee says C{finished} takes no new
    leases, and is closed when the last one is settled. All the numbers of the status count slots.
    """

    def __init__(
        self,
        reactor: Any,
        protocol: Callable[[], P],
        backend: Backend,
        ident: Hashable,
        policy: Policy,
        *,
        observers: list[Observer] | None = None,
        record: BackendRecord | None = None,
        rng: Rng = random,
    ) -> None:
        """
        @param policy: with C{slots}.
        @raise ValueError: C{policy} has no C{slots}.
        """
        if policy.slots is None:
            raise ValueError(
                "a SharedManager needs a Policy with slots, how many share a connection"
            )
        self._slots = policy.slots
        self._spare: dict[Connection[P], None] = {}

        def build() -> P:
            made: Any = protocol()
            if ISlots.providedBy(made):
                made.watch_slots(self._slots_changed)
            return made  # type: ignore[no-any-return]

        super().__init__(
            *(reactor, build, backend, ident, policy),
            observers=observers,
            record=record,
            rng=rng,
        )

    def try_connect(self, ident: Hashable, owner: Owner | None = None) -> Lease[P] | None:
        if not self._lifecycle.serves or ident != self.ident:
            self.refuse(ident)
            return None
        ownership = None if owner is None else self._tracker.ownership(owner)
        if self._is_asked():
            return None
        connection = self._free(check=False)
        if connection is None:
            return None
        slot = self._take(connection)
        if slot is None:
            return self.try_connect(ident, owner)
        self.counters.leases += 1
        if ownership is not None or self._special or self._observers:
            return self._lease_specially(slot, ownership)
        return Lease(slot, self._settler)

    # Slots

    def _size(self, connection: Connection[P]) -> int:
        """How many leases the connection can carry."""
        protocol: Any = getattr(connection, "protocol", None)
        if not ISlots.providedBy(protocol):
            return self._slots
        try:
            slots = protocol.slots
            check_whole("slots", slots, 0)
        except Exception as error:
            self._recorder.hook_failed("slots", error)
            was_of_use = not connection.stillborn()
            self.connections.close(connection, Why.UNFIT)
            if not was_of_use:
                self._connector.failed(error, connection)
            return 0
        return int(slots)

    def _left(self, connection: Connection[P]) -> int:
        """How many leases more it can carry."""
        if connection.retired or not _is_open(connection):
            return 0
        return max(0, self._size(connection) - len(connection.slots))

    def _room(self, connection: Connection[P]) -> int:
        """How many leases more it can be given: none if it is to come home for a lower limit."""
        shrinking = self._record.shrinking
        if shrinking.active and not shrinking.may_take(len(connection.slots)):
            return 0
        return self._left(connection)

    def _is_ready(self, connection: Connection[P]) -> bool:
        """Whether an idle connection can be leased unchecked."""
        return self._room(connection) > 0 and not self._hooks.is_stale(connection)

    def _free(self, *, check: bool) -> Connection[P] | None:
        """A connection with a slot left, of those in use if possible.

        @param check: whether to begin the check of one that was idle for too long.
        @return: C{None} if there is none, or none yet.
        """
        if self._record.shrinking.active:
            for connection in tuple(self._spare):
                if self._room(connection):
                    return connection
        else:
            while self._spare:
                connection = next(iter(self._spare))
                if self._left(connection):
                    return connection
                del self._spare[connection]
        if self._idle and self._is_ready(self.connections.next_idle()):
            return self._idle.popitem()[0]
        stale = []
        for connection in self.connections.idle_in_turn():
            if self._is_ready(connection):
                del self._idle[connection]
                return connection
            if not _is_open(connection):
                self.connections.close(connection, Why.UNFIT)
            elif self._room(connection):
                stale.append(connection)
        for connection in stale if check else ():
            checked = len(self.connections.checking) * self._slots
            if checked >= self._asked(checked + 1):
                break
            # A check may be over at once, and whom it serves may do anything.
            if connection in self._idle:
                del self._idle[connection]
                self._check(connection)
        return None

    def _take(self, connection: Connection[P]) -> Slot | None:
        """Lease a slot of a connection that is idle no more."""
        if not connection.lease(self._now()):
            self._spare.pop(connection, None)
            self.connections.close(connection, Why.UNFIT)
            return None
        slot = Slot(connection)
        if not connection.slots:
            connection.slots = set()
        connection.slots.add(slot)
        self._record.shrinking.leases_changed()
        self._record.changed()
        if connection.uses == self._policy.max_uses:
            connection.retire(Why.USES)
        if self._left(connection):
            self._spare[connection] = None
        else:
            self._spare.pop(connection, None)
        return slot

    def _slots_changed(self) -> None:
        """Called by a protocol: it can carry more leases, or fewer."""
        self._record.changed()
        for connection in tuple(
            self.connections.all
        ):  # one that is asked for its slots may end others
            if connection.state is LEASED and self._left(connection):
                self._spare[connection] = None
        self._decide()
        self._deadlocks.look_at_all()

    # Settling

    def _settle(self, slot: Slot, outcome: Outcome) -> None:
        if outcome is FORGOTTEN:
            self._call_soon(self._reclaim, slot)
            return
        self._check_process()
        held = self._now() - slot.since
        health = self._record.health
        if outcome is FAILED:
            health.lease_failed(slot.since)
        if outcome is not RELEASED or not _is_open(slot.connection, besides=slot):
            self._vacate(slot, Why.FINISHED)
            self._recorder.finished(held)
        else:
            self._vacate(slot, None)
            self.counters.releases += 1
            if not health.is_well:
                health.released(slot.since)
            if self._feedbacks and not slot.was_observed():
                self._record.observed(held)
            self._recorder.released(held)
        self._was_vacated(slot)

    def _reclaim(self, slot: Slot) -> None:
        if not self._is_foreign:
            self._recorder.forgotten(self._now() - slot.since, slot.origin)
            self._vacate(slot, Why.FORGOTTEN)
            self._was_vacated(slot)

    def _was_vacated(self, slot: Slot) -> None:
        self._decide()
        if self._record.shrinking.active:
            self._record.tell_members()
        if slot.connection.retired:
            self._deadlocks.look_at_all()

    def _vacate(self, slot: Slot, ended: Why | None) -> None:
        """Take a slot back, and the connection when it was the last.

        @param ended: why the connection is to take no new leases, if it is not.
        """
        connection = slot.connection
        connection.slots.discard(slot)
        self._record.shrinking.leases_changed()
        self._record.changed()
        if ended is None and self._record.wanting and connection.slots and self._is_to_go():
            ended = Why.DISPLACED
        if ended is not None:
            connection.retire(ended)
        if connection.slots or connection.state is not LEASED:
            if connection.state is LEASED and self._left(connection):
                self._spare[connection] = None
        else:
            self._spare.pop(connection, None)
            if connection.usable():
                self._come_home(connection)
            else:
                self.connections.close(connection, connection.why or Why.FINISHED)

    def _is_to_go(self) -> bool:
        """Whether a connection makes way for a sibling though others share it still.

        One that is busy might never come home else. While one is on its way, no other follows.
        """
        going = any(each.why is Why.DISPLACED for each in self.connections.all)
        return not going and self._record.claims(self)

    # What a leasing manager asks

    def _hand_out(self) -> None:
        while self._lifecycle.serves and self._is_asked():
            connection = self._free(check=True)
            if connection is None:
                return
            slot = self._take(connection)
            if slot is not None:
                self._serve(slot)

    def _give(self, connection: Connection[P]) -> None:
        if not self._room(connection):
            self._come_home(connection)
            return
        slot = self._take(connection)
        if slot is not None:
            self._serve(slot)

    def _wanted(self) -> int:
        connections = self.connections
        others = max(0, self._policy.min_idle - len(connections.idle)) + len(connections.expiring)
        if not self.demand():
            return others
        # Of a new one that can carry nothing yet, it is about to hear how much it can.
        silent = sum([not each.uses and not self._room(each) for each in tuple(connections.idle)])
        ready = (len(connections.checking) + silent) * self._slots + self._free_slots()
        return others + math.ceil(max(0, self.demand() - ready) / self._slots)

    def _silent(self) -> int:
        return sum([not self._room(each) for each in tuple(self.connections.idle)])

    def _coming(self) -> int:
        connections = self.connections
        to_come = self._record.unused() + len(connections.connecting) + len(connections.checking)
        return to_come * self._slots + self._free_slots()

    def _capacity(self) -> int:
        connections = self.connections
        open_ = [each for each in connections.all if each.state is IDLE or each.state is LEASED]
        limit = self._record.limit
        sizes = nlargest(limit, [self._left(each) + len(each.slots) for each in open_])
        return sum(sizes) + (limit - len(sizes)) * self._slots

    def _held(self) -> Iterable[Any]:
        return [slot for each in self.connections.all for slot in each.slots]

    def _busy(self) -> dict[Any, str]:
        return {}  # what is in a check has no slot that is leased

    def ready(self) -> int:
        return self._free_slots()

    def load(self) -> int:
        return sum([len(each.slots) for each in self.connections.all]) + self.demand()

    def has_idle(self) -> bool:
        if self._record.shrinking.active:
            return self._lifecycle.serves and self._free_slots() > 0
        return self._lifecycle.serves and (bool(self._idle) or bool(self._spare))

    def _free_slots(self) -> int:
        open_ = [each for each in self.connections.all if each.state in (IDLE, LEASED)]
        return sum([self._room(each) for each in open_])

    def status(self) -> Status:
        connections = self.connections
        return Status(
            backend=self.backend,
            manager=self,
            ident=self.ident,
            idle=self.ready(),
            leased=sum([len(each.slots) for each in connections.all]),
            connecting=len(connections.connecting) * self._slots,
            unused=max(0, self._record.unused()) * self._slots,
            waiting=self.demand(),
            limit=self._capacity(),
            state=self._record.health.state(self._lifecycle.state()),
            ramp=self._record.health.ramp(),
        )


def _is_open(connection: Connection[Any], besides: Slot | None = None) -> bool:
    """Whether it can carry on: a producer that it has may be another lessee's, if there is one.

    @param besides: a slot whose lessee does not count.
    """
    producing = len(connection.slots) > (besides in connection.slots)
    return connection.transport is not None and is_sound(connection.transport, producing)

"""C{SharedManager}: a manager whose connections have several lessees each.

Its state, besides that of every manager, is C{slots}: the slots of its connections.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, TypeVar

from zope.interface import implementer

from kolus.connection import LEASED, Slot, is_sound
from kolus.events import Observer, Why
from kolus.interfaces import IGivesFresh, IKolusManager, IServesGroups
from kolus.lease import FAILED, FORGOTTEN, RELEASED, REVOKED, Lease, Outcome
from kolus.manager.base import BaseManager
from kolus.manager.connections.detachment import DETACHES, detach
from kolus.manager.connections.slots import Slots, watched
from kolus.manager.connections.supply import SharedSupply
from kolus.manager.operation import ManagerOperation
from kolus.manager.waiting.freshness import SharedFreshness
from kolus.status import Status

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.backoff import Rng
    from kolus.connection import Connection
    from kolus.manager.backend.record import BackendRecord
    from kolus.policy import Policy
    from kolus.watching import Owner

__all__ = ["SharedManager"]

P = TypeVar("P")


@implementer(IKolusManager, IServesGroups, IGivesFresh)
class SharedManager(BaseManager[P], ManagerOperation):
    """Leases slots on the connections of one backend.

    A lease has one slot of a connection. Several lessees use the same protocol at the same time, up
    to the policy's C{slots}, or the protocol's if it provides L{ISlots}. When all slots are leased,
    another connection is made. When a lessee calls C{finished}, the connection takes no new leases
    and is closed when its last lease is settled. The numbers of the status count slots.
    """

    freshness_kind = SharedFreshness
    freshness: SharedFreshness
    supply_kind = SharedSupply
    supply: SharedSupply

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
        super().__init__(
            reactor,
            watched(protocol, self._slots_changed),
            backend,
            ident,
            policy,
            observers=observers,
            record=record,
            rng=rng,
        )
        self.slots = Slots(
            policy.slots, self.connections, self._failed_to_say, self.clock, self.alarm
        )

    def try_connect(
        self, ident: Hashable, owner: Owner | None = None, fresh: bool = False
    ) -> Lease[P] | None:
        if not self.lifecycle.serves or ident != self.ident:
            self.admission.refuse(ident)
            return None
        ownership = None if owner is None else self.tracker.ownership(owner)
        now = self.now()
        if now >= self.alarm.at:
            self.connections.close_overdue()
        slot = None
        while slot is None:
            if self.waiting or (self._joined and self.dispatcher.serves_others()):
                return None
            connection = self.freshness.take() if fresh else self._next(check=False)
            if connection is None:
                return None
            slot = self.take(connection, now)
        self.counters.leases += 1
        if ownership is not None or self._special or self.observers:
            return self._lease_specially(slot, ownership)
        return Lease(slot, self.settler)

    # Which connection is next

    def _next(self, *, check: bool) -> Connection[P] | None:
        """A connection with a free slot, leased rather than idle if possible. It is not in C{idle}.

        @param check: whether to check connections that were idle for too long.
        @return: C{None} if there is none, or none yet.
        """
        slots = self.slots
        if self.record.shrinking.active:
            return next((each for each in slots.spare if self.supply.may_take(each)), None)
        if slots.spare:
            return next(iter(slots.spare))
        if not (self._idle and self.slots.heard().free):
            return None
        if not (self._checks or slots.silent):
            return self._idle.popitem()[0]
        connection = slots.next_idle(self.hooks.is_stale)
        if connection is not None and not self.hooks.is_stale(connection):
            del self._idle[connection]
            return connection
        if check:
            self._begin_checks()
        return None

    def _begin_checks(self) -> None:
        """Check as many connections as the waiters need. A check may end at once, and the waiters
        that it serves may call anything."""
        slots = self.slots
        while self.lifecycle.serves and self.waiters.is_asked() and slots.free:
            if not self.checker.are_too_few(slots.each):
                return
            connection = slots.next_idle(self.hooks.is_stale)
            if connection is None or not self.hooks.is_stale(connection):
                return
            if slots.look(connection):
                del self._idle[connection]
                slots.note(connection)
                self.checker.check(connection)

    def take(self, connection: Connection[P], now: float) -> Slot | None:
        """Lease a slot of a connection that has a free one, as last measured."""
        slots = self.slots
        in_use = connection.state is LEASED
        if in_use:
            if connection.retired or not is_sound(connection.transport, True):
                slots.note(connection, 0)
                return None
            connection.since = now
            connection.uses += 1
        elif not connection.lease(now):
            self.connections.close(connection, Why.UNFIT)
            return None
        slot = Slot(connection)
        slots.take(slot)
        self.record.shrinking.leases_changed()
        # What was idle and is leased leaves the sum of both the same.
        load = self._load
        if in_use or load.sole is None:
            load.noted += 1
            load.stale[self] = None
        if self._watchers:
            self.record.tell_watchers()
        if slot.uses == self.policy.max_uses:
            connection.retire(Why.USES)
            slots.note(connection, 0)
        return slot

    def _failed_to_say(self, connection: Connection[P], error: BaseException) -> None:
        """The C{slots} of a connection's protocol raised or was invalid."""
        self.recorder.hook_failed("slots", error)
        was_of_use = not connection.stillborn()
        self.connections.close(connection, Why.UNFIT)
        if not was_of_use:
            self.connector.failed(error, connection)

    def _slots_changed(self, protocol: int) -> None:
        """Called by a protocol: its number of slots has changed."""
        self.record.changed(self)
        self.slots.changed(protocol)
        self.dispatcher.decide()
        self.deadlocks.look_at_all()

    # Settling

    def settle(self, slot: Slot, outcome: Outcome) -> None:
        connection, now = slot.connection, self.now()
        is_last = len(connection.slots) == 1
        if is_last and connection.descriptor is not None and outcome is RELEASED:
            connection.descriptor.leave(now)
        transport: Any = connection.transport
        leased, size = len(connection.slots), connection.slots.size
        if (
            outcome is RELEASED
            and self._plain
            and not (self._wanting or self._pool_wanting or connection.retired)
            and leased <= size
            and (connection.become_idle(now, self._idle) if is_last else is_sound(transport, True))
        ):
            if not connection.proven:
                connection.answered = connection.proven = True
            self.slots.give_back(slot)
            self.counters.releases += 1
            load = self._load
            if not is_last or load.sole is None:
                load.noted -= 1
                load.stale[self] = None
            if is_last and now + self.connections.shortest_idle < self.alarm.at:
                self.alarm.set(now + self.connections.shortest_idle)
            if self._watchers or self.observers or self._feedbacks:
                self._tell_release(now - slot.since, slot.was_observed())
            if is_last and len(self._idle) == 1:
                self.record.turns.note_idle(self)
            if self.slots.free == 1 or self.waiting or self._joined:
                self._freed()
        elif outcome is FORGOTTEN:
            self.clock.call_from_any_thread(self._reclaim, slot)
        else:
            self._settle_specially(slot, outcome, now - slot.since)

    def _freed(self) -> None:
        """A slot is free: serve a waiter, or tell the queues that wait for an idle one."""
        if self.waiters.is_asked() or self.groups.fresh:
            self.dispatcher.decide()
        elif self.placements.wait_for_idle:
            self.placements.tell_idle()

    def _settle_specially(self, slot: Slot, outcome: Outcome, held: float) -> None:
        self.process.check()
        connection = slot.connection
        if outcome in DETACHES:
            self.slots.give_back(slot)
            detach(self, connection, outcome, held)
            return
        in_vain = connection.ended_in_vain(outcome is RELEASED)
        self.record.health.lease_ended(slot.since, outcome is FAILED, in_vain)
        # A producer may be another lessee's, if there is one.
        others = len(connection.slots) > (slot in connection.slots)
        if outcome is not RELEASED or not is_sound(connection.transport, others):
            why = Why.REVOKED if outcome is REVOKED else Why.FINISHED
            self._vacate(slot, why)
            self.recorder.ended(why, held, slot.origin)
        else:
            connection.answered = connection.proven = True
            self._vacate(slot, None)
            self.counters.releases += 1
            self._note_release(slot.since)
            self._tell_release(held, slot.was_observed())
        self._was_vacated(slot)

    def _reclaim(self, slot: Slot) -> None:
        if not self.process.is_foreign:
            self.tracker.reclaimed(slot)
            in_vain = slot.connection.ended_in_vain(False)
            self.record.health.lease_ended(slot.since, False, in_vain)
            self.recorder.forgotten(self.now() - slot.since, slot.origin)
            self._vacate(slot, Why.FORGOTTEN)
            self._was_vacated(slot)

    def _was_vacated(self, slot: Slot) -> None:
        self.dispatcher.decide()
        if slot.connection.retired:
            self.record.budget.wake()
        if self.record.shrinking.active:
            self.record.tell_members()
        if slot.connection.retired:
            self.deadlocks.look_at_all()

    def _vacate(self, slot: Slot, ended: Why | None) -> None:
        """Take a slot back. If it was the connection's last lease, take the connection back, too.

        @param ended: why the connection takes no new leases; C{None} if it does.
        """
        connection = slot.connection
        self.slots.give_back(slot)
        self.record.shrinking.leases_changed()
        self.record.changed(self)
        if ended is None and connection.slots:
            ended = self._why_to_go()
        if ended is not None:
            connection.retire(ended)
            self.record.ends(connection)
        if connection.slots or connection.state is not LEASED:
            self.slots.moved(connection)
        elif connection.usable():
            self.dispatcher.take_back(connection)
        else:
            abort = ended is Why.REVOKED
            self.connections.close(connection, connection.why or Why.FINISHED, abort=abort)

    def _why_to_go(self) -> Why | None:
        """Why a connection takes no new leases although it still has some; C{None} if it does.

        Otherwise a busy connection might never become idle, to make way for another manager's or
        because the pool's limit was lowered. Only one at a time makes way.
        """
        if self.record.budget.is_above():
            return Why.RESIZED
        makes_way = not self.slots.making_way and self.record.must_make_way(self)
        return Why.DISPLACED if makes_way else None

    # What the dispatcher and the checker ask

    def hand_out(self) -> None:
        self.connections.close_overdue()
        while self.lifecycle.serves and self.waiters.is_asked():
            connection = self._next(check=True)
            if connection is None:
                return
            slot = self.take(connection, self.now())
            if slot is not None:
                self.dispatcher.serve(slot)

    def give(self, connection: Connection[P]) -> None:
        if not self.slots.look(connection):
            self.dispatcher.take_back(connection)
            return
        if not connection.uses:
            self.freshness.give(connection)
            return
        slot = self.take(connection, self.now())
        if slot is not None:
            self.dispatcher.serve(slot)

    def has_idle(self) -> bool:
        return self.lifecycle.serves and self.supply.ready() > 0

    def status(self) -> Status:
        self.slots.look_at_all()
        return self.supply.numbers()

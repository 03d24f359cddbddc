"""C{ConnectionManager}: a manager whose connections have one lessee each."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, TypeVar

from zope.interface import implementer

from kolus.connection import IDLE, LEASED
from kolus.events import Why
from kolus.interfaces import IGivesFresh, IKolusManager, IServesGroups
from kolus.lease import FAILED, FORGOTTEN, RELEASED, REVOKED, Lease, Outcome
from kolus.manager.base import BaseManager
from kolus.manager.connections.detachment import DETACHES, detach
from kolus.manager.connections.supply import SoleSupply
from kolus.manager.operation import ManagerOperation
from kolus.manager.quick_lease import QuickLease
from kolus.manager.waiting.freshness import SoleFreshness

if TYPE_CHECKING:
    from kolus.connection import Connection
    from kolus.watching import Owner

__all__ = ["ConnectionManager"]

P = TypeVar("P")


@implementer(IKolusManager, IServesGroups, IGivesFresh)
class ConnectionManager(BaseManager[P], ManagerOperation):
    """Leases the connections of one backend, each to one lessee at a time.

    C{try_connect} and C{settle} are the path that every lease takes. They are written for speed,
    and ask but whether the manager is C{smooth}. If not, C{_try_closely} and C{_settle_closely}
    look at everything, and find out whether it is again. What is released while others wait does
    not even become idle where the manager C{passes_on}: C{HandOff} gives it to the next.
    """

    freshness_kind = SoleFreshness
    supply_kind = SoleSupply

    def try_connect(
        self, ident: Hashable, owner: Owner | None = None, fresh: bool = False
    ) -> Lease[P] | None:
        idle = self._idle
        if not (self.smooth and idle) or owner is not None or ident != self.ident or fresh:
            return self._try_closely(ident, owner, fresh)
        connection, _ = idle.popitem()
        clock = self.clock
        tell_time = clock.quick_seconds  # to call it as an attribute takes longer
        now = tell_time()
        if connection.doubtful or now >= connection.sure_until:
            if now >= clock.look_at:
                clock.look()
                now = self.now()
            if now >= self.alarm.at or (self._checks and self.hooks.is_stale(connection)):
                self.connections.order.put_back(connection)
                return self._try_closely(ident, owner)
            if not connection.lease(now):
                self.connections.close(connection, Why.UNFIT)
                return self._try_closely(ident, owner)
        else:
            connection.state = LEASED
            connection.since = now
            connection.uses += 1
            connection.dataReceived = connection.protocol.dataReceived
        self.counters.leases += 1
        lease: QuickLease[P] = QuickLease()
        lease._connection = connection
        lease._settle = self.settler
        return lease

    def _try_closely(
        self, ident: Hashable, owner: Owner | None, fresh: bool = False
    ) -> Lease[P] | None:
        if not self.lifecycle.serves or ident != self.ident:
            self.admission.refuse(ident)
            return None
        ownership = None if owner is None else self.tracker.ownership(owner)
        if not self._idle:
            return None
        now = self.now()
        if now >= self.alarm.at:
            self.connections.close_overdue()
        while True:
            if self.waiting or not (self._idle and self.lifecycle.serves):
                return None
            if self._joined and self.dispatcher.serves_others():
                return None
            if self._checks and not fresh and self._next_is_stale():
                return None
            connection = self.freshness.take() if fresh else self._idle.popitem()[0]
            if connection is None:
                return None
            if connection.lease(now):
                break
            self.connections.close(connection, Why.UNFIT)
        self.counters.leases += 1
        load = self._load
        if load.sole is None:
            load.noted += 1
            load.stale[self] = None
        if self._watchers:
            self.record.tell_watchers()
        if ownership is not None or self._special or self.observers:
            return self._lease_specially(connection, ownership)
        self.look_if_smooth()
        return Lease(connection, self.settler)

    def settle(self, connection: Connection[P], outcome: Outcome) -> None:
        descriptor = connection.descriptor
        if (
            self.smooth
            and outcome is RELEASED
            and not connection.doubtful
            and (
                descriptor is None
                or not (
                    (base := descriptor.base)._tempDataBuffer
                    or base.dataBuffer
                    or ((tls := descriptor.wrapper) and (tls._appSendBuffer or descriptor.gathered))
                )
            )
        ):
            connection.state = IDLE
            tell_time = self.clock.quick_seconds
            connection.since = tell_time()
            connection.dataReceived = connection.unasked
            self._idle[connection] = None
            self.counters.releases += 1
            return
        clock = self.clock
        tell_time = clock.quick_seconds
        now = tell_time()
        if now >= clock.look_at and outcome is not FORGOTTEN:  # that comes in any thread
            clock.look()
            now = self.now()
        if descriptor is not None and outcome is RELEASED:
            descriptor.leave(now)
        if (
            self.passes_on
            and self.waiting
            and outcome is RELEASED
            and not (connection.doubtful or self.observers)
        ):
            self._hand_off.pass_on(connection, now)
        else:
            self._settle_closely(connection, outcome, now)

    def _settle_closely(self, connection: Connection[P], outcome: Outcome, now: float) -> None:
        since = connection.since
        if (
            outcome is RELEASED
            and self._plain
            and not (self._wanting or self._pool_wanting)
            and connection.become_idle(now, self._idle)
        ):
            self.counters.releases += 1
            load = self._load
            if load.sole is None:
                load.noted -= 1
                load.stale[self] = None
            due = now + self.connections.shortest_idle
            if due < self.alarm.at:
                self.alarm.set(due)
            if self._watchers or self.observers or self._feedbacks:
                self._tell_release(now - since, connection.observed_since == since)
            if len(self._idle) == 1 or self.waiting or self._joined:
                self._freed()
            else:
                self.look_if_smooth()
        elif outcome is FORGOTTEN:
            self.clock.call_from_any_thread(self._reclaim, connection, connection.origin)
        else:
            self._settle_specially(connection, outcome, now - since)

    def _freed(self) -> None:
        """A connection was released: serve a waiter, or tell those that wait for an idle one."""
        if len(self._idle) == 1:
            self.record.turns.note_idle(self)
        if self.waiters.is_asked() or self.groups.fresh:
            self.dispatcher.decide()
            if not self.dispatcher.is_deciding:
                self.look_if_smooth()  # the next release may go straight to who waits
            return
        if len(self._idle) == 1 and self.placements.wait_for_idle:
            self.placements.tell_idle()
        self.look_if_smooth()

    def _settle_specially(self, connection: Connection[P], outcome: Outcome, held: float) -> None:
        self.process.check()
        self.record.health.lease_ended(
            connection.since, outcome is FAILED, connection.ended_in_vain(outcome is RELEASED)
        )
        if outcome in DETACHES:
            detach(self, connection, outcome, held)
            return
        why = self._why_to_end(connection, outcome)
        if why is not None:
            self.connections.close(connection, why, abort=why is Why.REVOKED)
            self.recorder.ended(why, held, connection.origin)
            self.placements.tell()
            return
        self.counters.releases += 1
        since, was_observed = connection.since, connection.was_observed()
        if connection.uses == self.policy.max_uses:
            self.connections.close(connection, Why.USES)
        elif self.hooks.resets and connection.usable():  # a callback may have closed it
            fit = self.hooks.reset(connection)
            if isinstance(fit, bool):
                self._come_home(fit, connection)
            else:
                fit.addCallback(self._was_reset, connection)
        else:
            self.dispatcher.take_back(connection)
        self._note_release(since)
        self._tell_release(held, was_observed)
        self.dispatcher.decide()

    def _why_to_end(self, connection: Connection[P], outcome: Outcome) -> Why | None:
        """Why a connection ends with its lease; C{None} if it comes home."""
        if outcome is REVOKED:
            return Why.REVOKED
        if outcome is not RELEASED or not connection.usable():
            return Why.FINISHED
        return self.hooks.why_unclean(connection) if self.hooks.cleans else None

    def _reclaim(self, connection: Connection[P], origin: str | None) -> None:
        if not self.process.is_foreign:
            self.tracker.reclaimed(connection)
            self.record.health.lease_ended(connection.since, False, connection.ended_in_vain(False))
            self.recorder.forgotten(connection.in_state_for(), origin)
            self.connections.close(connection, Why.FORGOTTEN)

    def _was_reset(self, fit: bool, connection: Connection[P]) -> None:
        self._come_home(fit, connection)
        self.dispatcher.decide()

    def _come_home(self, fit: bool, connection: Connection[P]) -> None:
        if fit and connection.usable():
            self.dispatcher.take_back(connection)
        else:
            self.connections.close(connection, Why.UNFIT, abort=True)

    def hand_out(self) -> None:
        if self._idle:
            self.connections.close_overdue()
        while self._idle and self.lifecycle.serves and self.waiters.is_asked():
            if not (self._checks and self._next_is_stale()):
                connection, _ = self._idle.popitem()
            elif self.checker.are_too_few():
                connection, _ = self._idle.popitem()
                self.checker.check(connection)
                continue
            elif not self.hooks.is_stale(connection := self.connections.order.freshest()):
                del self._idle[connection]
            else:
                return
            self.give(connection)

    def give(self, connection: Connection[P]) -> None:
        if connection.lease(self.now()):
            self.dispatcher.serve(connection)
        else:
            self.connections.close(connection, Why.UNFIT)

    def has_idle(self) -> bool:
        return bool(self._idle) and self.lifecycle.serves

    def _next_is_stale(self) -> bool:
        """Whether the next idle connection is to be checked first; there has to be one."""
        return self.hooks.is_stale(self.connections.order.next())

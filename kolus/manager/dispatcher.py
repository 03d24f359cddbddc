"""C{Dispatcher}: decides which waiters are served, which fail, and whether to connect.

Only C{decide} does this, after each event. What is ready to be leased, and how it is leased,
depends on the kind of manager.

Its state is whether it is deciding, whether something has happened meanwhile, and what has come
home while it passed on another connection.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kolus.events import Why
from kolus.health import Phase
from kolus.lease import RELEASED, Leasable, Lease
from kolus.manager.quick_lease import QuickLease
from kolus.manager.smoothness import look_if_smooth
from kolus.support import fire

if TYPE_CHECKING:
    from kolus.connection import Connection
    from kolus.manager.base import BaseManager
    from kolus.manager.waiting.queue import Waiter

__all__ = ["Dispatcher"]

P = TypeVar("P")


class Dispatcher(Generic[P]):
    """Serves the waiters of one manager, in its own queue and in those of groups, by arrival.

    @ivar is_deciding: whether C{decide} is running.
    @ivar is_to_decide: whether it was called meanwhile, and decides again.
    @ivar is_to_try: whether a request failed because the next attempt was not due. That attempt is
        made in the background then, so that the back-off does not make an outage longer.
    """

    __slots__ = (
        *("_connections", "_connector", "_counters", "_deadlocks", "_group_queues"),
        "is_to_try",
        *("_groups", "_lifecycle", "_manager", "_placements", "_policy", "_queue"),
        *("_record", "_released", "_tracker", "_waiting", "is_deciding", "is_to_decide"),
    )

    def __init__(self, manager: BaseManager[P]) -> None:
        """
        @param manager: the manager, which has made all its other parts.
        """
        self._manager = manager
        self._connections = manager.connections
        self._connector = manager._connector
        self._counters = manager.counters
        self._deadlocks = manager.deadlocks
        self._group_queues = manager.groups.known
        self._groups = manager.groups
        self._lifecycle = manager._lifecycle
        self._placements = manager.placements
        self._policy = manager._policy
        self._queue = manager._queue
        self._record = manager._record
        self._tracker = manager._tracker
        self._waiting = manager._queue.waiting
        self.is_deciding = self.is_to_decide = self.is_to_try = False
        self._released: list[Connection[P]] | None = None

    # Who is next

    def next_waiter(self, *, reused: bool = True) -> Waiter[Lease[P]] | None:
        """The waiter to serve next, of the manager's own queue and of those of groups.

        @param reused: whether it is to take a connection that was leased before.
        """
        oldest = next(iter(self._waiting)) if self._waiting else None
        if self._group_queues:
            queues = [self._groups.first()]
            if not reused and self._groups.fresh:
                queues.append(self._groups.first(fresh=True))
            for queue in queues:
                head = None if queue is None else queue.head()
                if head is not None and (oldest is None or head.order < oldest.order):
                    oldest = head
            if self._record.health.phase is not Phase.WELL:
                # It may serve these even if it is not well.
                placed = self._placements.oldest(reused)
                if placed is not None and (oldest is None or placed.order < oldest.order):
                    oldest = placed
        return oldest

    def is_short(self) -> bool:
        """Whether more wait here than can be served by what is ready or on its way, or calls of
        C{warm} want more."""
        warming = self._manager.admission.warming
        if warming.wishes and warming.wanted() > len(self._connections.connecting):
            return True
        manager, connections, slots = self._manager, self._connections, self._policy.slots or 1
        fresh = len(self._placements.fresh)
        ready = manager.supply.ready() + connections.checking.hopeful * slots
        lacking = max(0, manager.demand() - fresh - ready) + fresh
        return lacking > len(connections.connecting) * slots

    def next_order(self, *, reused: bool) -> float:
        """The number of that waiter's arrival, or of a call of C{warm} that only a new connection
        serves; infinity if there is none, or it serves nobody."""
        if not self._lifecycle.serves:
            return math.inf
        waiter = self.next_waiter(reused=reused)
        order = math.inf if waiter is None else waiter.order
        return order if reused else min(order, self._manager.admission.warming.next_order())

    def is_asked(self, *, reused: bool = True) -> bool:
        """Whether there is a waiter that it may serve.

        @param reused: as for C{next_waiter}.
        """
        return bool(self._waiting) or (
            bool(self._group_queues) and self.next_waiter(reused=reused) is not None
        )

    def is_about_to_serve(self) -> bool:
        """Whether it is deciding, and what is idle is for those who wait."""
        return self.is_deciding and self.is_asked()

    def serves_others(self) -> bool:
        """Whether a request that comes now is behind others for what is idle."""
        return self.is_asked() or (
            bool(self._groups.fresh) and (self.is_deciding or self._manager.freshness.is_wanted())
        )

    def asked(self, most: int) -> int:
        """The number of waiters that take any connection; C{most} or more if there are so many."""
        return len(self._waiting) + (self._groups.count(most) if self._group_queues else 0)

    def _take_next(self, reused: bool) -> Waiter[Lease[P]]:
        """Remove the next waiter from its queue; there must be one."""
        waiter = self.next_waiter(reused=reused)
        assert waiter is not None
        if waiter.queue is self._queue:
            return self._queue.popleft()
        queue: Any = waiter.queue
        queue.take(waiter)
        if waiter.ownership is not None:
            waiter.ownership = self._tracker.ownership_here(waiter.ownership)
        return waiter

    def serve(self, leasable: Leasable[P]) -> None:
        """Give the next waiter its lease."""
        waiter = self._take_next(leasable.reused) if self._group_queues else self._queue.popleft()
        self._record.changed(self._manager)
        self._fire(waiter, leasable)

    def _fire(self, waiter: Waiter[Lease[P]], leasable: Leasable[P]) -> None:
        lease = self._tracker.lease_after(waiter.since, leasable, waiter.ownership, waiter.origin)
        if waiter.called:  # an observer has just cancelled it, or ended its owner
            if lease.held:
                lease.release()
            return
        waiter.callback(lease)
        if waiter.ownership is not None:
            self._deadlocks.fail_all_of(waiter.ownership.owner)

    def pass_on(self, connection: Connection[P], moment: float) -> None:
        """Give a connection that comes home to the oldest waiter, where the manager C{passes_on}.

        The waiter's callback may release its lease at once. That connection is passed on in the
        same loop, so there is no recursion.

        @param moment: the time on the clock.
        """
        if self._released is not None:
            self._released.append(connection)
            return
        manager = self._manager
        if self.is_deciding:
            manager.passes_on = False
            manager._settle(connection, RELEASED)
            return
        waiting, counters, load = self._waiting, self._counters, self._record.load
        popleft, now, settler = self._queue.popleft, manager._now, manager._settler
        observers, alarm = manager._observers, manager._alarm
        self._released = released = [connection]
        self.is_deciding = True
        try:
            while released and waiting and manager.passes_on and not observers:
                connection = released.pop()
                if connection.doubtful or moment >= alarm.at:
                    released.append(connection)
                    break
                waiter = popleft()
                load.noted -= 1
                counters.releases += 1
                connection.since = moment
                connection.uses += 1
                connection.dataReceived = connection.protocol.dataReceived  # type: ignore[attr-defined]
                if waiter.ownership is None:
                    counters.leases += 1
                    lease: QuickLease[P] = QuickLease()
                    lease._connection = connection
                    lease._settle = settler
                    fire(waiter, lease)
                else:
                    self._fire(waiter, connection)
                if released:
                    moment = now()
        finally:
            self._released = None
            for each in released:
                manager.passes_on = False
                manager._settle(each, RELEASED)
            self.is_deciding = False
        if self.is_to_decide:
            self.decide()
        elif not waiting:
            look_if_smooth(manager)

    # Deciding

    def decide(self) -> None:
        """Called after each event: lease what is ready, fail waiters that cannot be served, and
        connect for the others.

        A waiter's callback may cause the next event before this returns. The same loop handles it,
        so a hundred thousand waiters that each release in their callback need no recursion.
        """
        self.is_to_decide = True
        if self.is_deciding:
            return
        self.is_deciding = True
        try:
            while self.is_to_decide and self._lifecycle.serves:
                self.is_to_decide = False
                if self._groups.fresh:
                    self._manager.freshness.look()
                self._manager._hand_out()
                if self._record.attempts.last_error is not None:
                    self._fail_hopeless()
                if len(self._connections.all) < self._record.limit:
                    self._connect_more()
                if not self.is_to_decide:
                    self._placements.tell()
        finally:
            self.is_deciding = False
        self._connections.close_surplus()
        if self._manager.admission.warming.wishes:
            self._manager.admission.warming.look()
        if not self._lifecycle.serves:
            self._placements.tell()

    def wants_connection(self) -> bool:
        """Whether one more connection would be of use, and an attempt is due."""
        connections, connector = self._connections, self._connector
        if (
            not self._lifecycle.serves
            or len(connections.all) >= self._record.limit
            or connector.unpaid
        ):
            return False
        if len(connections.connecting) >= self._wanted() and not (
            self._is_overlooked() and self._record.attempts.late_at() <= self._manager._now()
        ):
            return False
        return connector.due_in() <= 0

    def _wanted(self) -> int:
        """The number of connections that should be connecting, with one to find out whether a
        backend that fails is back."""
        wanted, warming = self._manager.supply.wanted(), self._manager.admission.warming
        if warming.wishes:
            wanted = max(wanted, warming.wanted())
        if self.is_to_try and not wanted:
            record = self._record
            wanted = int(record.attempts.failures > 0 or record.health.phase is Phase.EJECTED)
        return wanted

    def _is_overlooked(self) -> bool:
        """Whether a request came after the newest attempt under way had begun. There may be as many
        attempts as requests, but all of them for requests that have left."""
        if not self._connections.connecting:
            return False
        begun_at = self._record.attempts.begun_at
        return any(
            next(reversed(waiters)).since > begun_at
            for waiters in (self._waiting, self._placements.waiters)
            if waiters
        )

    def _connect_more(self) -> None:
        if not (self._wanted() or self._connections.connecting):
            self._record.turns.want_no_more(self._manager)
            return
        while self.wants_connection():
            if not self._record.turns.grant(self._manager):
                return
            if not self.wants_connection():  # others were told first, and called whatever they like
                self._record.turns.wake()
                break
            self.is_to_try = False
            self._connector.connect()
        turns, connector = self._record.turns, self._connector
        if self._lifecycle.serves and (
            (self._wanted() > 0 and (connector.unpaid or connector.due_in() > 0))
            or self._is_overlooked()
        ):
            turns.want(self._manager)  # a sibling's success may bring it forward
        else:
            turns.want_no_more(self._manager)

    def _fail_hopeless(self) -> None:
        """Fail the waiters that nothing can serve before the next attempt is due."""
        connections, connector = self._connections, self._connector
        if connections.connecting:
            return
        if connector.unpaid and not connections.leased() and self._manager.demand():
            connector.pay()
            self._give_up_first()
        attempts = self._record.attempts
        while self._manager.demand() and self._policy.fail_fast:
            if attempts.retry_at <= self._manager._now() or connections.leased():
                return
            first = self._first()
            number, has_time = first.order, first.deadline > attempts.retry_at
            if attempts.failures == 1 and number < attempts.number and has_time:
                if not attempts.is_owed:
                    return  # a first failure fails one request; the others have the next attempt
                attempts.is_owed = False
            self.is_to_try = self.is_to_try or number > attempts.number
            self._give_up_first()

    def _first(self) -> Waiter[Any]:
        """The oldest waiter, of the own queue or placed here; there must be one."""
        own, placed = self._waiting, self._placements.waiters
        firsts = [next(iter(each)) for each in (own, placed) if each]
        return min(firsts, key=lambda waiter: waiter.order)

    def _give_up_first(self) -> None:
        """Give up on the oldest waiter, of the own queue or placed here, if there is one."""
        if self._manager.demand():
            first, error = self._first(), self._connector.error()
            if first.queue is self._queue:
                self._queue.fail(first, error)
            else:
                self._placements.give_up(first, error)

    def take_back(self, connection: Connection[P]) -> None:
        """Make a returned connection idle, or close it if it is unfit or must make way."""
        if self._record.shrinking.is_above():
            self._connections.close(connection, Why.RESIZED)
            self._record.budget.wake()
        elif self._record.must_make_way(self._manager):
            self._connections.close(connection, Why.DISPLACED)
        elif not self._connections.take_back(connection):
            self._connections.close(connection, Why.UNFIT)

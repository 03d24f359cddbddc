"""C{Dispatcher}: decides which waiters are served, which fail, and whether to connect.

Only C{decide} does this, after each event. What is ready to be leased, and how it is leased,
depends on the kind of manager.

Its state is whether it is deciding, and whether something has happened meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from kolus.events import Why
from kolus.health import Phase
from kolus.lease import Leasable, Lease

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
        *("_connections", "_connector", "_groups", "_joined", "_lifecycle", "_manager"),
        *("_placements", "_queue", "_record", "_tracker", "_waiters"),
        *("is_deciding", "is_to_decide", "is_to_try"),
    )

    def __init__(self, manager: BaseManager[P]) -> None:
        """
        @param manager: the manager, which has made all its other parts.
        """
        self._manager = manager
        self._connections = manager.connections
        self._connector = manager.connector
        self._joined = manager.groups.joined
        self._groups = manager.groups
        self._lifecycle = manager.lifecycle
        self._placements = manager.placements
        self._queue = manager.queue
        self._record = manager.record
        self._tracker = manager.tracker
        self._waiters = manager.waiters
        self.is_deciding = self.is_to_decide = self.is_to_try = False

    def is_about_to_serve(self) -> bool:
        """Whether it is deciding, and something idle is for those who wait, here or elsewhere."""
        return self.is_deciding and (
            self._waiters.is_asked() or self._manager.freshness.is_wanted()
        )

    def serves_others(self) -> bool:
        """Whether a request that comes now is behind others for what is idle."""
        return self._waiters.is_asked() or (
            bool(self._groups.fresh) and (self.is_deciding or self._manager.freshness.is_wanted())
        )

    def is_quiet(self) -> bool:
        """Whether a connection that is begun now is for nobody who asked before: nobody waits here,
        or elsewhere for the slot that it takes, and nothing is being decided."""
        record = self._record
        return not (
            self.is_deciding
            or self._manager.is_asked()
            or self._waiters.is_asked(reused=False)
            or record.turns.wanting
            or record.budget.wanting
        )

    def serve(self, leasable: Leasable[P]) -> None:
        """Give the next waiter its lease."""
        by_arrival, own = self._waiters, self._queue
        self._record.changed(self._manager)  # first: where the waiter was placed, others are served
        waiter = by_arrival.take(leasable.reused) if self._joined else own.popleft()
        self.give(waiter, leasable)

    def give(self, waiter: Waiter[Lease[P]], leasable: Leasable[P]) -> None:
        """Give a waiter that has left its queue its lease."""
        lease = self._tracker.lease_after(waiter.since, leasable, waiter.ownership, waiter.origin)
        if waiter.called:  # an observer has just cancelled it, or ended its owner
            if lease.held:
                lease.release()
            return
        waiter.callback(lease)
        if waiter.ownership is not None:
            self._manager.deadlocks.fail_all_of(waiter.ownership.owner)

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
                self._manager.hand_out()
                if self._record.attempts.last_error is not None:
                    self._fail_hopeless()
                if len(self._connections.all) < self._record.limit:
                    self._connect_more()
                if not self.is_to_decide:
                    self._placements.tell()
        finally:
            self.is_deciding = False
        if not self._manager.demand():  # else it is for those who wait, even if it is not ready yet
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
            or connector.held_back
        ):
            return False
        asked = self._manager.is_asked()  # what is only kept ready has no other beside it
        if self._wanted() <= (connections.counted_on if asked else len(connections.connecting)):
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
        is_to_wait = connector.held_back or connector.due_in() > 0
        if self._lifecycle.serves and is_to_wait and self._wanted() > 0:
            turns.want(self._manager)  # a sibling's success may bring it forward
        else:
            turns.want_no_more(self._manager)

    def _fail_hopeless(self) -> None:
        """Fail the waiters that nothing can serve before the next attempt is due."""
        connections, connector = self._connections, self._connector
        if connections.connecting:
            return
        if connector.held_back and not connections.leased() and self._manager.demand():
            connector.allow_next()
            self._give_up_first()
        attempts = self._record.attempts
        while self._manager.demand() and self._manager.policy.fail_fast:
            if attempts.retry_at <= self._manager.now() or connections.leased():
                return
            first = self._waiters.first()
            number, has_time = first.order, first.deadline > attempts.retry_at
            if attempts.failures == 1 and number < attempts.number and has_time:
                if not attempts.may_fail_one:
                    return  # a first failure fails one request; the others have the next attempt
                attempts.may_fail_one = False
            self.is_to_try = self.is_to_try or number > attempts.number
            self._give_up_first()

    def _give_up_first(self) -> None:
        """Give up on the oldest waiter, of the own queue or placed here, if there is one."""
        if self._manager.demand():
            first, error = self._waiters.first(), self._connector.error()
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

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
    from kolus.manager.base import BaseManager
    from kolus.manager.connection import Connection
    from kolus.manager.queue import Waiter

__all__ = ["Dispatcher"]

P = TypeVar("P")


class Dispatcher(Generic[P]):
    """Serves the waiters of one manager, in its own queue and in those of groups, by arrival.

    @ivar is_deciding: whether C{decide} is running.
    """

    __slots__ = (
        *("_connections", "_connector", "_counters", "_deadlocks", "_group_queues", "is_deciding"),
        *("_groups", "_hooks", "_lifecycle", "_manager", "_placements", "_policy", "_queue"),
        *("_record", "_released", "_tracker", "_undecided", "_waiting"),
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
        self._hooks = manager._hooks
        self._lifecycle = manager._lifecycle
        self._placements = manager.placements
        self._policy = manager._policy
        self._queue = manager._queue
        self._record = manager._record
        self._tracker = manager._tracker
        self._waiting = manager._queue.waiting
        self.is_deciding = self._undecided = False
        self._released: list[Connection[P]] | None = None

    # Who is next

    def next_waiter(self) -> Waiter[Lease[P]] | None:
        """The waiter to serve next, of the manager's own queue and of those of groups."""
        oldest = next(iter(self._waiting)) if self._waiting else None
        if self._group_queues:
            queue = self._groups.first()
            head = None if queue is None else queue.head()
            if head is not None and (oldest is None or head.order < oldest.order):
                oldest = head
            if self._record.health.phase is not Phase.WELL:
                placed = self._placements.oldest()  # it may serve these even if it is not well
                if placed is not None and (oldest is None or placed.order < oldest.order):
                    oldest = placed
        return oldest

    def next_order(self) -> float:
        """The number of that waiter's arrival; infinity if there is none, or it serves nobody."""
        waiter = self.next_waiter() if self._lifecycle.serves else None
        return math.inf if waiter is None else waiter.order

    def is_asked(self) -> bool:
        """Whether there is a waiter that it may serve."""
        return bool(self._waiting) or (bool(self._group_queues) and self.next_waiter() is not None)

    def asked(self, most: int) -> int:
        """The number of waiters that it may serve; C{most} or more if there are so many."""
        return len(self._waiting) + (self._groups.count(most) if self._group_queues else 0)

    def _take_next(self) -> Waiter[Lease[P]]:
        """Remove the next waiter from its queue; there must be one."""
        waiter = self.next_waiter()
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
        waiter = self._take_next() if self._group_queues else self._queue.popleft()
        self._record.changed()
        self._fire(waiter, leasable)

    def _fire(self, waiter: Waiter[Lease[P]], leasable: Leasable[P]) -> None:
        self._counters.leases += 1
        if self._manager._observers or self._manager._debug or waiter.ownership is not None:
            waited = self._manager._now() - waiter.since
            lease = self._tracker.lease(leasable, waiter.ownership, waiter.origin, waited)
        else:
            lease = Lease(leasable, self._manager._settler)
        if waiter.called:  # an observer has just cancelled it, or ended its owner
            if lease.held:
                lease.release()
            return
        waiter.callback(lease)
        if waiter.ownership is not None:
            self._deadlocks.fail_all_of(waiter.ownership.owner)

    def pass_on(self, connection: Connection[P]) -> None:
        """Give what comes home to the oldest waiter, where the manager C{passes_on}.

        Whoever is fired may release in turn. What comes home then is passed on in the same loop,
        so it needs no recursion.
        """
        if self._released is not None:
            self._released.append(connection)
            return
        manager = self._manager
        if self.is_deciding:
            manager.passes_on = False
            manager._settle(connection, RELEASED)
            return
        waiting, counters, record = self._waiting, self._counters, self._record
        popleft, now, settler = self._queue.popleft, manager._now, manager._settler
        observers = manager._observers
        self._released = released = [connection]
        self.is_deciding = True
        try:
            while released and waiting and manager.passes_on and not observers:
                connection = released.pop()
                if connection.doubtful:
                    released.append(connection)
                    break
                waiter = popleft()
                record.noted -= 1
                counters.releases += 1
                connection.since = now()
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
        finally:
            self._released = None
            for each in released:
                manager.passes_on = False
                manager._settle(each, RELEASED)
            self.is_deciding = False
        if self._undecided:
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
        self._undecided = True
        if self.is_deciding:
            return
        self.is_deciding = True
        try:
            while self._undecided and self._lifecycle.serves:
                self._undecided = False
                self._manager._hand_out()
                if self._record.attempts.last_error is not None:
                    self._fail_hopeless()
                if len(self._connections.all) < self._record.limit:
                    self._connect_more()
                if not self._undecided:
                    self._placements.tell()
        finally:
            self.is_deciding = False
        if not self._lifecycle.serves:
            self._placements.tell()

    def wants_connection(self) -> bool:
        """Whether one more connection would be of use, and an attempt is due."""
        return (
            self._lifecycle.serves
            and len(self._connections.all) < self._record.limit
            and not self._connector.unpaid
            and len(self._connections.connecting) < self._manager._wanted()
            and self._connector.due_in() <= 0
        )

    def _connect_more(self) -> None:
        while self.wants_connection():
            if not self._record.turns.grant(self._manager):
                return
            self._connector.connect()
        connector = self._connector
        is_early = connector.due_in() > 0
        if (
            (is_early or connector.unpaid)
            and self._lifecycle.serves
            and self._manager._wanted() > 0
        ):
            self._record.turns.want(self._manager)  # a sibling's success may bring it forward
        else:
            self._record.turns.want_no_more(self._manager)

    def _fail_hopeless(self) -> None:
        """Fail the waiters that nothing can serve before the next attempt is due."""
        connections, connector = self._connections, self._connector
        if connections.connecting:
            return
        if connector.unpaid and not connections.leased():
            connector.pay()
            self._give_up_first()
        while self._manager.demand() and self._policy.fail_fast:
            if connector.due_in() <= 0 or connections.leased():
                return
            self._give_up_first()

    def _give_up_first(self) -> None:
        """Give up on the oldest waiter, of the own queue or placed here."""
        error = self._connector.error()
        own = next(iter(self._waiting), None)
        placed = next(iter(self._placements.waiters), None)
        if placed is not None and (own is None or placed.order < own.order):
            self._placements.give_up(placed, error)
        elif own is not None:
            self._queue.fail(own, error)

    def come_home(self, connection: Connection[P]) -> None:
        """Make a returned connection idle, or close it if it is unfit or must make way."""
        if self._record.shrinking.is_above():
            self._connections.close(connection, Why.RESIZED)
        elif self._record.must_make_way(self._manager):
            self._connections.close(connection, Why.DISPLACED)
        elif not self._connections.come_home(connection):
            self._connections.close(connection, Why.UNFIT)

    def check(self, connection: Connection[P]) -> None:
        """Check a connection. If it passes, it is leased to the next waiter, or becomes idle."""
        self._connections.checking.add(connection)
        self._record.changed()
        self._hooks.check(connection).addCallback(self._was_checked, connection)

    def _was_checked(self, fit: bool, connection: Connection[P]) -> None:
        self._connections.checking.discard(connection)
        if not (fit and connection.usable()):
            stillborn = connection.stillborn() and not connection.retired
            if not fit:
                self._record.health.check_failed()
            self._connections.close(connection, Why.UNFIT, abort=True)
            if stillborn:
                error = ConnectionAbortedError("its check failed")
                # Count it as a failed check only: a connect must not end a row of failed checks.
                tell = self._connector.failed if fit else self._connector.was_useless
                tell(error, connection)
                self._record.turns.wake()
        elif self._lifecycle.serves and self.is_asked() and not self._record.shrinking.is_above():
            # Do not make it idle first: with a short check_after it would be checked again.
            self._manager._give(connection)
        else:
            self.come_home(connection)
        self.decide()

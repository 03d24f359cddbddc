"""C{BaseManager}: what the two kinds of managers have in common.

C{ConnectionManager} and C{SharedManager} say what is ready to be leased, and what settling a lease
does. The C{Dispatcher} decides, after each event, which waiters to serve and whether to connect.

The state of a manager is its connections, its own queue, the waiters of groups that are placed
here, the queues of groups that it serves, the tracker of leases, its lifecycle, and whether this
process is a forked child of its own. The results of attempts to connect are in the record.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.defer import Deferred

from kolus.connection import Hooks
from kolus.errors import Closed, Draining, KolusError
from kolus.events import Observer, Why
from kolus.manager.backend.record import BackendRecord
from kolus.manager.connections.checker import Checker
from kolus.manager.connections.connections import Connections
from kolus.manager.connections.connector import Connector
from kolus.manager.dispatcher import Dispatcher
from kolus.manager.housekeeper import Housekeeper
from kolus.manager.lease_tracker import LeaseTracker
from kolus.manager.lifecycle import Lifecycle
from kolus.manager.process_guard import ProcessGuard
from kolus.manager.shutdown import Shutdown
from kolus.manager.smoothness import is_plain
from kolus.manager.waiting.admission import Admission
from kolus.manager.waiting.deadlock import Deadlocks
from kolus.manager.waiting.group_queues import GroupQueues
from kolus.manager.waiting.placements import Placements
from kolus.manager.waiting.queue import Waiter, WaiterQueue
from kolus.policy import Policy
from kolus.status import Status
from kolus.support import Alarm, check_seconds, check_whole, failed, fired, steady
from kolus.watching import ManagerExplanation, Owner, Ownership, Recorder

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.backoff import Rng
    from kolus.connection import Connection
    from kolus.lease import Leasable, Lease, Outcome
    from kolus.manager.connections.supply import Supply
    from kolus.manager.waiting.freshness import Freshness

__all__ = ["BaseManager"]

P = TypeVar("P")


class BaseManager(ABC, Generic[P]):
    """Keeps the connections of one backend for one ident; see C{IKolusManager}.

    @ivar backend: the backend that it connects to.
    @ivar ident: the ident that the connections are for.
    @ivar counters: the numbers of events at this backend so far.
    @ivar connections: its connections.
    @ivar waiting: the waiters in its own queue, the oldest first.
    @ivar placements: the waiters of groups that are placed here.
    @ivar groups: the queues of groups that it serves.
    @ivar deadlocks: finds requests that can never be served.
    @ivar checker: checks its idle connections.
    @ivar freshness: serves requests that want a fresh connection. Each kind has its own.
    @ivar supply: counts what it has leased and could lease. Each kind has its own.
    @ivar process: keeps forked children from using it.
    @ivar sure_for: as that of its hooks.
    @ivar smooth: whether nothing was out of the ordinary when it last looked, and nothing has
        changed since. Its record and its alarm clear it; the manager itself sets it again.
    @ivar passes_on: the same, except that requests may wait in its own queue, and that its alarm
        may be set to any time. A connection that comes home is for the oldest of these requests.
    """

    freshness_kind: type[Freshness]
    supply_kind: type[Supply]

    # What every lease needs. In CPython a slot is faster than a large C{__dict__}.
    __slots__ = (
        *("__dict__", "_alarm", "_checks", "_feedbacks", "_group_queues", "_idle", "_lifecycle"),
        *("_now", "_observers", "_plain", "_record", "_settler", "_special", "_wanting"),
        *("_watchers", "connections", "counters", "ident", "passes_on", "smooth", "waiting"),
        *("_clock", "_load", "_pool_wanting", "sure_for"),
    )

    def __init__(
        self,
        reactor: Any,
        protocol: Callable[[], P],
        backend: Backend,
        ident: Hashable,
        policy: Policy | None = None,
        *,
        observers: list[Observer] | None = None,
        record: BackendRecord | None = None,
        rng: Rng = random,
    ) -> None:
        """
        @param reactor: what connects; any clock is enough for a backend made from an endpoint.
        @param protocol: makes the protocol of each connection.
        @param observers: a live list of whom to tell about events. Whoever adds to it later calls
            C{record.changed()}.
        @param record: whose slots to take, and where to count; one of its own if C{None}.
        @param rng: where the jitter comes from.
        @raise ValueError: the backend's endpoint string is of no use to this reactor.
        """
        self.backend = backend
        self.ident = ident
        self._policy = policy = Policy() if policy is None else policy
        if record is None:
            limit = policy.limit if backend.limit is None else backend.limit
            record = BackendRecord(
                limit,
                policy.max_connecting,
                backend,
                steady(reactor),
                starts_slowly=policy.backoff is not None,
            )
        self._record = record
        self._clock = clock = steady(reactor)
        self._call_soon = getattr(reactor, "callFromThread", None) or partial(clock.callLater, 0)
        self.counters = record.counters
        self._observers = [] if observers is None else observers
        self._recorder = recorder = Recorder(backend, ident, self.counters, self._observers)
        self.hooks = hooks = Hooks(policy, recorder, clock.seconds)
        self._alarm = Alarm(clock, lambda: self._housekeeper.wake())
        self.connections = connections = Connections[P](clock, record, policy, self._alarm)
        self._connector = Connector(
            self, reactor, protocol, policy, rng, connections, record, hooks, recorder
        )
        self.admission: Admission[P] = Admission(self)
        self._queue: WaiterQueue[Lease[P]] = WaiterQueue(
            clock,
            policy.acquire_timeout,
            self.admission.timed_out,
            self._alarm,
            arrivals=record.arrivals,
            added=self.admission.came,
            removed=self.admission.left,
            cancelled=self.admission.cancelled,
            hopeful=self.admission.is_hopeful,
        )
        self.placements = Placements(self, record)
        self.groups = GroupQueues(self)
        self._tracker = LeaseTracker(policy, recorder, clock.seconds, self._settle, self._alarm)
        self.freshness = self.freshness_kind(self)
        self.supply = self.supply_kind(self)
        self.deadlocks = Deadlocks(self, self._tracker, record, policy)
        self._lifecycle = Lifecycle()
        self._shutdown = Shutdown(self)
        self.checker = Checker(self)
        self._dispatcher: Dispatcher[P] = Dispatcher(self)
        self._housekeeper = Housekeeper(self)
        self.process = ProcessGuard(self.__repr__, self._shutdown.abandon)

        # What every lease needs, at hand.
        self._now = clock.seconds
        self._wanting = record.turns.wanting
        self._pool_wanting = record.budget.wanting
        self._load = record.load
        self._group_queues = self.groups.known
        self._watchers = record.watchers
        self._feedbacks = record.feedbacks.known
        self._debug = policy.debug
        self._warns_of_leaks = policy.leak_after is not None
        self._tracked = policy.debug or policy.hold_limit is not None
        self._special = self._tracked or policy.min_idle > 0
        self._checks = hooks.checks
        self.sure_for = hooks.sure_for
        self._plain = is_plain(self)
        self._idle = connections.idle
        self.waiting = self._queue.waiting
        self._settler = self._settle
        self.smooth = self.passes_on = False

        record.join(self)
        self._alarm.set(connections.vacant_until())  # it may never have a connection
        self.process.begin()

    # What the two kinds know and do

    @abstractmethod
    def try_connect(
        self, ident: Hashable, owner: Owner | None = None, fresh: bool = False
    ) -> Lease[P] | None: ...

    @abstractmethod
    def has_idle(self) -> bool:
        """Whether something may be ready to be leased."""

    @abstractmethod
    def _settle(self, leasable: Any, outcome: Outcome) -> None:
        """Settle a lease."""

    @abstractmethod
    def _hand_out(self) -> None:
        """Serve waiters while something is ready."""

    @abstractmethod
    def _give(self, connection: Connection[P]) -> None:
        """Lease a connection that has just passed its check to the next waiters."""

    def status(self) -> Status:
        return self.supply.numbers()

    def load(self) -> int:
        """How many leases are out and requests wait here."""
        return self.supply.leased() + self.demand()

    def serves(self) -> bool:
        """Whether it gives leases now."""
        return self._lifecycle.serves

    def demand(self) -> int:
        """The number of its waiters, those of groups that are placed here included."""
        return len(self.waiting) + len(self.placements.waiters)

    def is_asked(self) -> bool:
        """Whether somebody waits here for a lease, or for connections to be ready."""
        return bool(self.demand() or self.admission.warming.wishes)

    def is_short(self) -> bool:
        """Whether more wait here than can be served by what is ready or on its way."""
        return self._dispatcher.is_short()

    # Requests

    def connect(
        self,
        ident: Hashable,
        timeout: float | None = None,
        owner: Owner | None = None,
        fresh: bool = False,
    ) -> Waiter[Lease[P]]:
        if timeout is not None:
            check_seconds("timeout", timeout)
        try:
            now = self.try_connect(ident, owner, True) if fresh else self.try_connect(ident, owner)
        except KolusError:
            return failed(Waiter)
        if now is not None:
            return fired(Waiter, now)
        try:
            return self.admission.wait(timeout, owner, fresh)
        except KolusError:
            return failed(Waiter)

    def demand_grew(self) -> None:
        """A waiter was placed here."""
        self._connector.pay()
        self._dispatcher.decide()

    def demand_fell(self) -> None:
        """A waiter that was placed here has left."""
        self.placements.tell()
        self._record.turns.demand_fell(self)

    # Leases

    def _lease_specially(self, leasable: Leasable[P], ownership: Ownership | None) -> Lease[P]:
        """Lease what was ready at once, and see to the head-room."""
        lease = self._tracker.lease(leasable, ownership, self._tracker.origin(ownership))
        if self._policy.min_idle:
            self._dispatcher.decide()
        return lease

    def wants_connection(self) -> bool:
        """Whether it needs one more connection, and an attempt is due."""
        return self._dispatcher.wants_connection()

    # What the connector and the record tell

    def connections_changed(self) -> None:
        """Something has changed: decide again, and end if it is ending and nothing is left."""
        if self._warns_of_leaks and self.connections.all and self._tracker.leaks_due == math.inf:
            self._housekeeper.look_for_leaks(self._now())
        self._dispatcher.decide()
        self._shutdown.end_if_empty()

    def health_changed(self) -> None:
        """Its backend has become well, or is not well any more."""
        self._plain = is_plain(self)
        self.placements.health_changed()
        self.connections_changed()

    def limit_changed(self) -> None:
        """The backend has another limit."""
        self._recorder.resized(self._record.limit)
        self.connections_changed()
        self.deadlocks.look_at_all()

    def shrinking_changed(self) -> None:
        """There have come to be more connections than a limit allows, or no longer are."""
        self._plain = is_plain(self)

    def is_called(self, backend: Backend) -> None:
        """The name or other values of its backend have changed."""
        self.backend = self._recorder.backend = backend

    def observe(self, seconds: float) -> None:
        """A lessee tells how long the backend took to answer."""
        self._record.feedbacks.observed(seconds)

    def ownership_of(self, owner: object) -> Ownership | None:
        """The ownership of an owner at this manager, if there is one."""
        return self._tracker.owners.find(owner)

    # Operation

    def pause(self) -> None:
        self.process.check()
        if self._lifecycle.serves:
            self._lifecycle.pause()
            self._record.changed(self)
            self._alarm.set(self.connections.vacant_until())
            self._dispatcher.decide()  # which may lead to its end
            self._record.turns.wake()  # what is idle may make way for another manager's
            self._recorder.paused()

    def resume(self) -> None:
        self.process.check()
        if self._lifecycle.resume():
            self._record.changed(self)
            self._recorder.resumed()
            self._dispatcher.decide()

    def resize(self, limit: int) -> None:
        check_whole("limit", limit, 1)
        self.process.check()
        self._record.resize(limit)

    def invalidate(self) -> None:
        self.process.check()
        self._record.renew()
        self.connections.retire_all(Why.INVALIDATED)
        self.connections_changed()
        self.deadlocks.look_at_all()

    def explain(self) -> ManagerExplanation:
        return self._tracker.explain(self)

    def drain(self) -> Deferred[None]:
        self.process.check()
        self._shutdown.begin(Draining)
        return self.when_closed()

    def close(self, timeout: float) -> Deferred[None]:
        check_seconds("timeout", timeout, optional=False)
        self.process.check()
        self._lifecycle.abort_by(self._now() + timeout)
        self._shutdown.begin(Closed)
        self._housekeeper.wake()
        return self.when_closed()

    def when_closed(self) -> Deferred[None]:
        return self._lifecycle.when_closed()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.supply.numbers()} for {self.ident!r}>"

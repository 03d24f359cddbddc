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
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kolus.connection import Hooks
from kolus.errors import KolusError
from kolus.events import Observer
from kolus.manager.backend.record import BackendRecord
from kolus.manager.connections.checker import Checker
from kolus.manager.connections.connections import Connections
from kolus.manager.connections.connector import Connector
from kolus.manager.dispatcher import Dispatcher
from kolus.manager.hand_off import HandOff
from kolus.manager.housekeeper import Housekeeper
from kolus.manager.lease_tracker import LeaseTracker
from kolus.manager.lifecycle import Lifecycle
from kolus.manager.process_guard import ProcessGuard
from kolus.manager.shutdown import Shutdown
from kolus.manager.waiting.admission import Admission
from kolus.manager.waiting.deadlock import Deadlocks
from kolus.manager.waiting.placements import Placements
from kolus.manager.waiting.queue import OwnQueue, Waiter
from kolus.manager.waiting.served_queues import ServedQueues
from kolus.manager.waiting.waiters import Waiters
from kolus.policy import Policy
from kolus.status import Status
from kolus.support import Alarm, check_seconds, failed, fired, steady
from kolus.watching import Owner, Ownership, Recorder

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
    @ivar policy: its policy.
    @ivar record: the record of its backend, which all managers of the backend share.
    @ivar observers: whom to tell of events, live.
    @ivar recorder: counts its events, logs them and tells the observers.
    @ivar alarm: rings when something is due at it.
    @ivar housekeeper: does what is due then.
    @ivar connector: makes its connections.
    @ivar queue: its own queue.
    @ivar waiting: the waiters in that queue, the oldest first.
    @ivar dispatcher: serves those who wait, and connects for them.
    @ivar tracker: knows who holds its leases.
    @ivar lifecycle: whether it is open, paused, draining or closed.
    @ivar shutdown: how it ends.
    @ivar now: tells the time of its clock.
    @ivar settler: its C{settle}, for leases.
    @ivar placements: the waiters of groups that are placed here.
    @ivar groups: the queues of groups that it serves.
    @ivar waiters: who waits for it, and who is next.
    @ivar deadlocks: finds requests that can never be served.
    @ivar checker: checks its idle connections.
    @ivar freshness: serves requests that want a fresh connection. Each kind has its own.
    @ivar supply: counts what it has leased and could lease. Each kind has its own.
    @ivar process: keeps forked children from using it.
    @ivar clock: its clock.
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
        *("__dict__", "alarm", "_checks", "_feedbacks", "_joined", "_idle", "lifecycle"),
        *("now", "observers", "_plain", "record", "settler", "_special", "_wanting"),
        *("_watchers", "connections", "counters", "ident", "passes_on", "smooth", "waiting"),
        *("_load", "_pool_wanting", "clock", "sure_for"),
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
        self.policy = policy = Policy() if policy is None else policy
        if record is None:
            limit = policy.limit if backend.limit is None else backend.limit
            record = BackendRecord(
                limit,
                policy.max_connecting,
                backend,
                steady(reactor),
                starts_slowly=policy.backoff is not None,
            )
        self.record = record
        self.clock = clock = steady(reactor)
        self.counters = record.counters
        self.observers = [] if observers is None else observers
        self.recorder = recorder = Recorder(backend, ident, self.counters, self.observers)
        self.hooks = hooks = Hooks(policy, recorder, clock.seconds)
        self.alarm = Alarm(clock, lambda: self.housekeeper.wake())
        self.connections = connections = Connections[P](clock, record, policy, self.alarm)
        self.connector = Connector(self, reactor, protocol, rng)
        self.admission: Admission[P] = Admission(self)
        self.queue = OwnQueue(self)
        self.placements = Placements(self)
        self.groups = ServedQueues(self)
        self.tracker = LeaseTracker(policy, recorder, clock.seconds, self.settle, self.alarm)
        self.freshness = self.freshness_kind(self)
        self.supply = self.supply_kind(self)
        self.deadlocks = Deadlocks(self)
        self.lifecycle = Lifecycle()
        self.shutdown = Shutdown(self)
        self.checker = Checker(self)
        self.waiters: Waiters[P] = Waiters(self)
        self.dispatcher: Dispatcher[P] = Dispatcher(self)
        self._hand_off: HandOff[P] = HandOff(self)
        self.housekeeper = Housekeeper(self)
        self.process = ProcessGuard(self.__repr__, self.shutdown.abandon)

        # What every lease needs, at hand.
        self.now = clock.seconds
        self._wanting = record.turns.wanting
        self._pool_wanting = record.budget.wanting
        self._load = record.load
        self._joined = self.groups.joined
        self._watchers = record.watchers
        self._feedbacks = record.feedbacks.known
        self._special = policy.debug or policy.hold_limit is not None or policy.min_idle > 0
        self._checks = hooks.checks
        self.sure_for = hooks.sure_for
        self._plain = self._is_plain()
        self._idle = connections.idle
        self.waiting = self.queue.waiting
        self.settler = self.settle
        self.smooth = self.passes_on = False

        record.join(self)
        self.alarm.set(connections.vacant_until())  # it may never have a connection
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
    def settle(self, leasable: Any, outcome: Outcome) -> None:
        """Settle a lease."""

    @abstractmethod
    def hand_out(self) -> None:
        """Serve waiters while something is ready."""

    @abstractmethod
    def give(self, connection: Connection[P]) -> None:
        """Lease a connection that has just passed its check to the next waiters."""

    def status(self) -> Status:
        return self.supply.numbers()

    def load(self) -> int:
        """How many leases are out and requests wait here."""
        return self.supply.leased() + self.demand()

    def serves(self) -> bool:
        """Whether it gives leases now."""
        return self.lifecycle.serves

    def demand(self) -> int:
        """The number of its waiters, those of groups that are placed here included."""
        return len(self.waiting) + len(self.placements.waiters)

    def is_asked(self) -> bool:
        """Whether somebody waits here for a lease, or for connections to be ready."""
        return bool(self.demand() or self.admission.warming.wishes)

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
        self.connector.allow_next()
        self.dispatcher.decide()

    def demand_fell(self) -> None:
        """A waiter that was placed here has left."""
        self.placements.tell()
        self.record.turns.demand_fell(self)

    # Leases

    def _is_plain(self) -> bool:
        """Whether a released connection can be leased again without a reset or another step."""
        policy, record = self.policy, self.record
        has_hook = policy.reset is not None or policy.clean is not None
        has_bound = policy.max_uses is not None or policy.max_idle is not None
        return record.health.is_well and not (record.shrinking.active or has_hook or has_bound)

    def look_if_smooth(self) -> None:
        """See whether a lease and a release change nothing but the connection and two counters."""
        if self._special or self.observers or self._watchers or self._feedbacks:
            return
        record, placements = self.record, self.placements
        # Other managers may need the slots of the connections that are idle here.
        has_rivals = len(record.members) > 1 or record.budget.limit is not None
        if has_rivals or self._joined or self._wanting or placements.wait_for_idle:
            return
        if not (self._plain and self.lifecycle.serves):
            return
        record.smooth[self] = None
        # Each waiter that leaves makes room for a queue that waits for room. And where a check is
        # needed before each lease, it is needed before each hand-off, too.
        self.passes_on = self.hooks.check_after > 0 and not placements.wait_for_room
        if not self.waiting:
            self.smooth = self.alarm.at <= self.now() + self.connections.shortest_idle

    def _lease_specially(self, leasable: Leasable[P], ownership: Ownership | None) -> Lease[P]:
        """Lease what was ready at once, and see to the head-room."""
        lease = self.tracker.lease(leasable, ownership, self.tracker.origin(ownership))
        if self.policy.min_idle:
            self.dispatcher.decide()
        return lease

    def _note_release(self, since: float) -> None:
        """A lease that is not settled the quick way has come home."""
        if not self.record.health.is_well:
            self.record.health.released(since)
        elif not self._plain:
            self._plain = self._is_plain()  # the end of a slow start is not told

    def _tell_release(self, held: float, was_observed: bool) -> None:
        """A lease has come home: tell who wants to know."""
        self.record.tell_watchers()
        if self._feedbacks and not was_observed:
            self.record.feedbacks.observed(held)
        self.recorder.released(held)

    def first_order(self) -> float:
        """The number of the arrival of the first who waits here: see C{SlotQueue}."""
        return self.waiters.first_order()

    def wants_connection(self) -> bool:
        """Whether it needs one more connection, and an attempt is due."""
        return self.dispatcher.wants_connection()

    # What the connector and the record tell

    def connections_changed(self) -> None:
        """Something has changed: decide again, and end if it is ending and nothing is left."""
        warns = self.policy.leak_after is not None
        if warns and self.connections.all and self.tracker.leaks_due == math.inf:
            self.housekeeper.look_for_leaks(self.now())
        self.dispatcher.decide()
        self.shutdown.end_if_empty()

    def health_changed(self) -> None:
        """Its backend has become well, or is not well any more."""
        self._plain = self._is_plain()
        self.placements.health_changed()
        self.connections_changed()

    def limit_changed(self) -> None:
        """The backend has another limit."""
        self.recorder.resized(self.record.limit)
        self.connections_changed()
        self.deadlocks.look_at_all()

    def shrinking_changed(self) -> None:
        """There have come to be more connections than a limit allows, or no longer are."""
        self._plain = self._is_plain()

    def describe_as(self, backend: Backend) -> None:
        """Take the name and the values that its backend has now."""
        self.backend = self.recorder.backend = backend

    def observe(self, seconds: float) -> None:
        """A lessee tells how long the backend took to answer."""
        self.record.feedbacks.observed(seconds)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.supply.numbers()} for {self.ident!r}>"

"""C{BaseManager}: takes requests, and decides who is served and what is connected for.

C{_decide} alone hands out, connects and gives up on waiters, after any event. What is ready to be
leased, and what settling a lease does, is up to the two kinds of managers: C{ConnectionManager}
and C{SharedManager}.

The mutable state of a manager is its connections, its own queue of waiters, the waiters of groups
that are placed here, the queues of groups that it serves, the tracker of leases, whether it is
open, and whether this process is a forked child of its own. How the attempts to connect went is in
the backend's record.
"""

from __future__ import annotations

import math
import os
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, fail

from kolus.backend import Backend
from kolus.backoff import Rng
from kolus.errors import (
    Closed,
    Draining,
    KolusError,
    LeaseError,
    LeaseTimeout,
)
from kolus.events import Observer, Why
from kolus.lease import Leasable, Lease, Outcome
from kolus.manager.admission import Admission
from kolus.manager.connection import Connection
from kolus.manager.connections import Connections
from kolus.manager.connector import Connector
from kolus.manager.deadlock import Deadlocks
from kolus.manager.dispatcher import Dispatcher
from kolus.manager.group_queues import GroupQueues
from kolus.manager.hooks import Hooks
from kolus.manager.housekeeper import Housekeeper
from kolus.manager.lease_tracker import Held, LeaseTracker
from kolus.manager.lifecycle import Lifecycle
from kolus.manager.placements import Placements
from kolus.manager.queue import Waiter, WaiterQueue
from kolus.manager.record import BackendRecord
from kolus.manager.shutdown import Shutdown
from kolus.policy import Policy
from kolus.status import Status
from kolus.support import Alarm, after_fork, check_seconds, check_whole, fired
from kolus.watching import Forked, ManagerExplanation, Owner, Ownership, Recorder

__all__ = ["BaseManager"]

P = TypeVar("P")


class BaseManager(ABC, Generic[P]):
    """Keeps the connections of one backend for one ident; see C{IKolusManager}.

    @ivar backend: where to.
    @ivar ident: whom for.
    @ivar counters: what has happened at this backend so far.
    @ivar connections: the connections.
    @ivar waiting: the requests in its own queue, the oldest first.
    @ivar placements: the requests in the queues of groups that it connects for.
    @ivar groups: the queues of groups that it serves.
    @ivar smooth: whether nothing was out of the ordinary when it last looked, and nothing has
        changed since. Its record and its alarm clear it; the manager itself sets it again.
    @ivar passes_on: the same, but for who waits in its own queue and for when its alarm rings: what
        comes home is for the oldest of these, and nothing else depends on that.
    """

    # What every lease needs. CPython finds it faster here than in a large C{__dict__}.
    __slots__ = (
        "__dict__",
        "_alarm",
        "_checks",
        "_feedbacks",
        "_group_queues",
        "_idle",
        "_lifecycle",
        "_now",
        "_observers",
        "_plain",
        "_record",
        "_settler",
        "_special",
        "_wanting",
        "_watchers",
        "connections",
        "counters",
        "ident",
        "passes_on",
        "smooth",
        "waiting",
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
        @param observers: a live list of whom to tell about events.
        @param record: whose slots to take, and where to count; one of its own if C{None}.
        @param rng: where the jitter comes from.
        @raise ValueError: the backend's endpoint string is of no use to this reactor.
        """
        self.backend = backend
        self.ident = ident
        self._policy = policy = Policy() if policy is None else policy
        if record is None:
            limit = policy.limit if backend.limit is None else backend.limit
            record = BackendRecord(limit, policy.max_connecting, backend, reactor)
        self._record = record
        self._clock = reactor
        self._call_soon = getattr(reactor, "callFromThread", None) or partial(reactor.callLater, 0)
        self.counters = record.counters
        self._observers = [] if observers is None else observers
        self._recorder = recorder = Recorder(backend, ident, self.counters, self._observers)
        self._hooks = hooks = Hooks(policy, recorder, reactor.seconds)
        self._alarm = Alarm(reactor, self._ring)
        self.connections = connections = Connections[P](reactor, record, policy, self._alarm)
        self._connector = Connector(
            self, reactor, protocol, policy, rng, connections, record, hooks, recorder
        )
        self._queue: WaiterQueue[Lease[P]] = WaiterQueue(
            *(reactor, policy.acquire_timeout, self._timed_out, self._alarm),
            arrivals=record.arrivals,
            added=self._waiter_came,
            removed=self._waiter_left,
        )
        self.placements = Placements(self, record)
        self.groups = GroupQueues(self)
        self._tracker = LeaseTracker(policy, recorder, reactor.seconds, self._settle)
        self._deadlocks = Deadlocks(self, self._tracker, record, policy)
        self._lifecycle = Lifecycle()
        self._shutdown = Shutdown(self)
        self._dispatcher: Dispatcher[P] = Dispatcher(self)
        self.admission: Admission[P] = Admission(self)
        self._housekeeper = Housekeeper(self)
        self._process = os.getpid()
        self._is_foreign = False

        # What every lease needs, at hand.
        self._now = reactor.seconds
        self._wanting = record.turns.wanting
        self._group_queues = self.groups.known
        self._watchers = record.watchers
        self._feedbacks = record.feedbacks
        self._debug = policy.debug
        self._special = policy.debug or policy.min_idle > 0
        self._checks = hooks.checks
        self._plain = self._is_plain()
        self._idle = connections.idle
        self.waiting = self._queue.waiting
        self._settler = self._settle
        self.smooth = self.passes_on = False

        record.join(self)
        self._alarm.set(connections.vacant_until())  # it may never have a connection
        after_fork(self)

    # What the two kinds know and do

    @abstractmethod
    def try_connect(self, ident: Hashable, owner: Owner | None = None) -> Lease[P] | None: ...

    @abstractmethod
    def status(self) -> Status: ...

    def _numbers(self) -> Status:
        """The status as far as it is known without a look at each connection."""
        return self.status()

    @abstractmethod
    def load(self) -> int:
        """How many leases are out and requests wait here."""

    @abstractmethod
    def ready(self) -> int:
        """How many leases could be given at once."""

    @abstractmethod
    def has_idle(self) -> bool:
        """Whether something may be ready to be leased."""

    @abstractmethod
    def _settle(self, leasable: Any, outcome: Outcome) -> None:
        """Settle a lease."""

    @abstractmethod
    def _hand_out(self) -> None:
        """Serve those who wait, as far as something is ready for them."""

    @abstractmethod
    def _give(self, connection: Connection[P]) -> None:
        """Serve those who wait with a connection that has just passed its check."""

    @abstractmethod
    def _wanted(self) -> int:
        """How many connections ought to be in the making."""

    @abstractmethod
    def _coming(self) -> int:
        """How many requests need not wait for the release of another's lease."""

    @abstractmethod
    def _capacity(self) -> int:
        """How many leases can be out at a time."""

    @abstractmethod
    def _held(self) -> Iterable[Held]:
        """What is leased."""

    @abstractmethod
    def _busy(self) -> dict[Held, str]:
        """What else the status counts as leased, and what each is doing."""

    def _silent(self) -> int:
        """How many idle connections cannot carry a lease now."""
        return 0

    def serves(self) -> bool:
        """Whether it gives leases now."""
        return self._lifecycle.serves

    def demand(self) -> int:
        """How many requests it connects for."""
        return len(self.waiting) + len(self.placements.waiters)

    def room(self) -> int:
        """How many more requests could be served without one of them waiting for a release."""
        to_come = max(0, self._record.unused()) + len(self.connections.connecting)
        return self.ready() + to_come * (self._policy.slots or 1) - self.demand()

    def _is_plain(self) -> bool:
        """Whether a release is nothing but the next lessee's turn."""
        policy, record = self._policy, self._record
        is_calm = record.health.is_well and not record.shrinking.active
        return policy.reset is None and policy.max_uses is None and is_calm

    def _look_if_smooth(self) -> None:
        """See whether a lease and a release change nothing but the connection and two counters."""
        told = self._special or self._observers or self._watchers or self._feedbacks
        placements = self.placements
        asked = self._group_queues or self._wanting or placements.wait_for_idle
        if told or asked or self._checks:
            return
        has_siblings = len(self._record.members) > 1  # which may need what is idle here
        if has_siblings or not (self._plain and self._lifecycle.serves):
            return
        self._record.smooth[self] = None
        self.passes_on = not placements.wait_for_room  # one waiter fewer makes room
        if not self.waiting:
            self.smooth = self._alarm.at <= self._now() + self.connections.shortest_idle

    def _next_is_stale(self) -> bool:
        """Whether the next idle connection is to be checked first; there has to be one."""
        return self._hooks.is_stale(self.connections.next_idle())

    # Requests

    def connect(
        self, ident: Hashable, timeout: float | None = None, owner: Owner | None = None
    ) -> Deferred[Lease[P]]:
        if timeout is not None:
            check_seconds("timeout", timeout)
        try:
            lease = self.try_connect(ident, owner)
        except KolusError:
            return fail()
        if lease is not None:
            return fired(Waiter, lease)
        try:
            return self.admission.wait(timeout, owner)
        except KolusError:
            return fail()

    def fail(self, waiter: Waiter[Any], error: Exception) -> None:
        """Fail one of those in its own queue."""
        self._queue.fail(waiter, error)

    def demand_grew(self) -> None:
        """Another request is to be connected for here."""
        self._connector.pay()
        self._dispatcher.decide()

    def demand_fell(self) -> None:
        """A request has left that was connected for here."""
        self.placements.tell()
        if self._wanting and self._idle and not self.demand():
            self._record.turns.wake()  # what was idle for it makes way for a sibling's

    def _waiter_came(self) -> None:
        self.smooth = False
        self._record.noted += 1
        if self._watchers:
            self._record.tell_watchers()

    def _waiter_left(self, waiter: Waiter[Lease[P]]) -> None:
        self._record.noted -= 1
        if self._watchers:
            self._record.tell_watchers()
        if not self.passes_on:  # else nobody wants to hear of it
            self.demand_fell()

    # Leases

    def _lease_specially(self, leasable: Leasable[P], ownership: Ownership | None) -> Lease[P]:
        """Lease what was ready at once, and see to the head-room."""
        lease = self._tracker.lease(leasable, ownership, self._tracker.origin(ownership), 0.0)
        if self._policy.min_idle:
            self._dispatcher.decide()
        return lease

    def deadlock(self, owner: Owner | None, origin: str | None) -> LeaseError | None:
        """What a request fails with whose owner holds everything that can be leased here."""
        return self._deadlocks.find(owner, origin)

    def _timed_out(self, waiter: Waiter[Lease[P]]) -> LeaseTimeout:
        return self.admission.timed_out(waiter)

    def _ring(self) -> None:
        self._housekeeper.wake()

    def wants_connection(self) -> bool:
        """Whether one more connection would be of use, and an attempt is due."""
        return self._dispatcher.wants_connection()

    # What the connector and the record tell

    def connections_changed(self) -> None:
        """See who can be served now, or if all ends."""
        if self.connections.all and self._tracker.leaks_due == math.inf:
            self._housekeeper.look_for_leaks(self._now())
        self._dispatcher.decide()
        self._shutdown.end_if_empty()

    def health_changed(self) -> None:
        """Its backend is well, or not any more."""
        self._plain = self._is_plain()
        self.connections_changed()

    def limit_changed(self) -> None:
        """The backend has another limit."""
        self.admission.limit_changed()
        self._recorder.resized(self._record.limit)
        self.connections_changed()
        self._deadlocks.look_at_all()

    def shrinking_changed(self) -> None:
        """The backend has more connections than its limit, or no longer."""
        self._plain = self._is_plain()

    def is_called(self, backend: Backend) -> None:
        """Something else is said of the backend, such as its name."""
        self.backend = self._recorder.backend = backend

    def observe(self, seconds: float) -> None:
        """Whoever has a lease says how long the backend took."""
        self._record.observed(seconds)

    def ownership_of(self, owner: object) -> Ownership | None:
        """What an owner has of this manager, if anything."""
        return self._tracker.owners.find(owner)

    # Operation

    def pause(self) -> None:
        self._check_process()
        if self._lifecycle.serves:
            self._lifecycle.pause()
            self._record.changed()
            self._alarm.set(self.connections.vacant_until())
            self._dispatcher.decide()  # which may lead to its end
            self._recorder.paused()

    def resume(self) -> None:
        self._check_process()
        if self._lifecycle.resume():
            self._record.changed()
            self._recorder.resumed()
            self._dispatcher.decide()

    def resize(self, limit: int) -> None:
        check_whole("limit", limit, 1)
        self._check_process()
        self._record.resize(limit)

    def invalidate(self) -> None:
        self._check_process()
        self.connections.retire_all(Why.INVALIDATED)
        self.connections_changed()
        self._deadlocks.look_at_all()

    def explain(self) -> ManagerExplanation:
        return self._tracker.explain(self)

    def forked(self) -> None:
        """Called in a forked child: the connections are its parent's, so leave them alone."""
        self._is_foreign = True
        self._lifecycle.serves = False
        self._record.changed()
        self._alarm.clear()
        told = Forked(self._foreign())
        for connection in self.connections.all:
            connection.retired = connection.doubtful = True
            connection.protocol = told  # type: ignore[assignment]

    def _foreign(self) -> str:
        return f"process {os.getpid()} cannot use {self!r}: process {self._process} made it"

    def _check_process(self) -> None:
        if self._is_foreign:
            raise LeaseError(self._foreign())

    def drain(self) -> Deferred[None]:
        self._check_process()
        self._shutdown.begin(Draining)
        return self.when_closed()

    def close(self, timeout: float) -> Deferred[None]:
        check_seconds("timeout", timeout, optional=False)
        self._check_process()
        self._lifecycle.abort_by(self._now() + timeout)
        self._shutdown.begin(Closed)
        self._housekeeper.wake()
        return self.when_closed()

    def when_closed(self) -> Deferred[None]:
        return self._lifecycle.when_closed()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._numbers()} for {self.ident!r}>"

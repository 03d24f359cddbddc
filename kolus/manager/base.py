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
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, fail, succeed

from kolus.backend import AnyBackend, Backend
from kolus.backoff import Rng
from kolus.errors import (
    Closed,
    Draining,
    KolusError,
    LeaseError,
    LeaseTimeout,
    PoolFull,
    WrongIdent,
)
from kolus.events import Observer, Why
from kolus.health import Phase
from kolus.lease import Leasable, Lease, Outcome
from kolus.manager.connection import Connection
from kolus.manager.connections import Connections
from kolus.manager.connector import Connector
from kolus.manager.deadlock import Deadlocks
from kolus.manager.group_queues import GroupQueues
from kolus.manager.hooks import Hooks
from kolus.manager.lease_tracker import Held, LeaseTracker
from kolus.manager.lifecycle import Lifecycle
from kolus.manager.placements import Placements
from kolus.manager.queue import Waiter, WaiterQueue
from kolus.manager.record import BackendRecord
from kolus.manager.shutdown import Shutdown
from kolus.policy import Policy
from kolus.status import Status
from kolus.support import Alarm, after_fork, check_seconds, check_whole
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
        self._alarm = Alarm(reactor, self._wake)
        self.connections = connections = Connections[P](reactor, record, policy, self._alarm)
        self._connector = Connector(
            self, reactor, protocol, policy, rng, connections, record, hooks, recorder
        )
        self._queue: WaiterQueue[Lease[P]] = WaiterQueue(
            *(reactor, policy.acquire_timeout, self.timed_out, self._alarm),
            arrivals=record.arrivals,
            changed=record.changed,
            removed=self._waiter_left,
        )
        self.placements = Placements(self, record)
        self.groups = GroupQueues(self)
        self._tracker = LeaseTracker(policy, recorder, reactor.seconds, self._settle)
        self._deadlocks = Deadlocks(self, self._tracker, record, policy)
        self._deciding = self._undecided = False
        self._lifecycle = Lifecycle()
        self._shutdown = Shutdown(self)
        self._process = os.getpid()
        self._is_foreign = False

        # What every lease needs, at hand.
        self._now = reactor.seconds
        self._wanting = record.wanting
        self._group_queues = self.groups.known
        self._watchers = record.watchers
        self._feedbacks = record.feedbacks
        self._debug = policy.debug
        self._special = policy.debug or policy.min_idle > 0
        self._checks = hooks.checks
        self._plain = self._is_plain()
        self._idle = connections.idle
        self.waiting = self._queue.waiting
        self._most_waiters = policy.most_waiters(record.limit)
        self._settler = self._settle

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
            return succeed(lease)
        try:
            return self._wait(timeout, owner)
        except KolusError:
            return fail()

    def _wait(self, timeout: float | None, owner: Owner | None) -> Waiter[Lease[P]]:
        """Queue a request that nothing is ready for.

        @raise PoolFull: as many wait as may.
        @raise LeaseError: as C{connect} fails.
        """
        ownership = None if owner is None else self._tracker.ownership(owner)
        origin = self.origin(ownership)
        if ownership is not None:
            error = self._deadlocks.find(ownership.owner, origin)
            if error is not None:
                raise error
        self.check_room()
        waiter = self._queue.append(timeout)
        if origin is not None:
            waiter.origin = origin
        if ownership is not None:
            waiter.ownership = ownership
            ownership.wait(waiter)
        self._connector.pay()
        if self._group_queues or self._idle or len(self.connections.all) < self._record.limit:
            self._decide()
        return waiter

    def origin(self, ownership: Ownership | None) -> str | None:
        """Where the program makes the present request, as far as anybody may ask later."""
        return self._tracker.origin(ownership) if self._debug or ownership is not None else None

    def check_room(self) -> None:
        """Refuse a request if as many wait as may.

        @raise PoolFull: they do.
        """
        beyond = self.demand() - self._most_waiters
        if beyond >= 0 and beyond >= self._coming():
            self._recorder.rejected(full := PoolFull(f"{self._numbers()}: as many wait as may"))
            raise full

    def accepts(self, ident: Hashable) -> bool:
        """Whether a request for C{ident} is not refused."""
        return self._lifecycle.refusal is None and ident == self.ident

    def refuse(self, ident: Hashable) -> None:
        """Raise what a request for C{ident} is refused with, if it is."""
        self._check_process()
        if self._lifecycle.refusal is not None:
            error: KolusError = self._lifecycle.refusal(f"{self!r} gives no new leases")
        elif ident != self.ident:
            error = WrongIdent(f"{self._numbers()} belongs to another ident than {ident!r}")
        else:
            return
        self._recorder.rejected(error)
        raise error

    def fail(self, waiter: Waiter[Any], error: Exception) -> None:
        """Fail one of those in its own queue."""
        self._queue.fail(waiter, error)

    def timed_out(
        self, waiter: Waiter[Any], tried: Mapping[AnyBackend, BaseException] | None = None
    ) -> LeaseTimeout:
        """What a waiter fails with whose time is over, in its own queue or placed here.

        @param tried: where else it could not be served, and why.
        """
        waited = self._now() - waiter.since
        self._recorder.timed_out(waited)
        return LeaseTimeout(self._numbers(), waited, self._record.attempts.last_error, tried)

    def demand_grew(self) -> None:
        """Another request is to be connected for here."""
        self._connector.pay()
        self._decide()

    def demand_fell(self) -> None:
        """A request has left that was connected for here."""
        self.placements.tell()
        if self._wanting and self._idle and not self.demand():
            self._record.wake()  # what was idle for it makes way for a sibling's

    def _waiter_left(self, waiter: Waiter[Lease[P]]) -> None:
        self.demand_fell()

    # Who is next

    def _next_waiter(self) -> Waiter[Lease[P]] | None:
        """Who is to be served next, of its own queue and of those of groups."""
        oldest = next(iter(self.waiting)) if self.waiting else None
        if self._group_queues:
            queue = self.groups.first()
            head = None if queue is None else queue.head()
            if head is not None and (oldest is None or head.order < oldest.order):
                oldest = head
            if self._record.health.phase is not Phase.WELL:
                placed = self.placements.oldest()  # these it may serve in any case
                if placed is not None and (oldest is None or placed.order < oldest.order):
                    oldest = placed
        return oldest

    def _is_asked(self) -> bool:
        """Whether anybody waits whom it may serve."""
        return bool(self.waiting) or (bool(self._group_queues) and self._next_waiter() is not None)

    def _asked(self, most: int) -> int:
        """How many wait whom it may serve, as far as that is not more than C{most}."""
        return len(self.waiting) + (self.groups.count(most) if self._group_queues else 0)

    def _take_next(self) -> Waiter[Lease[P]]:
        """Take the next waiter out of its queue; there has to be one."""
        waiter = self._next_waiter()
        assert waiter is not None
        if waiter.queue is self._queue:
            return self._queue.popleft()
        queue: Any = waiter.queue
        queue.take(waiter)
        if waiter.ownership is not None:
            waiter.ownership = self._tracker.ownership_here(waiter.ownership)
        return waiter

    # Leases

    def _lease_specially(self, leasable: Leasable[P], ownership: Ownership | None) -> Lease[P]:
        """Lease what was ready at once, and see to the head-room."""
        lease = self._tracker.lease(leasable, ownership, self._tracker.origin(ownership), 0.0)
        if self._policy.min_idle:
            self._decide()
        return lease

    def _serve(self, leasable: Leasable[P]) -> None:
        """Give the next waiter its lease."""
        waiter = self._take_next() if self._group_queues else self._queue.popleft()
        self._record.changed()
        self.counters.leases += 1
        if self._observers or self._debug or waiter.ownership is not None:
            waited = self._now() - waiter.since
            lease = self._tracker.lease(leasable, waiter.ownership, waiter.origin, waited)
        else:
            lease = Lease(leasable, self._settler)
        if waiter.called:  # an observer has just now cancelled it, or ended its owner
            if lease.held:
                lease.release()
            return
        waiter.callback(lease)
        if waiter.ownership is not None:
            self._deadlocks.fail_all_of(waiter.ownership.owner)

    def deadlock(self, owner: Owner | None, origin: str | None) -> LeaseError | None:
        """What a request fails with whose owner holds everything that can be leased here."""
        return self._deadlocks.find(owner, origin)

    # Deciding

    def _decide(self) -> None:
        """After any event: hand out what is ready, fail the hopeless, connect for those who wait.

        Firing a waiter may bring the next event before this returns. It is then noted and looked
        at in the same loop: a hundred thousand waiters that each release in their callback need
        no recursion.
        """
        self._undecided = True
        if self._deciding:
            return
        self._deciding = True
        try:
            while self._undecided and self._lifecycle.serves:
                self._undecided = False
                self._hand_out()
                if self._record.attempts.last_error is not None:
                    self._fail_hopeless()
                if len(self.connections.all) < self._record.limit:
                    self._connect_more()
                if not self._undecided:
                    self.placements.tell()
        finally:
            self._deciding = False
        if not self._lifecycle.serves:
            self.placements.tell()

    def wants_connection(self) -> bool:
        """Whether one more connection would be of use, and an attempt is due."""
        return (
            self._lifecycle.serves
            and len(self.connections.all) < self._record.limit
            and not self._connector.unpaid
            and len(self.connections.connecting) < self._wanted()
            and self._connector.due_in() <= 0
        )

    def _connect_more(self) -> None:
        while self.wants_connection():
            if not self._record.grant(self):
                return
            self._connector.connect()
        connector = self._connector
        is_early = connector.due_in() > 0
        if (is_early or connector.unpaid) and self._lifecycle.serves and self._wanted() > 0:
            self._record.want(self)  # a sibling's success may bring it forward
        else:
            self._record.want_no_more(self)

    def _fail_hopeless(self) -> None:
        """Fail those whom, until the next attempt is due, nothing can serve."""
        connections, connector = self.connections, self._connector
        if connections.connecting:
            return
        if connector.unpaid and not connections.leased():
            connector.pay()
            self._give_up_first()
        while self.demand() and self._policy.fail_fast:
            if connector.due_in() <= 0 or connections.leased():
                return
            self._give_up_first()

    def _give_up_first(self) -> None:
        """Give up on who has waited here for longest."""
        error = self._connector.error()
        own = next(iter(self.waiting), None)
        placed = next(iter(self.placements.waiters), None)
        if placed is not None and (own is None or placed.order < own.order):
            self.placements.give_up(placed, error)
        elif own is not None:
            self.fail(own, error)

    def _come_home(self, connection: Connection[P]) -> None:
        """Take back a connection that nobody has any more."""
        if self._record.shrinking.is_above():
            self.connections.close(connection, Why.RESIZED)
        elif self._record.wanting and self._record.claims(self):
            self.connections.close(connection, Why.DISPLACED)
        elif not self.connections.come_home(connection):
            self.connections.close(connection, Why.UNFIT)

    def _check(self, connection: Connection[P]) -> None:
        """Run the check; if the connection passes, those who wait may have it."""
        self.connections.checking.add(connection)
        self._record.changed()
        self._hooks.check(connection).addCallback(self._was_checked, connection)

    def _was_checked(self, fit: bool, connection: Connection[P]) -> None:
        self.connections.checking.discard(connection)
        if not (fit and connection.usable()):
            stillborn = connection.stillborn() and not connection.retired
            if not fit:
                self._record.health.check_failed()
            self.connections.close(connection, Why.UNFIT, abort=True)
            if stillborn:
                error = ConnectionAbortedError("its check failed")
                # A row of checks that fail does not end with a connect: it is counted as a check.
                tell = self._connector.failed if fit else self._connector.was_useless
                tell(error, connection)
                self._record.wake()
        elif self._lifecycle.serves and self._is_asked() and not self._record.shrinking.is_above():
            # Not by way of idle: however short check_after is, it is not checked again.
            self._give(connection)
        else:
            self._come_home(connection)
        self._decide()

    # Time

    def _wake(self) -> None:
        """Do what is due, and set the alarm to what is due next."""
        if self._is_foreign:
            return
        try:
            self._do_due(self._now())
        finally:
            if not self._lifecycle.closed:
                due = min(self._lifecycle.abort_at, self._tracker.leaks_due)
                due = min(due, self._queue.next_due(), self.connections.next_due())
                self._alarm.set(due)

    def _do_due(self, now: float) -> None:
        self.connections.close_due(now)
        if now >= self._lifecycle.abort_at:
            self._shutdown.abort_all()
        self._queue.expire_due(now)
        if self.demand():
            self.connections.is_needed()
        elif now >= self.connections.vacant_until():
            self._shutdown.begin(Closed)
        if now >= self._tracker.leaks_due:
            self._look_for_leaks(now)
        self._decide()

    def _look_for_leaks(self, now: float) -> None:
        looks = self.connections.all and self._policy.leak_after is not None
        self._tracker.look_for_leaks(now, self._held() if looks else None)
        if not self._lifecycle.closed:  # as whoever was told of a leak may have seen to
            self._alarm.set(self._tracker.leaks_due)

    # What the connector and the record tell

    def connections_changed(self) -> None:
        """See who can be served now, or if all ends."""
        if self.connections.all and self._tracker.leaks_due == math.inf:
            self._look_for_leaks(self._now())
        self._decide()
        self._shutdown.end_if_empty()

    def health_changed(self) -> None:
        """Its backend is well, or not any more."""
        self._plain = self._is_plain()
        self.connections_changed()

    def limit_changed(self) -> None:
        """The backend has another limit."""
        self._most_waiters = self._policy.most_waiters(self._record.limit)
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
            self._decide()  # which may lead to its end
            self._recorder.paused()

    def resume(self) -> None:
        self._check_process()
        if self._lifecycle.resume():
            self._record.changed()
            self._recorder.resumed()
            self._decide()

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
        others = len(self.connections.all) + self._record.unused()
        slots = self._policy.slots or 1
        placed = self.placements.waiters
        return self._tracker.explain(
            self.status(),
            dict.fromkeys(self._held(), "leased") | self._busy(),
            sorted([*self.waiting, *placed], key=lambda waiter: waiter.order),
            self._record.attempts,
            shared=self._policy.slots is not None,
            checking=len(self.connections.checking),
            held_by_others=max(0, self._record.limit - others) * slots,
            siblings=len(self._record.members) - 1,
            silent=self._silent(),
        )

    def forked(self) -> None:
        """Called in a forked child: the connections are its parent's, so leave them alone."""
        self._is_foreign = True
        self._lifecycle.serves = False
        self._record.changed()
        self._alarm.clear()
        told = Forked(self._foreign())
        for connection in self.connections.all:
            connection.retired = True
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
        self._wake()
        return self.when_closed()

    def when_closed(self) -> Deferred[None]:
        return self._lifecycle.when_closed()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._numbers()} for {self.ident!r}>"

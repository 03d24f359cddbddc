"""C{BaseManager}: the life of a manager, whatever it leases: time, operation, and the end.

The mutable state of a manager is the connections of connections, the queue of waiters, the tracker
of leases, whether it is open, and whether this process is a forked child of its own; how the
attempts to connect went is in the record.
"""

from __future__ import annotations

import math
import os
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred

from kolus.backend import Backend
from kolus.backoff import Rng
from kolus.errors import Closed, Draining, LeaseError, LeaseTimeout
from kolus.events import Observer, Why
from kolus.lease import Lease, Outcome
from kolus.manager.connections import Connections
from kolus.manager.connector import Connector
from kolus.manager.hooks import Hooks
from kolus.manager.lease_tracker import Held, LeaseTracker
from kolus.manager.lifecycle import Lifecycle
from kolus.manager.record import BackendRecord
from kolus.manager.waiters import Waiter, WaiterQueue
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
    @ivar waiting: the requests in the queue, the oldest first.
    @ivar smooth: whether nothing was out of the ordinary when it last looked, and nothing has
        changed since. Its record and its alarm clear it; the manager itself sets it again.
    """

    # What every lease needs. CPython finds it faster here than in a large C{__dict__}.
    __slots__ = (
        "__dict__",
        "_alarm",
        "_checks",
        "_feedbacks",
        "_idle",
        "_lifecycle",
        "_now",
        "_observers",
        "_plain",
        "_record",
        "_settler",
        "_shared",
        "_special",
        "_wanting",
        "_watchers",
        "connections",
        "counters",
        "ident",
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
        self._alarm = Alarm(reactor, self._wake)
        self.connections = connections = Connections[P](reactor, record, policy, self._alarm)
        self._connector = Connector(
            self, reactor, protocol, policy, rng, connections, record, hooks, recorder
        )
        self._waiters: WaiterQueue[Lease[P]] = WaiterQueue(
            *(reactor, policy.acquire_timeout, self._timed_out, self._alarm),
            arrivals=record.arrivals,
            changed=record.changed,
            removed=self._waiter_left,
        )
        self._tracker = LeaseTracker(policy, recorder, reactor.seconds, self._settle)
        self._deciding = self._undecided = False
        self._lifecycle = Lifecycle()
        self._process = os.getpid()
        self._is_foreign = False

        # What every lease needs, at hand.
        self._now = reactor.seconds
        self._wanting = record.wanting
        self._shared = record.shared_by(ident)
        self._watchers = record.watchers
        self._feedbacks = record.feedbacks
        self._debug = policy.debug
        self._special = policy.debug or policy.min_idle > 0
        self._checks = hooks.checks
        self._plain = self._is_plain()
        self._idle = connections.idle
        self.waiting = self._waiters.waiting
        self._most_waiters = policy.most_waiters(record.limit)
        self._settler = self._settle
        self.smooth = False

        record.join(self)
        self._alarm.set(connections.vacant_until())  # it may never have a connection
        after_fork(self)

    def _is_plain(self) -> bool:
        """Whether a release is nothing but the next lessee's turn."""
        policy = self._policy
        return policy.reset is None and policy.max_uses is None and self._record.health.is_well

    def _is_smooth(self) -> bool:
        """Whether a lease and a release change nothing but the connection and two counters."""
        told = self._special or self._observers or self._watchers or self._feedbacks
        asked = self._shared or self.waiting or self._wanting
        if told or asked or self._checks or not (self._plain and self._lifecycle.serves):
            return False
        return bool(self._alarm.at <= self._now() + self.connections.shortest_idle)

    # What the managers above this one do and know

    @abstractmethod
    def try_connect(self, ident: Hashable, owner: Owner | None = None) -> Lease[P] | None: ...

    @abstractmethod
    def status(self) -> Status: ...

    @abstractmethod
    def load(self) -> int:
        """What is leased and waits."""

    @abstractmethod
    def ready(self) -> int:
        """What is idle and can be leased."""

    def room(self) -> int:
        """How many more requests could be served without one of them waiting for a release."""
        to_come = max(0, self._record.unused()) + len(self.connections.connecting)
        return self.ready() + to_come * (self._policy.slots or 1) - len(self.waiting)

    def serves(self) -> bool:
        """Whether it gives leases now."""
        return self._lifecycle.serves

    @abstractmethod
    def _settle(self, leasable: Any, outcome: Outcome) -> None:
        """Settle a lease."""

    @abstractmethod
    def _held(self) -> Iterable[Held]:
        """What is leased."""

    @abstractmethod
    def _busy(self) -> dict[Held, str]:
        """What else the status counts as leased, and what each is doing."""

    def _silent(self) -> int:
        """How many idle connections cannot carry a lease now."""
        return 0

    @abstractmethod
    def wants_connection(self) -> bool:
        """Whether one more connection would be of use, and an attempt is due."""

    @abstractmethod
    def slots_changed(self) -> None:
        """Called by the record: a sibling has taken slots or freed some."""

    @abstractmethod
    def _level(self) -> None:
        """What it has to do has changed: tell those that share it."""

    @abstractmethod
    def _decide(self) -> None:
        """After any event: see what can be done now."""

    @abstractmethod
    def _timed_out(self, waiter: Waiter[Lease[P]]) -> LeaseTimeout:
        """What a waiter fails with whose time is over."""

    def _waiter_left(self) -> None:
        """One that was to be served waits no more."""
        self._level()
        if self._wanting and self._idle and not self.waiting:
            self._record.wake()  # what was idle for it makes way for a sibling's

    # Time

    def _wake(self) -> None:
        """Do what is due, and set the alarm to what is due next."""
        self.smooth = False  # the next release is to see that it rings
        if self._is_foreign:
            return
        try:
            self._do_due(self._now())
        finally:
            if not self._lifecycle.closed:
                due = min(self._lifecycle.abort_at, self._tracker.leaks_due)
                due = min(due, self._waiters.next_due(), self.connections.next_due())
                self._alarm.set(due)

    def _do_due(self, now: float) -> None:
        self.connections.close_due(now)
        if now >= self._lifecycle.abort_at:
            self._abort_all()
        self._waiters.expire_due(now)
        if self.waiting:
            self.connections.is_needed()
        elif now >= self.connections.vacant_until():
            self._wind_down(Closed)
        if now >= self._tracker.leaks_due:
            self._look_for_leaks(now)
        self._decide()

    def health_changed(self) -> None:
        """Called by the record: its backend is well, or not any more."""
        self._plain = self._is_plain()
        self.connections_changed()

    def is_called(self, backend: Backend) -> None:
        """Called by the record: something else is said of the backend, such as its name."""
        self.backend = self._recorder.backend = backend

    def observe(self, seconds: float) -> None:
        """Called by a connection: whoever has a lease says how long the backend took."""
        self._record.observed(seconds)

    def ownership_of(self, owner: object) -> Ownership | None:
        """Called by the record: what an owner has of this manager, if anything."""
        return self._tracker.owners.find(owner)

    def connections_changed(self) -> None:
        """Called by the connector and the record: see who can be served now, or if all ends."""
        if self.connections.all and self._tracker.leaks_due == math.inf:
            self._look_for_leaks(self._now())
        self._decide()
        self._end_if_empty()

    def _look_for_leaks(self, now: float) -> None:
        self._tracker.look_for_leaks(now, self._held() if self.connections.all else None)
        if not self._lifecycle.closed:  # as whoever was told of a leak may have seen to
            self._alarm.set(self._tracker.leaks_due)

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

    def limit_changed(self) -> None:
        """Called by the record: it has another limit."""
        self._most_waiters = self._policy.most_waiters(self._record.limit)
        self._recorder.resized(self._record.limit)
        self.connections_changed()

    def invalidate(self) -> None:
        self._check_process()
        self.connections.retire_all(Why.INVALIDATED)
        self.connections_changed()

    def explain(self) -> ManagerExplanation:
        others = len(self.connections.all) + self._record.unused()
        slots = self._policy.slots or 1
        return self._tracker.explain(
            self.status(),
            dict.fromkeys(self._held(), "leased") | self._busy(),
            self.waiting,
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
            connection.retired = connection.doubtful = True
            connection.protocol = told  # type: ignore[assignment]

    def _foreign(self) -> str:
        return f"process {os.getpid()} cannot use {self!r}: process {self._process} made it"

    def _check_process(self) -> None:
        if self._is_foreign:
            raise LeaseError(self._foreign())

    # Ending

    def drain(self) -> Deferred[None]:
        self._check_process()
        self._wind_down(Draining)
        return self.when_closed()

    def close(self, timeout: float) -> Deferred[None]:
        check_seconds("timeout", timeout, optional=False)
        self._check_process()
        self._lifecycle.abort_by(self._now() + timeout)
        self._wind_down(Closed)
        self._wake()
        return self.when_closed()

    def when_closed(self) -> Deferred[None]:
        return self._lifecycle.when_closed()

    def _wind_down(self, refusal: type[Draining] | type[Closed]) -> None:
        """Take no more requests, and close everything that nobody has."""
        if not self._lifecycle.end(refusal):
            self._end_if_empty()  # or it would be due for ever, if a clock rings amid its end
            return
        self._record.changed()
        self.connections.retire_all(Why.CLOSED)
        for connection in tuple(self.connections.checking):
            self.connections.close(connection, Why.CLOSED)
        while self.waiting:
            self._waiters.fail_first(refusal(f"{self!r} gives no new leases"))
        self._end_if_empty()

    def _abort_all(self) -> None:
        """The time to settle is over."""
        self._lifecycle.abort_at = math.inf
        for held in self._held():
            self._recorder.still_held(self._now() - held.since, held.origin)
        for connection in tuple(self.connections.all):
            self.connections.close(connection, Why.CLOSED, abort=True)

    def _end_if_empty(self) -> None:
        lifecycle = self._lifecycle
        if lifecycle.refusal is not None and not self.connections.all and not lifecycle.closed:
            self._alarm.clear()
            self._record.leave(self)
            lifecycle.has_closed()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.status()} for {self.ident!r}>"

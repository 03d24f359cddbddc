"""C{ConnectionManager}: the connections of one backend for one ident, leased one lessee each.

The mutable state is the roster of connections, the queue of waiters, how the attempts to connect
went (the connector's), and whether the manager is open. C{_decide} alone looks at all of them.
"""

from __future__ import annotations

import math
import random
import traceback
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from kolus.alarm import Alarm
from kolus.backend import Backend, Status
from kolus.backoff import Rng
from kolus.connection import Connection
from kolus.connection_state import CONNECTING, IDLE, LEASED
from kolus.connector import Connector
from kolus.counters import Counters
from kolus.errors import (
    Closed,
    Draining,
    KolusError,
    LeaseTimeout,
    PoolFull,
    WrongIdent,
)
from kolus.events import Observer
from kolus.hooks import Hooks
from kolus.interfaces import IKolusManager
from kolus.journal import Journal
from kolus.lease import FINISHED, FORGOTTEN, Lease, Outcome
from kolus.lifecycle import Lifecycle
from kolus.policy import Policy, check_seconds
from kolus.roster import Roster
from kolus.waiters import Waiter, WaiterQueue

__all__ = ["ConnectionManager"]

P = TypeVar("P")


@implementer(IKolusManager)
class ConnectionManager(Generic[P]):
    """Leases the connections of one backend, each to one lessee at a time.

    @ivar backend: where to.
    @ivar ident: whom for.
    @ivar limit: most connections at any time: idle, leased, being made and being closed.
    @ivar counters: what has happened so far.
    """

    def __init__(
        self,
        reactor: Any,
        protocol: Callable[[], P],
        backend: Backend,
        ident: Hashable,
        policy: Policy | None = None,
        *,
        observers: list[Observer] | None = None,
        counters: Counters | None = None,
        rng: Rng = random,
    ) -> None:
        """
        @param reactor: what connects; any clock is enough for a backend made from an endpoint.
        @param protocol: makes the protocol of each connection.
        @param observers: a live list of whom to tell about events.
        @param counters: where to count; new ones if C{None}.
        @param rng: where the jitter comes from.
        @raise ValueError: the backend's endpoint string is of no use to this reactor.
        """
        self.backend = backend
        self.ident = ident
        self._policy = policy = Policy() if policy is None else policy
        self.limit = policy.limit if backend.limit is None else backend.limit
        self._clock = reactor
        self._call_soon = getattr(reactor, "callFromThread", None) or partial(reactor.callLater, 0)
        self.counters = Counters() if counters is None else counters
        self._observers = [] if observers is None else observers
        self._journal = journal = Journal(backend, ident, self.counters, self._observers)
        self._hooks = hooks = Hooks(policy, journal)
        self._alarm = Alarm(reactor, self._wake)
        self._roster = roster = Roster[P](reactor, self.limit, policy, self._alarm)
        self._connector = Connector(self, reactor, protocol, policy, rng, roster, hooks, journal)
        self._waiters: WaiterQueue[Lease[P]] = WaiterQueue(
            reactor, policy.acquire_timeout, self._timed_out
        )
        self._deciding = self._undecided = False
        self._lifecycle = Lifecycle()

        # What every lease needs, at hand.
        self._idle = roster.idle
        self._waiting = self._waiters.waiting
        self._most_waiters = policy.most_waiters(self.limit)
        self._settler = self._settle

    # IKolusManager

    def connect(self, ident: Hashable, timeout: float | None = None) -> Deferred[Lease[P]]:
        if timeout is not None:
            check_seconds("timeout", timeout)
        try:
            lease = self.try_connect(ident)
        except KolusError:
            return fail()
        if lease is not None:
            return succeed(lease)
        beyond = len(self._waiting) - self._most_waiters
        if beyond >= 0 and beyond >= self._roster.coming():
            self._journal.rejected(full := PoolFull(f"{self.status()}: as many wait as may"))
            return fail(full)
        waiter = self._waiters.append(timeout)
        if self._policy.debug:
            waiter.origin = _stack()
        self._connector.unpaid = False
        self._decide()
        return waiter

    def try_connect(self, ident: Hashable) -> Lease[P] | None:
        if not self._lifecycle.serves or ident != self.ident:
            self._refuse(ident)
            return None
        if not self._idle or self._waiting:
            return None
        if self._hooks.checks and self._hooks.is_stale(self._roster.next_idle()):
            return None
        connection = self._roster.take()
        return None if connection is None else self._lease(connection)

    def status(self) -> Status:
        roster = self._roster
        return Status(
            backend=self.backend,
            manager=self,
            ident=self.ident,
            idle=len(roster.idle),
            leased=roster.leased(),
            connecting=len(roster.connecting),
            unused=max(0, roster.unused()),
            waiting=len(self._waiting),
            limit=self.limit,
            state=self._lifecycle.state(),
        )

    def pause(self) -> None:
        self._lifecycle.pause()
        self._alarm.set(self._roster.vacant_until())

    def resume(self) -> None:
        self._lifecycle.resume()
        self._decide()

    def drain(self) -> Deferred[None]:
        self._wind_down(Draining)
        return self.when_closed()

    def close(self, timeout: float) -> Deferred[None]:
        check_seconds("timeout", timeout, optional=False)
        self._lifecycle.abort_by(self._clock.seconds() + timeout)
        self._wind_down(Closed)
        self._wake()
        return self.when_closed()

    def when_closed(self) -> Deferred[None]:
        return self._lifecycle.when_closed()

    # Leases

    def _lease(self, connection: Connection[P], origin: str | None = None) -> Lease[P]:
        connection.lease(self._clock.seconds())
        if self._policy.debug:
            connection.origin = origin or _stack()
        self.counters.leases += 1
        if self._observers:
            self._journal.leased(connection)
        return Lease(connection, self._settler)

    def _settle(self, connection: Connection[P], outcome: Outcome) -> None:
        if outcome is FORGOTTEN:
            self._call_soon(self._reclaim, connection)
        elif outcome is FINISHED or not connection.usable():
            self._roster.close(connection)
            self._journal.finished(connection)
        else:
            self.counters.releases += 1
            held = connection.in_state_for() if self._observers else 0.0
            if self._hooks.resets:
                self._hooks.reset(connection).addCallback(self._was_reset, connection)
            else:
                self._roster.come_home(connection)
            if self._observers:
                self._journal.released(held)
            if self._waiting:
                self._decide()

    def _reclaim(self, connection: Connection[P]) -> None:
        self._journal.forgotten(connection)
        self._roster.close(connection)

    # Deciding

    def _decide(self) -> None:
        """After any event: hand out what is idle, connect for those who wait, fail the hopeless.

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
                self._fail_hopeless()
                self._connect_more()
        finally:
            self._deciding = False

    def _hand_out(self) -> None:
        roster, is_stale = self._roster, self._hooks.is_stale
        while self._waiting and self._idle and self._lifecycle.serves:
            stale = self._hooks.checks and is_stale(roster.next_idle())
            to_check = stale and len(roster.checking) < len(self._waiting)
            if stale and not to_check and is_stale(roster.freshest_idle()):
                return
            connection = roster.take(freshest=stale and not to_check)
            if connection is None:
                return
            if to_check:
                roster.checking.add(connection)
                self._hooks.check(connection).addCallback(self._was_checked, connection)
            else:
                self._serve(connection)

    def _serve(self, connection: Connection[P]) -> None:
        waiter = self._waiters.popleft()
        lease = self._lease(connection, waiter.origin)
        if waiter.called:  # an observer has cancelled it just now
            lease.release()
        else:
            waiter.callback(lease)

    def _was_checked(self, fit: bool, connection: Connection[P]) -> None:
        self._roster.checking.discard(connection)
        if not (fit and connection.usable()):
            self._roster.close(connection, abort=True)
            if connection.stillborn():
                self._connector.failed(ConnectionAbortedError("its check failed"), connection)
        elif self._waiting and self._lifecycle.serves:
            # Not by way of idle: however short check_after is, it is not checked again.
            self._serve(connection)
        else:
            self._roster.come_home(connection)
        self._decide()

    def _was_reset(self, fit: bool, connection: Connection[P]) -> None:
        if fit and connection.usable():
            self._roster.come_home(connection)
        else:
            self._roster.close(connection, abort=True)
        self._decide()

    def _connect_more(self) -> None:
        roster = self._roster
        while self._lifecycle.serves and roster.unused() > 0 and not self._connector.unpaid:
            wanted = len(self._waiting) - len(roster.checking) + self._policy.min_idle
            at_a_time = self._connector.at_a_time()
            if len(roster.connecting) >= min(at_a_time, wanted - len(roster.idle)):
                return
            if self._connector.due_in() > 0:
                self._alarm.set(self._connector.due_at)
                return
            self._connector.connect()

    def _fail_hopeless(self) -> None:
        """Fail those whom, until the next attempt is due, nothing can serve."""
        roster, connector = self._roster, self._connector
        if roster.connecting or connector.last_error is None:
            return
        if connector.unpaid and not roster.leased():
            connector.unpaid = False
            if self._waiting:
                self._waiters.popleft().errback(connector.error())
        while self._waiting and self._policy.fail_fast:
            if connector.due_in() <= 0 or roster.leased():
                return
            self._waiters.popleft().errback(connector.error())

    def connections_changed(self) -> None:
        """Called by the connector: see who can be served now, or whether all are gone."""
        self._decide()
        self._end_if_empty()

    # Time

    def _timed_out(self, waiter: Waiter[Lease[P]]) -> LeaseTimeout:
        waited = self._clock.seconds() - waiter.since
        self._journal.timed_out(waited)
        return LeaseTimeout(self.status(), waited, self._connector.last_error)

    def _wake(self) -> None:
        """Do what is due, and set the alarm to what is due next."""
        now = self._clock.seconds()
        roster = self._roster
        for connection in roster.pop_slow(now):
            connection.abort()
        for connection in roster.retire(now):
            self._roster.close(connection)
        if now >= self._lifecycle.abort_at:
            self._abort_all()
        if self._waiting:
            roster.is_needed()
        elif now >= roster.vacant_until():
            self._wind_down(Closed)
        self._decide()
        if not self._lifecycle.closed:
            self._alarm.set(min(self._lifecycle.abort_at, roster.next_due()))

    # Ending

    def _refuse(self, ident: Hashable) -> None:
        """Raise what a request for C{ident} is refused with, if it is."""
        if self._lifecycle.refusal is not None:
            error: KolusError = self._lifecycle.refusal(f"{self!r} gives no new leases")
        elif ident != self.ident:
            error = WrongIdent(f"{self!r} serves no other ident, not {ident!r}")
        else:
            return
        self._journal.rejected(error)
        raise error

    def _wind_down(self, refusal: type[Draining] | type[Closed]) -> None:
        """Take no more requests, and close everything that nobody has."""
        if not self._lifecycle.end(refusal):
            return
        for connection in tuple(self._roster.all):
            connection.retired = True
            if connection.state in (CONNECTING, IDLE) or connection in self._roster.checking:
                self._roster.close(connection)
        while self._waiting:
            self._waiters.popleft().errback(refusal(f"{self!r} gives no new leases"))
        self._end_if_empty()

    def _abort_all(self) -> None:
        """The time to settle is over."""
        self._lifecycle.abort_at = math.inf
        for connection in tuple(self._roster.all):
            if connection.state is LEASED:
                self._journal.still_held(connection)
            self._roster.close(connection, abort=True)

    def _end_if_empty(self) -> None:
        lifecycle = self._lifecycle
        if lifecycle.refusal is not None and not self._roster.all and not lifecycle.closed:
            self._alarm.clear()
            lifecycle.has_closed()

    def __repr__(self) -> str:
        return f"<ConnectionManager of {self.status()} for {self.ident!r}>"


def _stack() -> str:
    """Where the caller of the manager is."""
    return "".join(traceback.format_stack(limit=12)[:-2])

"""C{LeasingManager}: takes requests and decides who is served, whatever a lease is.

C{_decide} alone hands out, connects and gives up on waiters; what is ready to be leased, and what
a lease's settling does, is up to the managers above this one. Besides its own queue a manager
serves the ones that it shares with other backends' managers, in the order in which all came.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable
from typing import TypeVar

from twisted.internet.defer import Deferred, fail

from kolus.errors import KolusError, LeaseTimeout, PoolFull, WrongIdent
from kolus.events import Why
from kolus.lease import Leasable, Lease
from kolus.manager.connection import Connection
from kolus.manager.shared_queue import SharedQueue
from kolus.manager.sharing_manager import SharingManager
from kolus.manager.waiters import Choose, Tried, Waiter
from kolus.support import check_seconds, fired
from kolus.watching import Owner, Ownership

__all__ = ["LeasingManager"]

P = TypeVar("P")


class LeasingManager(SharingManager[P]):
    """Serves requests in the order they come."""

    @abstractmethod
    def _hand_out(self) -> None:
        """Serve those who wait, as far as something is ready for them."""

    @abstractmethod
    def _give(self, connection: Connection[P]) -> None:
        """Serve those who wait with a connection that was just checked."""

    @abstractmethod
    def _wanted(self) -> int:
        """How many connections ought to be in the making."""

    @abstractmethod
    def _capacity(self) -> int:
        """How many leases can be out at a time."""

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
            return self.enqueue(timeout, owner)
        except KolusError:
            return fail()

    def enqueue(
        self,
        timeout: float | None,
        owner: Owner | None,
        shared: SharedQueue | None = None,
        choose: Choose | None = None,
        tried: Tried | None = None,
    ) -> Waiter[Lease[P]]:
        """Queue a request that nothing is ready for.

        @param shared: what it is to wait in besides.
        @param choose: chooses another backend of those that share it.
        @param tried: where it could not be queued.
        @raise PoolFull: as many wait as may.
        @raise LeaseError: as C{connect} fails.
        """
        ownership = None if owner is None else self._tracker.ownership(owner)
        origin = self._tracker.origin(ownership) if self._debug or ownership is not None else None
        if ownership is not None:
            error = self._deadlock(ownership, origin, shared)
            if error is not None:
                raise error
        beyond = len(self.waiting) - self._most_waiters
        if beyond >= 0 and beyond >= self._coming():
            self._recorder.rejected(full := PoolFull(f"{self.status()}: as many wait as may"))
            raise full
        waiter = self._waiters.append(timeout)
        if origin is not None:
            waiter.origin = origin
        if ownership is not None:
            waiter.ownership = ownership
            ownership.wait(waiter)
        if shared is not None:
            shared.joined(waiter, self, choose, tried)
        self._connector.pay()
        if self._shared or self._idle or len(self.connections.all) < self._record.limit:
            self._decide()
        return waiter

    def accepts(self, ident: Hashable) -> bool:
        """Whether a request for C{ident} is not refused."""
        return self._lifecycle.refusal is None and ident == self.ident

    def refuse(self, ident: Hashable) -> None:
        """Raise what a request for C{ident} is refused with, if it is."""
        self._check_process()
        if self._lifecycle.refusal is not None:
            error: KolusError = self._lifecycle.refusal(f"{self!r} gives no new leases")
        elif ident != self.ident:
            error = WrongIdent(f"{self.status()} belongs to another ident than {ident!r}")
        else:
            return
        self._recorder.rejected(error)
        raise error

    # Leases

    def _lease_specially(self, leasable: Leasable[P], ownership: Ownership | None) -> Lease[P]:
        """Lease what was ready at once, and see to the head-room."""
        lease = self._tracker.lease(leasable, ownership, self._tracker.origin(ownership), 0.0)
        if self._policy.min_idle:
            self._decide()
        return lease

    def _serve(self, leasable: Leasable[P]) -> None:
        """Give the oldest waiter its lease."""
        waiter = self._take_oldest() if self._shared else self._waiters.popleft()
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
            self._fail_deadlocked(waiter.ownership)

    def _fail_deadlocked(self, ownership: Ownership) -> None:
        """Fail the waiters of an owner that now holds everything they could ever get, here and
        where others wait that this manager may serve."""
        self._fail_deadlocked_here(ownership)
        for queue in tuple(self._shared):
            queue.fail_deadlocked(ownership.owner)

    def fail_deadlocked(self, owner: Owner) -> None:
        ownership = self.ownership_of(owner)
        if ownership is not None:
            self._fail_deadlocked_here(ownership)

    def _fail_deadlocked_here(self, ownership: Ownership) -> None:
        # Going over the waiters of one who has very many, after each lease, would take too long.
        if not ownership.waiters or self._deadlock(ownership, None, None) is None:
            return
        for waiter in tuple(ownership.waiters):
            assert isinstance(waiter, Waiter)
            if waiter in self.waiting:
                error = self._deadlock(ownership, waiter.origin, waiter.shared)
                if error is not None:
                    self._waiters.remove(waiter)
                    waiter.fail(error)

    def _deadlock(
        self, ownership: Ownership, origin: str | None, shared: SharedQueue | None
    ) -> KolusError | None:
        owner = ownership.owner
        if shared is not None and owner is not None and not shared.is_all_held_by(owner):
            return None
        ownerships = [ownership]
        if self._policy.slots is None:  # else a sibling's lease is not all of its connection
            siblings = [each for each in self._record.members if each is not self]
            ownerships += [
                held
                for each in siblings
                if (held := each.ownership_of(ownership.owner)) is not None
            ]
        return self._tracker.deadlock(ownerships, self._capacity(), self, origin)

    def is_all_held_by(self, owner: Owner) -> bool:
        ownership = self.ownership_of(owner)
        return ownership is not None and self._deadlock(ownership, None, None) is not None

    def _fail_newly_deadlocked(self) -> None:
        """There is less to lease than before: it may be all in the hands of one who waits."""
        if self.waiting:
            for ownership in self._tracker.owners:
                self._fail_deadlocked(ownership)

    def limit_changed(self) -> None:
        super().limit_changed()
        self._fail_newly_deadlocked()

    def invalidate(self) -> None:
        super().invalidate()
        self._fail_newly_deadlocked()

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
                    self._level()
        finally:
            self._deciding = False
        if not self._lifecycle.serves:
            self._level()

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
            if is_early:
                self._alarm.set(self._record.attempts.due_at)
        else:
            self._record.wanting.pop(self, None)

    def _fail_hopeless(self) -> None:
        """Fail those whom, until the next attempt is due, nothing can serve."""
        connections, connector = self.connections, self._connector
        if connections.connecting:
            return
        if connector.unpaid and not connections.leased():
            connector.pay()
            if self.waiting:
                self._waiters.fail_first(connector.error())
        while self.waiting and self._policy.fail_fast:
            if connector.due_in() <= 0 or connections.leased():
                return
            self._waiters.fail_first(connector.error())

    def _come_home(self, connection: Connection[P]) -> None:
        """Take back a connection that nobody has any more."""
        if self._record.wanting and self._record.claims(self):
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
        elif self._lifecycle.serves and self._is_asked():
            # Not by way of idle: however short check_after is, it is not checked again.
            self._give(connection)
        else:
            self._come_home(connection)
        self._decide()

    def _timed_out(self, waiter: Waiter[Lease[P]]) -> LeaseTimeout:
        waited = self._now() - waiter.since
        self._recorder.timed_out(waited)
        error = self._record.attempts.last_error
        tried = None if waiter.shared is None else waiter.shared.failures(waiter)
        return LeaseTimeout(self.status(), waited, error, tried)

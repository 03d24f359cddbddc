"""C{Admission}: takes requests into a manager's queue, or refuses them.

Its state is the queue of those who want a connection that was never leased, from the first of them
on.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kolus.errors import KolusError, LeaseTimeout, PoolFull, WrongIdent, pool_is_full
from kolus.manager.fresh_queue import FreshQueue

if TYPE_CHECKING:
    from kolus.backend import AnyBackend
    from kolus.lease import Lease
    from kolus.manager.base import BaseManager
    from kolus.manager.queue import Waiter, WaiterQueue
    from kolus.watching import Owner, Ownership

__all__ = ["Admission"]

P = TypeVar("P")


class Admission(Generic[P]):
    """Decides which requests may wait at one manager, in its own queue or placed by a group."""

    def __init__(self, manager: BaseManager[P]) -> None:
        """
        @param manager: the manager, which has made its queue, record, tracker and lifecycle.
        """
        self._manager = manager
        self._queue = manager._queue
        self._record = manager._record
        self._tracker = manager._tracker
        self._recorder = manager._recorder
        self._lifecycle = manager._lifecycle
        self._deadlocks = manager.deadlocks
        self._connector = manager._connector
        self._all = manager.connections.all
        self._fresh: WaiterQueue[Lease[P]] | None = None
        self._most_waiters = manager._policy.max_waiters

    def wait(
        self, timeout: float | None, owner: Owner | None, fresh: bool = False
    ) -> Waiter[Lease[P]]:
        """Queue a request, and connect for it if that is possible.

        @param fresh: whether it wants a connection that was never leased.
        @raise PoolFull: there are as many waiters as the policy allows.
        @raise LeaseError: C{owner} has ended, or itself holds all leases that could serve it.
        """
        manager = self._manager
        if owner is None and not (fresh or manager._debug):
            if self._most_waiters is not None:
                self.check_room()
            waiter = self._queue.append(timeout)
        else:
            waiter = self._wait_noted(timeout, owner, fresh)
        self._connector.pay()
        if manager._group_queues or manager._idle or len(self._all) < self._record.limit:
            manager._dispatcher.decide()
        return waiter

    def _wait_noted(
        self, timeout: float | None, owner: Owner | None, fresh: bool
    ) -> Waiter[Lease[P]]:
        """The same for a request of which it is noted whose it is, where it is made, or that it
        wants a fresh connection."""
        ownership = None if owner is None else self._tracker.ownership(owner)
        origin = self.origin(ownership)
        if ownership is not None:
            error = self._deadlocks.find(ownership.owner, origin)
            if error is not None:
                raise error
        self.check_room()
        queue = self._fresh_queue() if fresh else self._queue
        waiter = queue.append(timeout)
        waiter.origin = origin
        if ownership is not None:
            waiter.ownership = ownership
            ownership.wait(waiter)
        if fresh and waiter.queue is queue:  # the owner may have ended just now
            self._manager.placements.add(waiter)
        return waiter

    def _fresh_queue(self) -> WaiterQueue[Lease[P]]:
        if self._fresh is None:  # few managers are ever asked for a fresh connection
            self._fresh = FreshQueue(self._manager)
        return self._fresh

    def came(self) -> None:
        """A request waits in the manager's own queue."""
        self._manager.smooth = False
        self._record.noted += 1
        if self._manager._watchers:
            self._record.tell_watchers()

    def left(self) -> None:
        """A request has left that queue, and was not served."""
        if not self._lifecycle.closed:  # else it counts here no more
            self._record.noted -= 1
        if self._manager._watchers:
            self._record.tell_watchers()
        if not self._manager.passes_on:  # else nobody wants to hear of it
            self._manager.demand_fell()

    def origin(self, ownership: Ownership | None) -> str | None:
        """The place in the program that makes the current request; C{None} if it is not needed
        later, for want of an owner or of debug mode."""
        return (
            self._tracker.origin(ownership)
            if self._manager._debug or ownership is not None
            else None
        )

    def check_room(self) -> None:
        """Refuse a request if there are as many waiters as the policy allows.

        @raise PoolFull: there are.
        """
        most = self._most_waiters
        if most is None:
            return
        beyond = self._manager.demand() - most
        if beyond >= 0 and beyond >= self._manager._coming():
            error = PoolFull(
                f"{self._manager._numbers()} is full: max_waiters={most} lets no more requests wait"
                + pool_is_full(self._record.binding_pool_limit())
            )
            self._recorder.rejected(error)
            raise error

    def accepts(self, ident: Hashable) -> bool:
        """Whether the manager takes requests of C{ident}."""
        return self._lifecycle.refusal is None and ident == self._manager.ident

    def refuse(self, ident: Hashable) -> None:
        """Raise what a request for C{ident} is refused with, if it is."""
        self._manager.process.check()
        if self._lifecycle.refusal is not None:
            error: KolusError = self._lifecycle.refusal(f"{self._manager!r} gives no new leases")
        elif ident != self._manager.ident:
            error = WrongIdent(self._wrong_ident(ident))
        else:
            return
        self._recorder.rejected(error)
        raise error

    def _wrong_ident(self, ident: Hashable) -> str:
        if self._manager._policy.idents != "reject":
            return (
                f"this manager of {self._manager.backend} belongs to another ident than {ident!r}; "
                "ask the pool for the backend, which has a manager for each ident"
            )
        return (
            f"{self._manager.backend} belongs to another ident than {ident!r} while it has a "
            "manager, because the policy has idents='reject'; with 'separate', the default, each "
            "ident gets connections of its own, and with 'replace' the newest ident takes over"
        )

    def cancelled(self, waiter: Waiter[Any]) -> None:
        """A waiter of the manager's queue, or one that was placed here, was cancelled."""
        self._recorder.cancelled(self._manager._now() - waiter.since)

    def timed_out(
        self, waiter: Waiter[Any], tried: Mapping[AnyBackend, BaseException] | None = None
    ) -> LeaseTimeout:
        """The error of a waiter whose time is over, of the manager's queue or placed here.

        @param tried: the other backends that could not serve it, and why.
        """
        waited = self._manager._now() - waiter.since
        self._recorder.timed_out(waited)
        return LeaseTimeout(
            *(self._manager._numbers(), waited, self._record.attempts.last_error, tried),
            pool_limit=self._record.binding_pool_limit(),
        )

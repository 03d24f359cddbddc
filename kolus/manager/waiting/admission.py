"""C{Admission}: takes requests into a manager's queue, or refuses them.

Its state is the queue of those who want a connection that was never leased, from the first of them
on, and the calls of C{warm}.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.defer import Deferred

from kolus.errors import KolusError, LeaseTimeout, PoolFull, WrongIdent, pool_is_full
from kolus.manager.connections.warming import Warming
from kolus.manager.waiting.fresh_queue import FreshQueue

if TYPE_CHECKING:
    from kolus.backend import AnyBackend
    from kolus.lease import Lease
    from kolus.manager.base import BaseManager
    from kolus.manager.waiting.queue import Waiter, WaiterQueue
    from kolus.watching import Owner, Ownership

__all__ = ["Admission"]

P = TypeVar("P")


class Admission(Generic[P]):
    """Decides which requests may wait at one manager, in its own queue or placed by a group.

    @ivar warming: the calls of C{warm}.
    """

    def __init__(self, manager: BaseManager[P]) -> None:
        self._manager = manager
        self._fresh: WaiterQueue[Lease[P]] | None = None
        self._most_waiters = manager.policy.max_waiters
        self.warming = Warming(manager)

    def wait(
        self, timeout: float | None, owner: Owner | None, fresh: bool = False
    ) -> Waiter[Lease[P]]:
        """Queue a request, and connect for it if that is possible.

        @param fresh: whether it wants a connection that was never leased.
        @raise PoolFull: there are as many waiters as the policy allows.
        @raise LeaseError: C{owner} has ended, or itself holds all leases that could serve it.
        """
        manager = self._manager
        if owner is None and not (fresh or manager.policy.debug):
            if self._most_waiters is not None and manager.demand() >= self._most_waiters:
                self.check_room()
            waiter = manager.queue.append(timeout)
            self._came()
        else:
            waiter = self._wait_noted(timeout, owner, fresh)
        manager.connector.allow_next()
        connections = manager.connections
        if manager.groups.joined or connections.idle or len(connections.all) < manager.record.limit:
            manager.dispatcher.decide()
        return waiter

    def _wait_noted(
        self, timeout: float | None, owner: Owner | None, fresh: bool
    ) -> Waiter[Lease[P]]:
        """The same for a request with an owner or for a fresh connection, and for any request in
        debug mode."""
        manager = self._manager
        ownership = None if owner is None else manager.tracker.ownership(owner)
        origin = self.origin(ownership)
        if ownership is not None:
            error = manager.deadlocks.find(ownership.owner, origin)
            if error is not None:
                raise error
        self.check_room()
        queue = self._fresh_queue() if fresh else manager.queue
        waiter = queue.append(timeout)
        if not fresh:
            self._came()
        waiter.origin = origin
        if ownership is not None:
            waiter.ownership = ownership
            ownership.wait(waiter)
        if fresh and waiter.queue is queue:  # the owner may have ended just now
            manager.placements.add(waiter)
        return waiter

    def _fresh_queue(self) -> WaiterQueue[Lease[P]]:
        manager = self._manager
        if self._fresh is None:  # few managers are ever asked for a fresh connection
            self._fresh = FreshQueue(manager)
        return self._fresh

    def _came(self) -> None:
        """A request waits in the manager's own queue."""
        manager = self._manager
        manager.smooth = False
        load = manager.record.load
        load.noted += 1
        if load.sole is None:
            load.stale[manager] = None
        if manager.record.watchers:
            manager.record.tell_watchers()

    def left(self) -> None:
        """A request has left that queue, and was not served."""
        manager = self._manager
        if not manager.lifecycle.closed:  # else it does not count here any more
            load = manager.record.load
            load.noted -= 1
            if load.sole is None:
                load.stale[manager] = None
        if manager.record.watchers:
            manager.record.tell_watchers()
        if not manager.passes_on:  # else nobody waits for room here
            manager.demand_fell()

    def origin(self, ownership: Ownership | None) -> str | None:
        """The place in the program that makes the current request. C{None} if it has no owner, and
        debug mode is off: the place is not needed later then."""
        tracker = self._manager.tracker
        is_asked = self._manager.policy.debug or ownership is not None
        return tracker.origin(ownership) if is_asked else None

    def check_room(self) -> None:
        """Refuse a request if there are as many waiters as the policy allows.

        @raise PoolFull: there are.
        """
        manager = self._manager
        most = self._most_waiters
        if most is None:
            return
        beyond = manager.demand() - most
        if beyond >= 0 and beyond >= manager.supply.coming():
            error = PoolFull(
                f"{manager.supply.numbers()} is full: max_waiters={most} lets no more requests wait"
                + pool_is_full(manager.record.room.binding_pool_limit())
            )
            manager.recorder.rejected(error)
            raise error

    def warm(self, ident: Hashable, count: int, timeout: float | None) -> Deferred[None]:
        """See C{Pool.warm}.

        @raise WrongIdent: the manager belongs to another ident.
        @raise Draining: it gives no new leases.
        @raise Closed: it is closed or closing.
        """
        self.refuse(ident)
        return self.warming.ask(count, timeout)

    def accepts(self, ident: Hashable) -> bool:
        """Whether the manager takes requests of C{ident}."""
        manager = self._manager
        return manager.lifecycle.refusal is None and ident == manager.ident

    def refuse(self, ident: Hashable) -> None:
        """Raise what a request for C{ident} is refused with, if it is."""
        manager = self._manager
        manager.process.check()
        if manager.lifecycle.refusal is not None:
            error: KolusError = manager.lifecycle.refusal(f"{manager!r} gives no new leases")
        elif ident != manager.ident:
            error = WrongIdent(self._wrong_ident(ident))
        else:
            return
        manager.recorder.rejected(error)
        raise error

    def _wrong_ident(self, ident: Hashable) -> str:
        manager = self._manager
        if manager.policy.idents != "reject":
            return (
                f"this manager of {manager.backend} belongs to another ident than {ident!r}; "
                "ask the pool for the backend, which has a manager for each ident"
            )
        return (
            f"{manager.backend} belongs to another ident than {ident!r} while it has a "
            "manager, because the policy has idents='reject'; with 'separate', the default, each "
            "ident gets connections of its own, and with 'replace' the newest ident takes over"
        )

    def cancelled(self, waiter: Waiter[Any]) -> None:
        """A waiter of the manager's queue, or one that was placed here, was cancelled."""
        manager = self._manager
        manager.counters.cancels += 1
        if manager.observers:
            manager.recorder.cancelled(manager.now() - waiter.since)

    def has_coming(self, waiter: Waiter[Any]) -> bool:
        """Whether a connection is being made, checked or reset here, or may be made as soon as
        another is gone, for a waiter of the manager's queue, or one that is placed here."""
        manager = self._manager
        is_made_ready = bool(manager.connections.connecting) or manager.hooks.under_way > 0
        return is_made_ready or manager.record.room.to_come() > 0

    def timed_out(
        self, waiter: Waiter[Any], tried: Mapping[AnyBackend, BaseException] | None = None
    ) -> LeaseTimeout:
        """The error of a waiter whose time is over, of the manager's queue or placed here.

        @param tried: the other backends that could not serve it, and why.
        """
        manager, record = self._manager, self._manager.record
        waited = manager.now() - waiter.since
        manager.recorder.timed_out(waited)
        attempts, failed = record.attempts, manager.hooks.last_failure
        _, hook, hook_error = failed if failed and failed[0] >= waiter.since else (0, None, None)
        return LeaseTimeout(
            manager.supply.numbers(),
            waited,
            attempts.last_error,
            tried,
            but=attempts.but,
            hook=hook,
            hook_error=hook_error,
            pool_limit=record.room.binding_pool_limit(),
            of_others=record.room.taken_by_others(manager),
        )

"""C{GroupQueue}: the queue of requests that any of several backends may serve.

A waiter is in this queue only. It is placed at one manager, which connects for it and counts it. If
the attempt there fails or is slow, or there is no room, it is placed at another. The placement does
not decide who serves it: a manager of these backends that has something ready serves the oldest
waiter, of this queue or of its own.

Its state is the waiters in order; C{_ready}, the managers that may have something idle;
C{_to_join}, the managers that serve the queue as soon as it has a waiter again; C{_misses}, how
often a chosen backend had nothing idle; C{_free_of_owners}, the backend that showed last that an
owner does not hold everything; and the placements, which C{Placer} keeps.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

from kolus.group.placer import Choose, Placer, has_left
from kolus.group.places import Places, Tried
from kolus.lease import Lease
from kolus.manager import Waiter, WaiterQueue
from kolus.watching import Owner, unguarded

if TYPE_CHECKING:
    from kolus.backend import Backend, Backends
    from kolus.group.servers import Servers
    from kolus.health import Panic

__all__ = ["GroupQueue"]

_MOST_NAMED = 20
_WARM_EVERY = 8
_LOOK_PAUSE = 0.0005  # seconds between looks at all backends, for each of them


class GroupQueue(WaiterQueue[Lease[Any]]):
    """The requests of one ident for the same backends.

    @ivar is_closed: whether nobody may wait here any more.
    @ivar ident: the ident.
    """

    def __init__(
        self,
        ident: Hashable,
        backends: Backends,
        servers: Servers,
        clock: IReactorTime,
        panic: Panic,
        emptied: Callable[[GroupQueue], object] | None = None,
        *,
        fresh: bool = False,
    ) -> None:
        """
        @param panic: whether ejected backends may serve.
        @param emptied: called when the last waiter has left.
        @param fresh: whether they all want connections that were never leased.
        """
        super().__init__(
            clock,
            servers.policy.acquire_timeout,
            None,
            arrivals=servers.arrivals,
            removed=self._has_left,
            hopeful=lambda waiter: waiter.placement.admission.is_hopeful(waiter),
        )
        self.ident = ident
        self.is_closed = False
        self.fresh = fresh
        self.may_serve = panic.may_serve
        self._servers = servers
        self._emptied = emptied
        self._places = Places(self, ident, backends, servers, clock)
        self._placer = placer = Placer(self, servers, self._places)
        self.refused, self.relieve = placer.refused, placer.relieve
        self.is_short, self.wants_room_at = placer.is_short, placer.wants_room_at
        self._ready: OrderedDict[Any, None] = OrderedDict()
        self._to_join: dict[Any, None] = {}
        self._misses = 0
        self._free_of_owners: tuple[Backend, ...] = ()
        self._attach()

    @property
    def backends(self) -> Backends:
        """The backends that may serve the requests, by their keys."""
        return self._places.backends

    def _attach(self) -> None:
        self._servers.index.add(self)
        for server in self._servers.of(self.ident, self.backends):
            self.manager_made(server)

    def _detach(self) -> None:
        self._servers.index.remove(self)
        self._servers.forget(self)
        self._to_join.clear()
        self._ready.clear()
        self._free_of_owners = ()

    # Requests

    def lease_ready(self, owner: Owner | None) -> Lease[Any] | None:
        """Lease an idle connection to any of the backends. C{None} if there is none, or if others
        wait.

        @raise LeaseError: C{owner} has ended.
        """
        if not (self.waiting or self.fresh):
            for server in self._idle_servers():
                lease: Lease[Any] | None = server.try_connect(self.ident, owner)
                if lease is not None:
                    return lease
        return None

    def _idle_servers(self) -> Iterator[Any]:
        """The managers that have something idle and may serve, each in turn."""
        for _ in range(len(self._ready)):
            server = next(iter(self._ready))
            if not server.has_idle():
                del self._ready[server]
                server.placements.await_idle(self)
                continue
            if self.may_serve(server.backend):
                yield server
            self._ready.move_to_end(server)

    def is_to_warm(self, chosen: Backend) -> bool:
        """Whether a chosen backend that had nothing idle should connect although another served the
        request. One in eight does. If none did, only backends with idle connections would be used,
        whatever the balancer chose. If all did, many backends would have twice the connections."""
        self._misses += 1
        return self._misses % _WARM_EVERY == 1 and self._places.has_room(chosen)

    def place_for(self, chosen: Backend) -> Backend:
        """The backend where a request should be placed: C{chosen} if it has room, else another
        with room, else C{chosen}."""
        return chosen if self._places.has_room(chosen) else self._places.next() or chosen

    def may_start(self, place: Backend) -> bool:
        """Whether a request that is to be placed at a backend may connect before it waits."""
        others = self.waiting or self.fresh or self.is_closed
        return not others and place.key in self.backends

    def wait(
        self,
        server: Any,
        timeout: float | None,
        owner: Owner | None,
        choose: Choose | None,
        tried: Tried | None = None,
    ) -> Waiter[Lease[Any]]:
        """Queue a request.

        @param server: the manager at which it is placed.
        @param choose: chooses another backend if C{server} cannot serve it.
        @param tried: the backends that could not serve it before, and why.
        @return: the waiter.
        @raise PoolFull: C{server} has the most waiters that the policy allows.
        @raise LeaseError: C{owner} has ended, or itself holds all leases that could serve it.
        """
        ownership = None
        if owner is not None:
            ownership = self._servers.index.owners.ownership(unguarded(owner))
        origin = server.admission.origin(ownership)
        if ownership is not None and self._is_all_held_by(ownership.owner, server):
            raise server.deadlocks.find(ownership.owner, origin)
        server.admission.check_room()
        waiter = self.append(timeout)
        if self.fresh:
            waiter.fresh = True
        if origin is not None:
            waiter.origin = origin
        self._placer.add(waiter, choose, tried)
        if len(self.waiting) == 1:
            joining, self._to_join = self._to_join, {}
            for each in joining:
                each.groups.join(self)
        if ownership is not None:
            waiter.ownership = ownership
            ownership.wait(waiter)
        error = self._placer.put(waiter, server)
        if error is not None:
            self._placer.refused(waiter, error)
        return waiter

    def check_idle(self) -> None:
        """If there are waiters, let the first manager with an idle connection check it."""
        if self.waiting:
            for server in self._idle_servers():
                self._ready.move_to_end(server)
                server.connections_changed()
                return

    def take(self, waiter: Waiter[Any]) -> None:
        """Remove a waiter, which a manager serves."""
        if waiter is self.head():
            self.popleft()
        else:
            self.pop(waiter)
        self._has_left(waiter)

    def _has_left(self, waiter: Waiter[Any]) -> None:
        """A waiter was served, failed or was cancelled."""
        self._placer.discard(waiter)
        self.end_if_empty()

    def end_if_empty(self) -> None:
        """If there are no waiters, call C{emptied}."""
        if not self.waiting and self._emptied is not None:
            self._emptied(self)

    def give_up(self, waiter: Waiter[Any]) -> None:
        placement = waiter.placement  # a waiter has one only as long as it waits
        super().give_up(waiter)
        if placement is not None:
            placement.admission.cancelled(waiter)

    def fail_if_deadlocked(self, waiter: Waiter[Any], owner: Owner) -> None:
        if self._is_all_held_by(owner, waiter.placement) and waiter.queue is self:
            self.fail(waiter, waiter.placement.deadlocks.find(owner, waiter.origin))

    def _is_all_held_by(self, owner: Owner | None, server: Any) -> bool:
        """Whether an owner itself holds all leases that could ever serve its request.

        @param server: the manager where it is placed.
        """
        if server.deadlocks.find_in_pool(owner, None) is not None:
            return True
        for backend in chain(self._free_of_owners, self._places.all()):
            if not self._is_held_by(owner, backend):
                self._free_of_owners = (backend,)
                return False
        return True

    def _is_held_by(self, owner: Owner | None, backend: Backend) -> bool:
        server = self._servers.find(self.ident, backend)
        return server is not None and server.deadlocks.find(owner, None) is not None

    def failures(self, waiter: Waiter[Any]) -> Tried:
        """The backends that could not serve a waiter, and why; and the last errors of up to 20
        other backends whose last attempt to connect failed."""
        tried = self._placer.tried(waiter) | self._places.refused
        failed = self._servers.last_errors(self.backends)
        others = ((backend, why) for backend, why in failed if backend not in tried)
        return tried | dict(islice(others, _MOST_NAMED))

    # Called by managers

    def manager_made(self, server: Any) -> None:
        """A manager can serve this queue from now on."""
        if not server.admission.accepts(self.ident):  # it is ending
            return
        self._ready[server] = None
        if self.waiting:
            server.groups.join(self)
        else:
            self._to_join[server] = None

    def manager_gone(self, server: Any) -> None:
        """A manager ends and never serves this queue again."""
        self._ready.pop(server, None)
        self._to_join.pop(server, None)

    def dropped(self, server: Any) -> None:
        self._to_join[server] = None

    def is_idle_at(self, server: Any) -> None:
        self._ready[server] = None

    def has_room_at(self, where: Any) -> None:
        self._places.note(where.backend)
        self._placer.place_short()

    # Changes

    def look_anew(self) -> None:
        """Something has changed that no manager tells. Look at all backends when room is needed."""
        self._places.look_anew()
        self._placer.place_short()

    def health_changed(self) -> None:
        """A backend was ejected. This may begin a panic, in which all ejected backends serve."""
        self.look_anew()
        for server in self._servers.of(self.ident, self.backends) if self.waiting else ():
            if server.placements.is_ejected() and self.may_serve(server.backend):
                server.connections_changed()

    def change(self, backends: Backends) -> None:
        """Set the backends. A waiter that was placed at one that has left is placed elsewhere."""
        self._detach()
        self._places.change(backends)
        self._attach()
        for waiter in tuple(self.waiting):
            if waiter.queue is self and waiter.placement.backend.key not in self.backends:
                placements = waiter.placement.placements
                placements.give_up(waiter, has_left(waiter.placement.backend))
        for server in self._servers.of(self.ident, self.backends) if self.waiting else ():
            if server.has_idle():
                server.connections_changed()
        self.look_anew()

    def close(self, error: Exception | None = None) -> None:
        """Remove all waiters, and leave the managers.

        @param error: the waiters fail with it. C{None}: the caller knows that there are none.
        """
        self.is_closed = True
        self._alarm.clear()
        self._detach()
        while self.waiting:
            waiter = next(iter(self.waiting))
            self.remove(waiter)
            if error is not None:
                waiter.fail(error)
        # Something may still refer to this queue for a while; it should not keep the backends.
        self._places.change({})

    # Time

    def now(self) -> float:
        """The time on the clock, in seconds."""
        return self._clock.seconds()

    def look_at(self, due: float) -> None:
        """Look for room at the time C{due}, if it is in the future.

        A look at all backends takes a time in proportion to their number. So there is a pause
        between two looks, which is in proportion, too.
        """
        now = self._clock.seconds()
        if now < due < math.inf:
            self._alarm.set(max(due, now + _LOOK_PAUSE * len(self.backends)))

    def _wake(self) -> None:
        super()._wake()
        self.look_anew()

    def _expire(self, waiter: Waiter[Lease[Any]]) -> None:
        placement, tried = waiter.placement, self.failures(waiter)
        self.remove(waiter)
        waiter.fail(placement.admission.timed_out(waiter, tried))

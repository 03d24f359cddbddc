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

from collections import OrderedDict
from collections.abc import Callable, Container, Hashable, Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

from kolus.group.placer import Choose, Placer, has_left
from kolus.group.room_finder import RoomFinder
from kolus.lease import Lease
from kolus.manager import Waiter, WaiterQueue, ask_now
from kolus.watching import Owner, unguarded

if TYPE_CHECKING:
    from kolus.backend import Backend, Backends
    from kolus.group.group_managers import GroupManagers
    from kolus.group.openings import Openings, Tried

__all__ = ["GroupQueue"]

_MOST_NAMED = 20
_WARM_EVERY = 8


class GroupQueue(WaiterQueue[Lease[Any]]):
    """The requests of one ident for the same backends.

    @ivar is_closed: whether nobody may wait here any more.
    @ivar ident: the ident.
    """

    def __init__(
        self,
        ident: Hashable,
        backends: Backends,
        group_managers: GroupManagers,
        clock: IReactorTime,
        openings: Openings,
        emptied: Callable[[GroupQueue], object] | None = None,
        *,
        fresh: bool = False,
    ) -> None:
        """
        @param openings: what all queues for these backends know of room.
        @param emptied: called when the last waiter has left.
        @param fresh: whether they all want connections that were never leased.
        """
        super().__init__(
            clock, group_managers.policy.acquire_timeout, arrivals=group_managers.arrivals
        )
        self.ident = ident
        self.is_closed = False
        self.fresh = fresh
        self.may_serve = openings.may_serve
        self.attempt_is_due = openings.attempt_is_due
        self._openings = openings
        self._group_managers = group_managers
        self._emptied = emptied
        self._room_finder = RoomFinder(self, ident, backends, group_managers, openings)
        self._placer = placer = Placer(self, group_managers, self._room_finder, openings)
        self.place_short = placer.place_short
        self.place_elsewhere, self.relieve = placer.place_elsewhere, placer.relieve
        self.unplaced, self.place_to_wait = placer.unplaced, placer.place_to_wait
        self.is_short, self.wants_room_at = placer.is_short, placer.wants_room_at
        self._ready: OrderedDict[Any, None] = OrderedDict()
        self._to_join: dict[Any, None] = {}
        self._misses = 0
        self._free_of_owners: tuple[Backend, ...] = ()
        group_managers.index.add(self)
        openings.queues[self] = None
        for manager in group_managers.of(ident, backends):
            self.manager_made(manager)

    @property
    def backends(self) -> Backends:
        """The backends that may serve the requests, by their keys."""
        return self._room_finder.backends

    def _leave(self, managers: Iterable[Any]) -> None:
        """Be served by these managers no more."""
        for manager in managers:
            manager.placements.forget(self)
            self.manager_gone(manager)
        self._free_of_owners = ()

    # Requests

    def lease_ready(self, owner: Owner | None) -> Lease[Any] | None:
        """Lease an idle connection to any of the backends. C{None} if there is none, or if others
        wait.

        @raise LeaseError: C{owner} has ended.
        """
        for manager in self._idle_managers() if not self.waiting else ():
            lease: Lease[Any] | None = ask_now(manager, self.ident, owner, self.fresh)
            if lease is not None:
                return lease
        return None

    def _idle_managers(self) -> Iterator[Any]:
        """The managers that have something idle of the kind and may serve, each in turn."""
        for _ in range(len(self._ready)):
            manager = next(iter(self._ready))
            if not manager.placements.has_idle(fresh=self.fresh):
                del self._ready[manager]
                manager.placements.await_idle(self)
                continue
            if self.may_serve(manager.backend):
                yield manager
            self._ready.move_to_end(manager)

    def is_to_warm(self, chosen: Backend) -> bool:
        """Whether a chosen backend that had nothing idle should connect although another served the
        request. One in eight does. If none did, only backends with idle connections would be used,
        whatever the balancer chose. If all did, many backends would have twice the connections."""
        self._misses += 1
        return self._misses % _WARM_EVERY == 1 and self._room_finder.has_room(chosen)

    def place_for(self, chosen: Backend, tried: Container[object] = ()) -> Backend:
        """The backend where a request should be placed: C{chosen} if it has room, else another
        with room, else C{chosen}, unless that is ejected and another is not.

        @param tried: the backends that could not serve it before. It is placed at none of these for
            want of another.
        """
        if self._room_finder.has_room(chosen):
            return chosen
        place = self._room_finder.next(tried)
        if place is None and not self.may_serve(chosen):
            place = self.place_to_wait(tried)
        return place or chosen

    def may_start(self, place: Backend) -> bool:
        """Whether a request that is to be placed at a backend may connect before it waits."""
        others = self.waiting or self.fresh or self.is_closed
        return not others and place.key in self.backends

    def wait(
        self,
        manager: Any,
        timeout: float | None,
        owner: Owner | None,
        choose: Choose | None,
        tried: Tried | None = None,
    ) -> Waiter[Lease[Any]]:
        """Queue a request.

        @param manager: the manager at which it is placed.
        @param choose: chooses another backend if C{manager} cannot serve it.
        @param tried: the backends that could not serve it before, and why.
        @return: the waiter.
        @raise PoolFull: C{manager} has the most waiters that the policy allows.
        @raise LeaseError: C{owner} has ended, or itself holds all leases that could serve it.
        """
        ownership = None
        if owner is not None:
            ownership = self._group_managers.index.owners.ownership(unguarded(owner))
        origin = manager.admission.origin(ownership)
        if ownership is not None and self._is_all_held_by(ownership.owner, manager):
            raise manager.deadlocks.find(ownership.owner, origin)
        manager.admission.check_room()
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
        error = self._placer.put(waiter, manager)
        if error is not None:
            self._placer.place_elsewhere(waiter, error)
        return waiter

    def check_idle(self) -> None:
        """If there are waiters, let the first manager with an idle connection check it."""
        if self.waiting:
            for manager in self._idle_managers():
                self._ready.move_to_end(manager)
                manager.connections_changed()
                return

    def take(self, waiter: Waiter[Any]) -> None:
        """Remove a waiter, which a manager serves."""
        if waiter is self.head():
            self.popleft()
        else:
            self.pop(waiter)
        self._has_left(waiter)

    def _has_left(self, waiter: Waiter[Any]) -> None:
        self._placer.discard(waiter)
        self.end_if_empty()

    def end_if_empty(self) -> None:
        """If there are no waiters, call C{emptied}."""
        if not self.waiting and self._emptied is not None:
            self._emptied(self)

    def _was_cancelled(self, waiter: Waiter[Any]) -> None:
        if waiter.placement is not None:
            waiter.placement.admission.cancelled(waiter)

    def _has_coming(self, waiter: Waiter[Any]) -> bool:
        return bool(waiter.placement.admission.has_coming(waiter))

    def fail_if_deadlocked(self, waiter: Waiter[Any], owner: Owner) -> None:
        if self._is_all_held_by(owner, waiter.placement) and waiter.queue is self:
            self.fail(waiter, waiter.placement.deadlocks.find(owner, waiter.origin))

    def _is_all_held_by(self, owner: Owner | None, manager: Any) -> bool:
        """Whether an owner itself holds all leases that could ever serve its request.

        @param manager: the manager where it is placed.
        """
        if manager.deadlocks.find_in_pool(owner, None) is not None:
            return True
        for backend in chain(self._free_of_owners, self._room_finder.all()):
            if not self._is_held_by(owner, backend):
                self._free_of_owners = (backend,)
                return False
        return True

    def _is_held_by(self, owner: Owner | None, backend: Backend) -> bool:
        manager = self._group_managers.find(self.ident, backend)
        return manager is not None and manager.deadlocks.find(owner, None) is not None

    def failures(self, waiter: Waiter[Any]) -> Tried:
        """The backends that could not serve a waiter, and why; and the last errors of up to 20
        other backends whose last attempt to connect failed."""
        tried = self._placer.tried(waiter) | self._openings.not_backends
        failed = self._group_managers.last_errors(self.backends)
        others = ((backend, why) for backend, why in failed if backend not in tried)
        return tried | dict(islice(others, _MOST_NAMED))

    # Called by managers

    def manager_made(self, manager: Any) -> None:
        """A manager can serve this queue from now on."""
        if not manager.admission.accepts(self.ident):  # it is ending
            return
        self._ready[manager] = None
        self._room_finder.note(manager.backend)
        if self.is_short():
            manager.placements.await_room(self)
        if self.waiting:
            manager.groups.join(self)
        else:
            self._to_join[manager] = None

    def manager_gone(self, manager: Any) -> None:
        """A manager ends and never serves this queue again."""
        self._ready.pop(manager, None)
        self._to_join.pop(manager, None)

    def dropped(self, manager: Any) -> None:
        self._to_join[manager] = None

    def is_idle_at(self, manager: Any) -> None:
        self._ready[manager] = None

    def has_room_at(self, where: Any) -> None:
        self._room_finder.note(where.backend)
        self.place_short()

    # Changes

    def service_changed(self, panic_changed: bool) -> None:
        """Other backends may serve now. Who is placed at an ejected one goes elsewhere.

        @param panic_changed: whether a panic has begun, in which all ejected backends serve, or
            has ended.
        """
        for manager in self._group_managers.sick(self.ident, self.backends) if self.waiting else ():
            self._placer.leave(manager)
            if panic_changed:
                manager.connections_changed()

    def change(self, backends: Backends) -> None:
        """Set the backends. A waiter that was placed at one that has left is placed elsewhere."""
        find = self._group_managers.of
        before, now = list(find(self.ident, self.backends)), list(find(self.ident, backends))
        self._leave([each for each in before if each.backend.key not in backends])
        self._room_finder.change(backends)
        for manager in now:
            if manager not in before:
                self.manager_made(manager)
        for waiter in tuple(self.waiting):
            if waiter.queue is self and waiter.placement.backend.key not in self.backends:
                placements = waiter.placement.placements
                placements.give_up(waiter, has_left(waiter.placement.backend))
        for manager in self._group_managers.of(self.ident, self.backends) if self.waiting else ():
            if manager.has_idle():
                manager.connections_changed()

    def close(self, error: Exception | None = None) -> None:
        """Remove all waiters, and leave the managers.

        @param error: the waiters fail with it. C{None}: the caller knows that there are none.
        """
        self.is_closed = True
        self._alarm.clear()
        self._group_managers.index.remove(self)
        self._leave(self._group_managers.of(self.ident, self.backends))
        while self.waiting:
            waiter = next(iter(self.waiting))
            self.remove(waiter)
            if error is not None:
                waiter.fail(error)
        self._openings.leave(self)
        # Something may still refer to this queue for a while; it should not keep the backends.
        self._room_finder.change({})

    # Time

    def now(self) -> float:
        """The time on the clock, in seconds."""
        return self._clock.seconds()

    def look_at(self, due: float) -> None:
        """Look for room at the time C{due}, for those who may then try again where it failed."""
        self._alarm.set(due)

    def _wake(self) -> None:
        super()._wake()
        self.place_short()

    def _expire(self, waiter: Waiter[Lease[Any]]) -> None:
        placement, tried = waiter.placement, self.failures(waiter)
        self.remove(waiter)
        waiter.fail(placement.admission.timed_out(waiter, tried))

"""C{SharedQueue}: requests that any of several backends may serve, whichever can first.

Each of its waiters is also in the queue of one manager, which connects for it and counts it. Any
other manager of these backends that has something ready takes the oldest waiter, if that came
before its own. So a waiter costs one connect, wherever it waits, and waits for all.

Its state is C{waiting}, all waiters in the order in which they came, each with the manager in whose
queue it is, and the same by manager; then what is known of who can serve: C{ready} are managers
that may have something idle, C{room} knows the backends that may connect for one more, C{short} are
managers in whose queues more wait than they can connect for. These three are looked at again before
they are relied on, at the latest when a backend that had failed may be tried again. The homeless
are waiters on their way from a manager that has given up on them.

Work that waits for others to be stolen, with one place where it is accounted for: Robert Blumofe
and Charles Leiserson, "Scheduling Multithreaded Computations by Work Stealing", 1999.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Hashable
from itertools import islice
from typing import Any

from twisted.internet.interfaces import IReactorTime

from kolus.backend import Backend, Backends
from kolus.errors import ConnectFailed, Draining, KolusError
from kolus.lease import Lease
from kolus.manager.house import House, Server
from kolus.manager.room import Room
from kolus.manager.waiters import Choose, Tried, Waiter
from kolus.support import Alarm
from kolus.watching import Owner

__all__ = ["SharedQueue"]

_MOST_NAMED = 20
_WARM_EVERY = 8


class SharedQueue:
    """The requests of one ident that may be served by the same backends.

    @ivar ident: whose requests these are.
    @ivar waiting: the waiters, the oldest first, each with where it is; C{None} on its way.
    """

    def __init__(
        self,
        ident: Hashable,
        backends: Backends,
        house: House,
        clock: IReactorTime,
        may_serve: Callable[[Backend], bool],
        emptied: Callable[[SharedQueue], object] | None = None,
    ) -> None:
        """
        @param may_serve: whether a backend's health lets it serve.
        @param emptied: called when the last waiter has left.
        """
        self.ident = ident
        self.waiting: OrderedDict[Waiter[Any], Server | None] = OrderedDict()
        self.may_serve = may_serve
        self._house = house
        self._clock = clock
        self._emptied = emptied
        self._at: dict[Server, dict[Waiter[Any], None]] = {}
        self._ready: OrderedDict[Server, None] = OrderedDict()
        self._room = Room(ident, backends, house, clock, may_serve, self._look_at)
        self._short: OrderedDict[Server, None] = OrderedDict()
        self._homeless: deque[tuple[Waiter[Any], Exception]] = deque()
        self._placing = self._levelling = self._unlevel = False
        self._misses = 0
        self._alarm = Alarm(clock, self.look_anew)
        house.attach(self)

    @property
    def backends(self) -> Backends:
        """Who may serve them, by their keys."""
        return self._room.backends

    # Requests

    def lease_ready(self, owner: Owner | None) -> Lease[Any] | None:
        """A lease of what is idle at any of the backends, if nobody waits for it.

        @raise LeaseError: C{owner} has ended.
        """
        for _ in range(0 if self.waiting else len(self._ready)):
            server = next(iter(self._ready))
            if not server.has_idle():
                del self._ready[server]
                continue
            if self.may_serve(server.backend):
                lease = server.try_connect(self.ident, owner)
                if lease is not None:
                    return lease
            self._ready.move_to_end(server)
        return None

    def is_to_warm(self, chosen: Backend) -> bool:
        """Whether a backend that was chosen, and had nothing idle when another had, should connect
        all the same. One in eight should, or the balancer would have no say while one of them has
        something idle; each would double the connections where there are very many backends."""
        self._misses += 1
        return self._misses % _WARM_EVERY == 1 and self._room.has(chosen)

    def place_for(self, chosen: Backend) -> Backend:
        """Where a request should wait: where it can be connected for, C{chosen} if possible."""
        return chosen if self._room.has(chosen) else self._room.next(()) or chosen

    def joined(
        self, waiter: Waiter[Any], server: Server, choose: Choose | None, tried: Tried | None
    ) -> None:
        """A new request is in the queue of a manager.

        @param choose: chooses anew if it cannot be served there.
        @param tried: where it could not be queued.
        """
        waiter.shared = self
        waiter.choose = choose
        if tried is not None:
            waiter.tried = tried
        self._note_place(waiter, server)

    def look_again(self) -> None:
        """See whether what is idle needs only a check to serve those who wait."""
        for server in tuple(self._ready):
            if not server.has_idle():
                self._ready.pop(server, None)
            elif self.waiting:
                server.connections_changed()

    def oldest_for(self, server: Server) -> Waiter[Any] | None:
        """Who is to be served by a manager before all others here: of those in its own queue, if
        its backend's health lets it serve no others."""
        if self.may_serve(server.backend):
            return next(iter(self.waiting), None)
        return min(self._at.get(server, ()), key=lambda waiter: waiter.order, default=None)

    def left(self, waiter: Waiter[Any]) -> None:
        """A request waits no more. Called by the queue that it was in."""
        if waiter not in self.waiting:
            return
        self._forget_place(waiter)
        del self.waiting[waiter]
        waiter.choose = None  # who has had a lease of a group is not to keep the group
        self.end_if_empty()

    def end_if_empty(self) -> None:
        """Let whoever made it drop it, if nobody waits."""
        if not self.waiting:
            self._alarm.clear()
            if self._emptied is not None:
                self._emptied(self)

    def change(self, backends: Backends) -> None:
        """Others may serve it from now on; who waits at one that may not any more moves on."""
        self._house.detach(self)
        self._room.change(backends)
        self._house.attach(self)
        self._ready.clear()
        for server in tuple(self._at):
            if server.backend.key not in backends:
                for waiter in tuple(self._at.get(server, ())):
                    if waiter in self._at.get(server, ()) and waiter.queue is not None:
                        waiter.queue.fail(waiter, Draining(f"{server.backend} has left the group"))
        for server in self._house.servers(self):
            self.level(server)
        self.look_again()

    def close(self, error: Exception | None = None) -> None:
        """Let nobody wait here any more.

        @param error: what those who do fail with.
        """
        self._house.detach(self)
        for waiter in tuple(self.waiting):
            if waiter in self.waiting:
                waiter.leave()
                waiter.fail(error)
        # Whom it has served may be remembered for a while, and so may it.
        self._ready, self._short = OrderedDict(), OrderedDict()
        self._room.change({})

    def _note_place(self, waiter: Waiter[Any], server: Server) -> None:
        self.waiting[waiter] = server
        self._at.setdefault(server, {})[waiter] = None

    def _forget_place(self, waiter: Waiter[Any]) -> None:
        server = self.waiting[waiter]
        self.waiting[waiter] = None
        if server is not None:
            del self._at[server][waiter]
            if not self._at[server]:
                del self._at[server]

    # What managers tell

    def freed(self, server: Server) -> None:
        """Something has come home to a manager that had nothing idle, and nobody waited."""
        self._ready[server] = None

    def level(self, server: Server) -> None:
        """Something has changed at a manager: see that what can be connected for is."""
        if server.has_idle():
            self._ready[server] = None
        surplus = self._room.surplus(server)
        if surplus > 0:
            self._room.note(server.backend)
            if self._short:
                self._relieve()
        self._look_at(self._house.attempt_due(server.backend))
        if surplus < 0 and server in self._at:
            self._short[server] = None
            self._relieve()

    def look_anew(self) -> None:
        """Something has changed that no manager tells: when room is needed, look everywhere."""
        self._room.look_anew()
        if self._short:
            self._relieve()

    def _look_at(self, due: float) -> None:
        """Look then who can be connected for, if anybody waits and that is yet to come."""
        if self.waiting and self._clock.seconds() < due < math.inf:
            self._alarm.set(due)

    def health_changed(self) -> None:
        """A backend was ejected: by now all may have to serve, also those that were before."""
        self.look_anew()
        for server in self._house.servers(self) if self.waiting else ():
            if server.is_ejected() and self.may_serve(server.backend):
                server.connections_changed()

    def _relieve(self) -> None:
        """Let waiters wait where they can be connected for."""
        self._unlevel = True
        if self._levelling:
            return
        self._levelling = True
        try:
            while self._unlevel:
                self._unlevel = False
                for server in tuple(self._short):
                    while self._is_short(server) and self._relieve_one(server):
                        pass
                    if not self._room.is_known():
                        break
        finally:
            self._levelling = False

    def _is_short(self, server: Server) -> bool:
        """Whether more wait at a manager than it can connect for."""
        if server in self._at and self._room.surplus(server) < 0:
            return True
        self._short.pop(server, None)
        return False

    def _relieve_one(self, server: Server) -> bool:
        """Let one of the waiters of a manager wait elsewhere, the newest if possible."""
        for waiter in reversed(self._at[server]):
            barred = self._barred(waiter)
            place = self._room.next({server.backend, *barred})
            if place is not None:
                self._move(waiter, place)
                return True
            if not barred:
                break
        return False

    def _barred(self, waiter: Waiter[Any]) -> Collection[object]:
        """Where a waiter is not connected for again: where attempts that failed do not pause."""
        return () if self._house.pauses_attempts() else waiter.tried or ()

    def _move(self, waiter: Waiter[Any], place: Backend) -> None:
        assert waiter.queue is not None
        waiter.queue.give(waiter)
        if waiter not in self.waiting:
            return
        self._forget_place(waiter)
        error = self._settle_at(waiter, place)
        if error is not None:
            self.refused(waiter, error)

    def refused(self, waiter: Waiter[Any], error: Exception) -> None:
        """A manager has given up on a waiter: let it wait elsewhere, or fail it."""
        self._forget_place(waiter)
        self._homeless.append((waiter, error))
        if self._placing:
            return
        self._placing = True
        try:
            while self._homeless:
                self._place(*self._homeless.popleft())
        finally:
            self._placing = False

    def _place(self, waiter: Waiter[Any], error: Exception) -> None:
        if waiter not in self.waiting:  # it was served or cancelled on its way
            return
        tried = waiter.tried = waiter.tried or {}
        if isinstance(error, ConnectFailed):
            tried[error.backend] = error.reason
        place = None if waiter.choose is None else waiter.choose(tried)
        barred = {*self._barred(waiter)}
        while True:
            if place is None or place in barred or not self._room.has(place):
                place = self._room.next(barred)
            if place is None:
                break
            refusal = self._settle_at(waiter, place)
            if refusal is None:
                return
            barred.add(place)
            if isinstance(refusal, ConnectFailed):
                tried[place] = refusal.reason
                error = refusal
        for server in self._house.servers(self):
            if self._is_hopeful(server, tried) and self._settle_at(waiter, server.backend) is None:
                return
        for backend in self._house.crowded(self):
            is_due = self._house.attempt_due(backend) <= self._clock.seconds()
            is_hopeful = is_due and backend not in tried and self.may_serve(backend)
            if is_hopeful and self._settle_at(waiter, backend) is None:
                return
        self.left(waiter)
        if isinstance(error, ConnectFailed):
            everything = self.failures(waiter)
            error = ConnectFailed(error.backend, error.reason, error.retry_in, everything)
        waiter.fail(error)

    def _is_hopeful(self, server: Server, tried: Collection[object]) -> bool:
        """Whether a manager may yet serve one that it would not connect for.

        It is not waited for again and again because of attempts: they might all fail.
        """
        if not self.may_serve(server.backend):
            return False
        return server.has_leases() or (server.is_connecting() and server.backend not in tried)

    def _settle_at(self, waiter: Waiter[Any], backend: Backend) -> KolusError | None:
        """Let a waiter wait at a backend.

        @return: what prevents that; C{None} if nothing does, or if it does not wait any more:
            whoever hears that a manager is made, or cannot be, may have cancelled it.
        """
        try:
            server = self._house.make_server(self.ident, backend)
        except KolusError as error:
            return error if waiter in self.waiting else None
        if waiter in self.waiting:
            self._note_place(waiter, server)
            server.adopt(waiter)
        return None

    def failures(self, waiter: Waiter[Any]) -> Tried:
        """What became of a waiter where it could not be served, and of the last attempts to
        connect to backends where it was not."""
        tried = (waiter.tried or {}) | self._room.refused
        failed = self._house.last_errors(self)
        others = ((backend, why) for backend, why in failed if backend not in tried)
        return tried | dict(islice(others, _MOST_NAMED))

    # Owners

    def fail_deadlocked(self, owner: Owner | None) -> None:
        """An owner holds more than it did: it may be all that its own waiters could ever get."""
        if owner is not None and self.waiting:
            for server in tuple(self._at):
                server.fail_deadlocked(owner)

    def is_all_held_by(self, owner: Owner) -> bool:
        """Whether an owner itself has all that could ever serve it."""
        for backend in self._room.all():
            server = self._house.server(self.ident, backend)
            if server is None or not server.is_all_held_by(owner):
                return False
        return True

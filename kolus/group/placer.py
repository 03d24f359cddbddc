"""C{Placer}: sees to it that a connection is on its way for each waiter of a group's queue.

Its state is what each request knows of where it was tried, the waiters for whom no connection is
on its way, and those that a manager has given up on and that are about to be placed elsewhere.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from kolus.backend import Backend
from kolus.errors import ConnectFailed, KolusError
from kolus.group.places import Places, Tried
from kolus.group.servers import Servers
from kolus.manager import Waiter

if TYPE_CHECKING:
    from kolus.group.queue import GroupQueue

__all__ = ["Choose", "Placer"]

Choose = Callable[[Tried], Backend | None]
"""Chooses a backend, but none that was tried; C{None} if there is no other. It notes as tried what
turns out to be none."""

_MOST_CHOSEN = 8  # after so many failures a balancer has had its say, and each backend has its turn
_PAUSE = 0.01  # seconds between rounds, for each backend that was tried
_MOST_PASSED = 8  # of those without a place; the others have their turn when there is room again


@dataclass(slots=True)
class _Request:
    """Where a request was tried."""

    choose: Choose | None
    """Chooses for it anew."""
    began: float
    """When this round began, on the clock."""
    tried: Tried
    """What became of it at the backends that could not serve it."""
    round: set[object] = field(default_factory=set)
    """The backends that were tried in this round: none is tried twice."""
    others: Iterator[Hashable] | None = None
    """The keys of the backends that are still to be looked at in this round."""


class Placer:
    """Places the waiters of one queue at managers."""

    def __init__(self, queue: GroupQueue, servers: Servers, places: Places) -> None:
        self._queue = queue
        self._servers = servers
        self._places = places
        self._requests: dict[Waiter[Any], _Request] = {}
        self._short: OrderedDict[Waiter[Any], None] = OrderedDict()
        self._given_up: deque[tuple[Waiter[Any], Exception]] = deque()
        self._placing = self._relieving = False

    def add(self, waiter: Waiter[Any], choose: Choose | None, tried: Tried | None) -> None:
        """A new waiter, about to be placed for the first time.

        @param choose: chooses for it anew.
        @param tried: what became of it where it was tried before.
        """
        known = {} if tried is None else tried
        self._requests[waiter] = _Request(choose, self._queue.now(), known, set(known))

    def discard(self, waiter: Waiter[Any]) -> None:
        """A waiter has left the queue."""
        self._requests.pop(waiter, None)
        self._short.pop(waiter, None)
        if waiter.placement is not None:
            waiter.placement.placements.discard(waiter)

    def tried(self, waiter: Waiter[Any]) -> Tried:
        """What became of a waiter at the backends that could not serve it."""
        return dict(self._requests[waiter].tried)

    def _waits(self, waiter: Waiter[Any]) -> bool:
        return waiter.queue is self._queue

    # Where nothing comes

    def relieve(self, waiter: Waiter[Any]) -> None:
        """For one that is placed somewhere nothing is on its way there: place it where there is
        room; if there is none, as soon as there is."""
        if self._waits(waiter):
            self._short[waiter] = None
            self.place_short()

    def place_short(self) -> None:
        """Place those for whom no connection is on its way where there is room."""
        if self._relieving:
            return
        self._relieving = True
        passed = 0
        try:
            while self._short and passed <= min(_MOST_PASSED, len(self._short)):
                waiter = next(reversed(self._short))
                place = self._relief_for(waiter)
                if place is not None:
                    self._short.pop(waiter, None)
                    self._move(waiter, place)
                    continue
                request = self._requests[waiter]
                there = waiter.placement.backend
                if not (request.round or self._places.has_room(there)):  # nor for the others
                    return
                self._begin_round(request)
                self._short.move_to_end(waiter, last=False)  # there may be for the others
                passed += 1
        finally:
            self._relieving = False

    def _relief_for(self, waiter: Waiter[Any]) -> Backend | None:
        """Another place with room, where it was not tried in this round."""
        request = self._requests[waiter]
        there = waiter.placement.backend
        if len(request.round) <= _MOST_CHOSEN:
            return self._places.next({there, *request.round})
        return self._next_of_round(request, besides=there)

    def _next_of_round(self, request: _Request, besides: Backend | None = None) -> Backend | None:
        """The next backend with room that was not tried in this round. Each is looked at once, so
        that a round over any number of backends takes a time in proportion to it."""
        if request.others is None:
            request.others = self._places.once_each()
        barred = request.round if besides is None else _Both(request.round, besides)
        return self._places.next_of(request.others, barred)

    def _move(self, waiter: Waiter[Any], place: Backend) -> None:
        waiter.placement.placements.discard(waiter)
        if self._waits(waiter):
            error = self._place_at(waiter, place)
            if error is not None:
                self.refused(waiter, error)

    # Where a manager gives up

    def refused(self, waiter: Waiter[Any], error: Exception) -> None:
        """A manager has given up on a waiter: place it elsewhere, or fail it."""
        self._short.pop(waiter, None)
        self._given_up.append((waiter, error))
        if self._placing:
            return
        self._placing = True
        try:
            while self._given_up:
                self._place(*self._given_up.popleft())
        finally:
            self._placing = False

    def _place(self, waiter: Waiter[Any], error: Exception) -> None:
        if not self._waits(waiter):  # it was served or cancelled on its way
            return
        request = self._requests[waiter]
        self._note(request, error)
        for place in self._next_places(request):
            refusal = self._place_at(waiter, place)
            if refusal is None:
                return
            request.round.add(place)
            if isinstance(refusal, ConnectFailed):
                error = refusal
                self._note(request, error)
        if self._place_hopefully(waiter, request):
            return
        if isinstance(error, ConnectFailed):
            everything = self._queue.failures(waiter)
            error = ConnectFailed(error.backend, error.reason, error.retry_in, everything)
        self._queue.fail(waiter, error)

    def _note(self, request: _Request, error: Exception) -> None:
        if isinstance(error, ConnectFailed):
            request.tried[error.backend] = error.reason
            request.round.add(error.backend)

    def _next_places(self, request: _Request) -> Iterator[Backend]:
        """The backends with room that were not tried in this round, the balancer's choice first."""
        while len(request.round) <= _MOST_CHOSEN:
            place = None if request.choose is None else request.choose(request.tried)
            if place is None or place in request.round or not self._places.has_room(place):
                place = self._places.next(request.round)
            if place is None:
                return
            yield place
        while (place := self._next_of_round(request)) is not None:
            yield place

    def _place_hopefully(self, waiter: Waiter[Any], request: _Request) -> bool:
        """Place a waiter, for whom there is no room, where something may come home or is coming.

        @return: whether there is such a place. Another round begins there: as soon as there is
            room, backends that failed may be tried again.
        """
        tried, queue = request.round, self._queue
        # It is quicker to go where others are than to look everywhere.
        others = [each.placement for each in islice(reversed(queue.waiting), _MOST_PASSED)]
        near = [each for each in others if each and each.backend.key in queue.backends]
        for server in chain(near, self._everywhere()):
            at = server.placements
            hopeful = at.may_come_home() or (at.is_connecting() and server.backend not in tried)
            if queue.may_serve(server.backend) and hopeful:
                self._begin_round(request)
                if self._place_at(waiter, server.backend) is None:
                    return True
        for backend in self._servers.crowded(queue.ident, queue.backends):
            is_due = self._servers.attempt_due(backend) <= queue.now()
            if is_due and backend not in tried and queue.may_serve(backend):
                self._begin_round(request)
                if self._place_at(waiter, backend) is None:
                    return True
        return False

    def _everywhere(self) -> Iterator[Any]:
        """The managers, looked for when the first is asked for."""
        yield from self._servers.of(self._queue.ident, self._queue.backends)

    def _begin_round(self, request: _Request) -> None:
        # Without a pause after a failed attempt, attempts would never end.
        if not self._servers.is_paused_after_failure():
            return
        now = self._queue.now()
        due = request.began + _PAUSE * len(request.round)
        if due > now:  # or a request would never be done with very many that fail
            self._queue.look_at(due)
            return
        request.began = now
        request.round = set()
        request.others = None

    def _place_at(self, waiter: Waiter[Any], backend: Backend) -> KolusError | None:
        """Place a waiter at the manager of a backend.

        @return: what prevents that; C{None} if nothing does, or if it does not wait any more:
            whoever hears that a manager is made, or cannot be, may have cancelled it.
        """
        try:
            server = self._servers.make(self._queue.ident, backend)
        except KolusError as error:
            return error if self._waits(waiter) else None
        if self._waits(waiter):
            server.placements.add(waiter)
        return None


class _Both:
    """What is in a set, and one thing more."""

    def __init__(self, some: set[object], one: object) -> None:
        self._some = some
        self._one = one

    def __contains__(self, thing: object) -> bool:
        return thing == self._one or thing in self._some

"""C{Placer}: places each waiter of a group's queue at a manager, which connects for it.

Its state is a C{_Request} for each waiter; the waiters for whom no connection is being made; and
the waiters that a manager has given up on, which are about to be placed elsewhere.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Container, Hashable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from kolus.backend import Backend
from kolus.errors import ConnectFailed, Draining, KolusError

if TYPE_CHECKING:
    from kolus.group.group_managers import GroupManagers
    from kolus.group.openings import Openings, Tried
    from kolus.group.queue import GroupQueue
    from kolus.group.room_finder import RoomFinder
    from kolus.manager import Waiter

__all__ = ["Choose", "Placer", "has_left"]

Choose = Callable[["Tried"], "Backend | None"]
"""Chooses a backend that was not tried; C{None} if there is none. What turns out not to be a
backend is added to those tried."""

_MOST_CHOSEN = 8  # after so many failures the balancer is not asked again: each backend is tried
_PAUSE = 0.01  # seconds between rounds, for each backend that was tried
_MOST_PASSED = 8  # waiters without a place in a row; the others are looked at when there is room


@dataclass(slots=True)
class _Request:
    """The backends where a request was tried."""

    choose: Choose | None
    """Chooses another backend for it."""
    began: float
    """When this round began, on the clock."""
    tried: Tried
    """The backends that could not serve it, and why."""
    round: set[object] = field(default_factory=set)
    """The backends that were tried in this round. None is tried twice in a round."""
    others: Iterator[Hashable] | None = None
    """The keys of the backends that this round has not looked at yet."""


class Placer:
    """Places the waiters of one queue at managers."""

    def __init__(
        self,
        queue: GroupQueue,
        group_managers: GroupManagers,
        room_finder: RoomFinder,
        openings: Openings,
    ) -> None:
        self._queue = queue
        self._group_managers = group_managers
        self._room_finder = room_finder
        self._openings = openings
        self._requests: dict[Waiter[Any], _Request] = {}
        self._short: OrderedDict[Waiter[Any], None] = OrderedDict()
        self._given_up: deque[tuple[Waiter[Any], Exception]] = deque()
        self._placing = self._relieving = False

    def add(self, waiter: Waiter[Any], choose: Choose | None, tried: Tried | None) -> None:
        """Add a new waiter, which the caller is about to place.

        @param choose: chooses another backend for it; C{None}: the balancer is not asked again.
        @param tried: the backends that could not serve it before it waited, and why.
        """
        known = {} if tried is None else tried
        self._requests[waiter] = _Request(choose, self._queue.now(), known, set(known))

    def discard(self, waiter: Waiter[Any]) -> None:
        """A waiter has left the queue."""
        self._requests.pop(waiter, None)
        self._is_not_short(waiter)
        if waiter.placement is not None:
            waiter.placement.placements.discard(waiter)

    def tried(self, waiter: Waiter[Any]) -> Tried:
        """The backends that could not serve a waiter, and why."""
        return dict(self._requests[waiter].tried)

    def is_short(self) -> bool:
        """Whether somebody waits for whom no connection is on its way."""
        return bool(self._short)

    def wants_room_at(self, backend: Backend) -> bool:
        """Whether one of those would be placed at a backend if that had room. A waiter that is
        placed there already would not: its attempt there is slow. Nobody would where none of the
        queue's ident is served, as while that is paused."""
        may_serve = backend.key in self._room_finder.backends and self._queue.may_serve(backend)
        if not (self._short and may_serve):
            return False
        if not self._group_managers.may_serve(self._queue.ident, backend):
            return False
        some = islice(self._short, _MOST_CHOSEN)
        return any(each.placement.backend.key != backend.key for each in some)

    def _waits(self, waiter: Waiter[Any]) -> bool:
        return waiter.queue is self._queue

    # No connection is being made

    def relieve(self, waiter: Waiter[Any]) -> None:
        """No connection is being made for a waiter where it is placed. Place it at a backend with
        room. If there is none, do so as soon as there is one."""
        if self._waits(waiter):
            self._short[waiter] = None
            self._openings.needs_room(self._queue)
            self.place_short()

    def _is_not_short(self, waiter: Waiter[Any]) -> None:
        self._short.pop(waiter, None)
        if not self._short:
            self._openings.needs_none(self._queue)

    def place_short(self) -> None:
        """Place the waiters for whom no connection is being made at backends with room."""
        if self._relieving:
            return
        self._relieving = True
        passed = 0
        try:
            while self._short and passed <= min(_MOST_PASSED, len(self._short)):
                waiter = next(reversed(self._short))
                place = self._relief_for(waiter)
                if place is not None:
                    self._is_not_short(waiter)
                    self._move(waiter, place)
                    continue
                request = self._requests[waiter]
                there = waiter.placement.backend
                if not (request.round or self._room_finder.has_room(there)):
                    break  # there is no room for the others either
                self._begin_round(request)
                self._short.move_to_end(waiter, last=False)  # there may be for the others
                passed += 1
            if self._short:
                self._room_finder.ask_pool()
        finally:
            self._relieving = False

    def _relief_for(self, waiter: Waiter[Any]) -> Backend | None:
        """Another backend with room that was not tried in this round."""
        request = self._requests[waiter]
        there = waiter.placement.backend
        if len(request.round) <= _MOST_CHOSEN:
            return self._room_finder.next(request.round, there)
        return self._next_of_round(request, there)

    def _next_of_round(self, request: _Request, besides: Backend | None = None) -> Backend | None:
        """The next backend with room that was not tried in this round. A round looks at each
        backend once, so it takes O(n) for n backends."""
        if request.others is None:
            request.others = self._room_finder.once_each()
        return self._room_finder.next_of(request.others, request.round, besides)

    def _move(self, waiter: Waiter[Any], place: Backend) -> None:
        left = waiter.placement
        left.placements.remove(waiter)
        error = self._place_at(waiter, place)
        left.demand_fell()  # not before: what it keeps ready might take the only slot of the pool
        if error is not None:
            self.place_elsewhere(waiter, error)

    # A backend is ejected

    def leave(self, manager: Any) -> None:
        """Place the waiters elsewhere that a manager is not to serve, as its backend is ejected.
        They stay if no other backend may serve them."""
        for waiter in manager.placements.barred(self._queue):
            if waiter not in manager.placements.waiters:
                continue  # it was served or placed elsewhere meanwhile
            place = self._relief_for(waiter) or self.place_to_wait()
            if place is None:
                return
            self._is_not_short(waiter)
            self._move(waiter, place)

    def place_to_wait(self, tried: Container[object] = ()) -> Backend | None:
        """A backend without room where a waiter may wait; C{None} if none may serve it.

        @param tried: the backends that could not serve it before.
        """
        return next(self._places_to_wait(tried), None) or self._due_first(tried)

    # A manager gives up

    def unplaced(self, waiter: Waiter[Any]) -> None:
        """A manager gives up on a waiter, which is placed nowhere until C{place_elsewhere}."""
        self._is_not_short(waiter)

    def place_elsewhere(self, waiter: Waiter[Any], error: Exception) -> None:
        """A manager has given up on a waiter: place it elsewhere, or else fail it."""
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
        if not self._waits(waiter):  # it was served or cancelled meanwhile
            return
        request = self._requests[waiter]
        self._note(request, error)
        if isinstance(error, ConnectFailed) and error.is_mistake:
            self._queue.fail(waiter, error)  # it would fail everywhere
            return
        for place in self._next_places(request):
            refusal = self._place_at(waiter, place)
            if refusal is None:
                return
            request.round.add(place)
            if isinstance(refusal, ConnectFailed):
                error = refusal
                self._note(request, error)
        if not self._waits(waiter) or self._place_where_it_may_wait(waiter, request):
            return
        has_failed = isinstance(error, ConnectFailed) and self._group_managers.policy.fail_fast
        if not has_failed and self._place_where_due(waiter, request):
            return
        if isinstance(error, ConnectFailed):
            everything = self._queue.failures(waiter)
            error = error.having_tried(everything)
        self._queue.fail(waiter, error)

    def _note(self, request: _Request, error: Exception) -> None:
        if isinstance(error, ConnectFailed):
            request.tried[error.backend] = error.reason
            request.round.add(error.backend)

    def _next_places(self, request: _Request) -> Iterator[Backend]:
        """The backends with room that were not tried in this round, the balancer's choice first."""
        while len(request.round) <= _MOST_CHOSEN:
            place = None if request.choose is None else request.choose(request.tried)
            if place is None or place in request.round or not self._room_finder.has_room(place):
                place = self._room_finder.next(request.round)
            if place is None:
                return
            yield place
        while (place := self._next_of_round(request)) is not None:
            yield place

    def _place_where_it_may_wait(self, waiter: Waiter[Any], request: _Request) -> bool:
        """Place a waiter although no backend has room: where a lease may be released, a connection
        is being made, or a sibling may free a slot.

        @return: whether there is such a backend. If so, a new round begins: as soon as there is
            room, backends that failed may be tried again.
        """
        for backend in self._places_to_wait(request.round):
            self._begin_round(request)
            if self._place_at(waiter, backend) is None:
                return True
        return False

    def _places_to_wait(self, tried: Container[object]) -> Iterator[Backend]:
        """Those backends. Of those tried, only a released lease may serve."""
        queue = self._queue
        # It is quicker to go where others are than to look everywhere.
        others = [each.placement for each in islice(reversed(queue.waiting), _MOST_PASSED)]
        near = [each for each in others if each and each.backend.key in queue.backends]
        for manager in chain(near, self._everywhere()):
            at = manager.placements
            may_wait = at.has_lease_out() or (at.is_connecting() and manager.backend not in tried)
            if queue.may_serve(manager.backend) and may_wait:
                yield manager.backend
        for backend in self._group_managers.crowded(queue.ident, queue.backends):
            is_due = self._group_managers.attempt_due(backend) <= queue.now()
            if is_due and backend not in tried and queue.may_serve(backend):
                yield backend

    def _place_where_due(self, waiter: Waiter[Any], request: _Request) -> bool:
        """Place a waiter where the next attempt to connect is due first, as the balancer may place
        a new request. It waits there, or fails with the last error there.

        @return: whether there is such a backend.
        """
        backend = self._due_first(request.round)
        return backend is not None and self._place_at(waiter, backend) is None

    def _due_first(self, tried: Container[object]) -> Backend | None:
        """That backend, of those that were not tried."""
        queue, group_managers = self._queue, self._group_managers
        due = {
            each: group_managers.attempt_due(each)
            for each in self._room_finder.all()
            if each not in tried
            and queue.may_serve(each)
            and group_managers.may_serve(queue.ident, each)
        }
        return min(due, key=due.__getitem__, default=None)

    def _everywhere(self) -> Iterator[Any]:
        """The managers, looked for when the first is asked for."""
        yield from self._group_managers.of(self._queue.ident, self._queue.backends)

    def _begin_round(self, request: _Request) -> None:
        # Only if attempts pause after a failure; else they would be repeated without end.
        if self._group_managers.policy.backoff is None:
            return
        now = self._queue.now()
        due = request.began + _PAUSE * len(request.round)
        if due > now:  # else a request over very many dead backends would never end
            self._queue.look_at(due)
            return
        request.began = now
        request.round = set()
        request.others = None

    def _place_at(self, waiter: Waiter[Any], backend: Backend) -> KolusError | None:
        """Place a waiter at the manager of a backend, which is made if there is none.

        @return: why that is impossible; C{None} if it is placed, or does not wait any more.
        """
        if not self._waits(waiter):  # choosing runs user code, which may cancel it
            return None
        try:
            manager = self._group_managers.make(self._queue.ident, backend)
        except KolusError as error:
            return error if self._waits(waiter) else None
        return self.put(waiter, manager)

    def put(self, waiter: Waiter[Any], manager: Any) -> KolusError | None:
        """The same for a manager that has just been found or made. That runs user code and
        observers, which may cancel the waiter, or take the backend away."""
        if self._waits(waiter):
            if manager.backend.key not in self._queue.backends:
                return has_left(manager.backend)
            manager.placements.add(waiter)
        return None


def has_left(backend: Backend) -> Draining:
    """The error of those who are placed at a backend that leaves its group."""
    return Draining(f"{backend} has left the group")

"""C{Openings}: what the queues of a group, or of a list, know together about room.

A backend has room if it may connect at once for an ident that has no manager there. That is the
same for all idents, so it is looked for once, however many queues there are. A queue looks at each
opening once; where its ident has a manager, it asks that.

Its state is the backends; those that may have room, each with the number of its last opening; the
openings in order, with outdated ones among them; the backends that had no room, in turn; those that
tell when they have some; the next attempts that are due; the queues that need room, in turn; and
when some backends are opened again although nobody has told of room, and which.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

from kolus.backend import AnyBackend, Backend, Backends
from kolus.support import Alarm, LazyHeap

if TYPE_CHECKING:
    from kolus.group.group_managers import GroupManagers
    from kolus.group.queue import GroupQueue
    from kolus.health import Panic

__all__ = ["Openings", "Tried"]

Tried = dict[AnyBackend, BaseException]
"""The backends that could not serve a request, and why. A string in a list that turned out not to
be a backend is a key, too."""

_AGAIN_EVERY = 1.0  # seconds between openings of a backend of which nobody has told
_AGAIN_PAUSE = 0.001  # seconds for each look of all queues, if that is more: one takes 0.05 ms
_MOST_AGAIN = 100  # backends at a time
_MOST_OUTDATED = 64  # openings, and as many more as there are backends that may have room
_number = itemgetter(0)


class Openings:
    """Knows which backends of a group or a list may have room.

    @ivar backends: the backends by their keys. Only C{change} changes it.
    @ivar not_backends: what turned out not to be a backend when it was looked at, and why.
    @ivar queues: the queues for these backends, or for some of them.
    @ivar may_serve: whether the health of a backend lets it serve.
    """

    def __init__(
        self, backends: Backends, panic: Panic, group_managers: GroupManagers, clock: IReactorTime
    ) -> None:
        """
        @param panic: whether ejected backends may serve.
        """
        self.backends = backends
        self.may_serve = panic.may_serve
        self.not_backends: Tried = {}
        self.queues: dict[GroupQueue, None] = {}
        self._panic = panic
        self._was_panic = panic.is_on
        self._group_managers = group_managers
        self._clock = clock
        self._numbers = itertools.count()
        self._open: dict[Hashable, int] = {}
        self._log: list[tuple[int, Hashable]] = []
        self._first = 0
        self._closed: OrderedDict[Hashable, Backend] = OrderedDict()
        self._awaited: set[Hashable] = set()
        self._due: LazyHeap[Hashable] = LazyHeap()
        self._alarm = Alarm(clock, self._wake)
        self._short: OrderedDict[GroupQueue, None] = OrderedDict()
        self._again_at = clock.seconds() + _AGAIN_EVERY
        self._again: Iterator[Hashable] = iter(())
        group_managers.index.openings[self] = None
        self._open_all(backends)

    def change(self, backends: Backends) -> None:
        """Set the backends, and have all looked at again: with another list, other ejected ones may
        serve. The queues are not told: they change, too."""
        before, self.backends = self.backends, backends
        self._forget([key for key in before if key not in backends])
        self._open_all(backends)

    def close(self) -> None:
        """There are no queues any more."""
        self._group_managers.index.openings.pop(self, None)
        self._forget(tuple(self._awaited))
        self._alarm.clear()

    def leave(self, queue: GroupQueue) -> None:
        """A queue is closed."""
        self.queues.pop(queue, None)
        self.needs_none(queue)

    def _forget(self, keys: Iterable[Hashable]) -> None:
        for key in keys:
            self._open.pop(key, None)
            self._closed.pop(key, None)
            self._due.discard(key)
            if key in self._awaited:
                self._awaited.discard(key)
                self._group_managers.forget_room(self, key)

    # What may have room

    def after(self, number: int) -> tuple[int, Hashable] | None:
        """The first opening after the one with a number, and the key of its backend."""
        log = self._log
        while self._first < len(log) and self._is_outdated(log[self._first]):
            self._first += 1
        at = max(self._first, bisect_right(log, number, key=_number))
        while at < len(log) and self._is_outdated(log[at]):
            at += 1
        return log[at] if at < len(log) else None

    def _is_outdated(self, opening: tuple[int, Hashable]) -> bool:
        return self._open.get(opening[1]) != opening[0]

    def _open_all(self, keys: Iterable[Hashable]) -> None:
        for key in keys:
            self._open[key] = number = next(self._numbers)
            self._log.append((number, key))
            self._closed.pop(key, None)
        if len(self._log) > 2 * len(self._open) + _MOST_OUTDATED:
            self._log = [each for each in self._log if not self._is_outdated(each)]
            self._first = 0

    def wait_for(self, backend: Backend) -> None:
        """A backend has no room. Hear of it when it has. Changes of health are told anyway."""
        if backend.key not in self.backends:
            return
        self._open.pop(backend.key, None)
        self._closed[backend.key] = backend
        self._closed.move_to_end(backend.key)
        if self.may_serve(backend):
            self._awaited.add(backend.key)
            self._group_managers.await_room(self, backend)
            self.attempt_is_due(backend, self._group_managers.attempt_due(backend))

    def full(self) -> Iterator[Backend]:
        """The backends without room, the one that was not looked at for longest first."""
        return iter(self._closed.values())

    def look_last(self, backend: Backend) -> None:
        """Another backend without room is to be looked at before this one."""
        if backend.key in self._closed:
            self._closed.move_to_end(backend.key)

    def attempt_is_due(self, backend: Backend, due: float) -> None:
        """There may be room when the next attempt at a backend is due, if that is in the future."""
        if due > self._clock.seconds() and backend.key in self.backends:
            self._due.set(backend.key, due)
            self._alarm.set(due)

    def _wake(self) -> None:
        now, found = self._clock.seconds(), []
        while (key := self._due.first()) is not None and self._due.ranks[key] <= now:
            self._due.discard(key)
            found.append(key)
        if key is not None:
            self._alarm.set(self._due.ranks[key])
        self.look_anew(found)

    def open_again(self) -> None:
        """Now and then, open some in turn: one may have room and have nobody to tell of it."""
        now = self._clock.seconds()
        if now < self._again_at:
            return
        keys = list(islice(self._again, _MOST_AGAIN))
        if not keys:
            self._again = iter(tuple(self.backends))
            keys = list(islice(self._again, _MOST_AGAIN))
        looks = len(keys) * len(self._group_managers.index)
        each = _AGAIN_EVERY * len(keys) / max(1, len(self.backends))
        self._again_at = now + max(each, _AGAIN_PAUSE * looks)
        self._open_all([key for key in keys if key in self.backends])

    # Telling the queues

    def needs_room(self, queue: GroupQueue) -> None:
        """Somebody waits in a queue for whom no connection is on its way."""
        self._short[queue] = None

    def needs_none(self, queue: GroupQueue) -> None:
        """Nobody does any more."""
        self._short.pop(queue, None)

    def short(self) -> Iterator[GroupQueue]:
        """The queues that need room, in turn."""
        return iter(self._short)

    def look_anew(self, keys: Iterable[Hashable] | None = None) -> None:
        """Something has changed at some backends that no manager tells, such as their health;
        C{None}: at all. This may begin a panic, in which all ejected backends serve, or end it."""
        was, self._was_panic = self._was_panic, self._panic.is_on
        panic_changed = was is not self._was_panic
        if keys is None or panic_changed:
            keys = self.backends
        self._open_all([key for key in keys if key in self.backends])
        self._tell()
        if panic_changed or self._panic.ejected:
            for queue in tuple(self.queues):
                queue.service_changed(panic_changed)

    def has_room_at(self, where: Any) -> None:
        """A backend may have room.

        @param where: the record of the backend.
        """
        self._awaited.discard(where.backend.key)
        if where.backend.key in self.backends:
            self._open_all([where.backend.key])
            self._tell(where.backend)

    def _tell(self, backend: Backend | None = None) -> None:
        """Have the queues that need room look, in turn.

        @param backend: stop when it has no room any more.
        """
        for _ in range(len(self._short)):
            queue = next(iter(self._short), None)
            if queue is None:
                return
            if backend is not None and not self._group_managers.may_make(backend):
                self.wait_for(backend)
                return
            self._short.move_to_end(queue)
            queue.place_short()

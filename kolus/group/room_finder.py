"""C{RoomFinder}: finds backends with room: they may connect at once for one more request.

Its state is the backends; those that may have room, in turn; those of its managers that had none,
in turn; and the number of the last opening that it has looked at.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Hashable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from kolus.backend import Backend, Backends

if TYPE_CHECKING:
    from kolus.group.group_managers import GroupManagers
    from kolus.group.openings import Openings
    from kolus.group.queue import GroupQueue

__all__ = ["RoomFinder"]

_MOST_LOOKED_AT = 8  # of those without room, when a slot of the pool may give them some


class RoomFinder:
    """Finds backends with room for the requests of one ident.

    @ivar backends: the backends by their keys. Only C{change} changes it.
    """

    def __init__(
        self,
        queue: GroupQueue,
        ident: Hashable,
        backends: Backends,
        group_managers: GroupManagers,
        openings: Openings,
    ) -> None:
        """
        @param queue: is told when a backend that had no room may have some.
        """
        self._queue = queue
        self._ident = ident
        self.backends = backends
        self._group_managers = group_managers
        self._openings = openings
        self._roomy: OrderedDict[Backend, None] = OrderedDict()
        self._full: OrderedDict[Backend, None] = OrderedDict()
        self._seen = -1

    def change(self, backends: Backends) -> None:
        """Set the backends."""
        self.backends = backends
        known = [each.key for each in chain(self._roomy, self._full)]
        self._full.clear()
        self._roomy.clear()
        self._roomy.update({backends[key]: None for key in known if key in backends})

    def note(self, backend: Backend) -> None:
        """Note that a backend may have room."""
        self._roomy[backend] = None
        self._full.pop(backend, None)

    def has_room(self, backend: Backend) -> bool:
        """Whether a backend is one of these and may connect at once for one more request."""
        if backend.key not in self.backends or not self._queue.may_serve(backend):
            return False
        manager = self._group_managers.find(self._ident, backend)
        if manager is None:
            return self._group_managers.may_make(backend)
        return bool(manager.placements.has_surplus(fresh=self._queue.fresh))

    def next(
        self, exclude: Container[object] = (), besides: Backend | None = None
    ) -> Backend | None:
        """A backend with room, each in turn; C{None} if there is none.

        @param exclude: backends to skip. They should be few, since each is skipped one by one.
        @param besides: one more of these.
        """
        for _ in range(len(self._roomy)):
            backend = next(iter(self._roomy))
            if not self.has_room(backend):
                del self._roomy[backend]
                self._wait_for(backend)
                continue
            self._roomy.move_to_end(backend)
            if backend not in exclude and backend != besides:
                return backend
        # The pool told only those who were short when it got slots.
        if self._group_managers.pool_has_slots():
            some = iter([each.key for each in self._some_full()])
            found = self.next_of(some, exclude, besides)
            if found is not None:
                return found
        self._openings.open_again()
        return self.next_of(self._unseen(), exclude, besides)

    def _unseen(self) -> Iterator[Hashable]:
        """The keys of the backends that may have room, of openings that were not looked at yet."""
        while (opening := self._openings.after(self._seen)) is not None:
            self._seen, key = opening
            yield key

    def once_each(self) -> Iterator[Hashable]:
        """The keys of all backends, for a request that tries each of them once."""
        return iter(tuple(self.backends))

    def next_of(
        self, keys: Iterator[Hashable], exclude: Container[object], besides: Backend | None = None
    ) -> Backend | None:
        """The next of the backends with these keys that has room."""
        for key in keys:
            backend = self._find(key)
            if backend is None:
                continue
            if self.has_room(backend):
                self.note(backend)
                if backend not in exclude and backend != besides:
                    return backend
            else:
                self._wait_for(backend)
        return None

    def _wait_for(self, backend: Backend) -> None:
        """Have the queue told when a backend without room has some. Changes of health are told to
        all queues anyway."""
        manager = self._group_managers.find(self._ident, backend)
        if backend.key not in self.backends:
            return
        if manager is None:
            self._full.pop(backend, None)
            self._openings.wait_for(backend)
        elif self._queue.may_serve(backend):
            manager.placements.await_room(self._queue)
            self._full[backend] = None
            self._full.move_to_end(backend)
            due = self._group_managers.attempt_due(backend)
            self._openings.attempt_is_due(backend, due)

    def ask_pool(self) -> None:
        """Somebody waits for whom no connection is on its way. Have a backend that lacks only a
        slot of the pool ask for one."""
        for backend in self._some_full() if self._group_managers.pool_is_full() else ():
            if self._group_managers.ask_pool(backend):
                return
            if backend in self._full:
                self._full.move_to_end(backend)
            else:
                self._openings.look_last(backend)

    def _some_full(self) -> list[Backend]:
        """Those of the backends without room that were not looked at for longest."""
        full = islice(self._full, _MOST_LOOKED_AT), islice(self._openings.full(), _MOST_LOOKED_AT)
        return list(chain(*full))

    def _find(self, key: Any) -> Backend | None:
        """The backend with a key; C{None} if it has left meanwhile, or is not a backend."""
        not_backends = self._openings.not_backends
        try:
            return None if key in not_backends else self.backends.get(key)
        except (TypeError, ValueError) as error:
            not_backends[key] = error
            return None

    def all(self) -> Iterator[Backend]:
        """The backends, without what turns out not to be one."""
        found = map(self._find, self.backends)
        return (each for each in found if each is not None)

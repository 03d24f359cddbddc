"""C{Places}: which of several backends may connect at once for one request more.

Its state is the backends, those of them that may have room, in turn, those that are still to be
looked at because they may have some by now, and when to look at all of them again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Container, Hashable, Iterator
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

from kolus.backend import AnyBackend, Backend, Backends

if TYPE_CHECKING:
    from kolus.group.queue import GroupQueue
    from kolus.group.servers import Servers

__all__ = ["Places", "Tried"]

Tried = dict[AnyBackend, BaseException]
"""What became of a request at the backends that could not serve it. A string in a list of backends
that turns out to be none stands for itself."""

_SWEEP_EVERY = 1.0  # seconds


class Places:
    """Finds backends with room for the requests of one ident.

    @ivar backends: whom it finds, by their keys; C{change} alone changes it.
    @ivar refused: what turned out to be no backend when it was looked at, and why.
    """

    def __init__(
        self,
        queue: GroupQueue,
        ident: Hashable,
        backends: Backends,
        servers: Servers,
        clock: IReactorTime,
    ) -> None:
        """
        @param queue: is told when there may be room where there was none.
        """
        self._queue = queue
        self._ident = ident
        self.backends = backends
        self._servers = servers
        self._clock = clock
        self._roomy: OrderedDict[Backend, None] = OrderedDict()
        self.refused: Tried = {}
        self._unseen: Iterator[Hashable] = iter(())
        self._sweep_at = clock.seconds()

    def change(self, backends: Backends) -> None:
        """These are the backends from now on."""
        self.backends = backends
        self._roomy.clear()
        self.look_anew()

    def look_anew(self) -> None:
        """Look at all of them when room is next needed."""
        self._sweep_at = self._clock.seconds()

    def note(self, backend: Backend) -> None:
        """This one may have room."""
        self._roomy[backend] = None

    def has_room(self, backend: Backend) -> bool:
        """Whether one of them may connect at once for one request more."""
        if backend.key not in self.backends or not self._queue.may_serve(backend):
            return False
        server = self._servers.find(self._ident, backend)
        if server is None:
            return self._servers.may_make(backend)
        return bool(server.placements.surplus() > 0)

    def next(self, exclude: Collection[object] = ()) -> Backend | None:
        """One that has room, each in turn.

        @param exclude: those that are not meant: a few, since each is passed over one by one.
        """
        for _ in range(len(self._roomy)):
            backend = next(iter(self._roomy))
            if not self.has_room(backend):
                del self._roomy[backend]
                self._wait_for(backend)
                continue
            self._roomy.move_to_end(backend)
            if backend not in exclude:
                return backend
        now = self._clock.seconds()
        if now >= self._sweep_at:
            # Who was without room may have some by now, and nobody to tell it.
            self._sweep_at = now + _SWEEP_EVERY
            self._unseen = iter(tuple(self.backends))
        return self._first_of(self._unseen, exclude)

    def once_each(self) -> Iterator[Hashable]:
        """The keys of all, for a request that is to try each of them once."""
        return iter(tuple(self.backends))

    def next_of(self, keys: Iterator[Hashable], exclude: Container[object]) -> Backend | None:
        """The next of these that has room."""
        return self._first_of(keys, exclude)

    def _first_of(self, keys: Iterator[Hashable], exclude: Container[object]) -> Backend | None:
        for key in keys:
            backend = self._find(key)
            if backend is None:
                continue
            if self.has_room(backend):
                self._roomy[backend] = None
                if backend not in exclude:
                    return backend
            else:
                self._wait_for(backend)
        return None

    def _wait_for(self, backend: Backend) -> None:
        """Hear when one that has no room has some. Changes of health are told to all queues."""
        if not self._queue.may_serve(backend):
            return
        self._servers.await_room(self._queue, backend)
        self._queue.look_at(self._servers.attempt_due(backend))

    def _find(self, key: Any) -> Backend | None:
        """The backend with a key; C{None} if it has left meanwhile, or is none."""
        try:
            return None if key in self.refused else self.backends.get(key)
        except (TypeError, ValueError) as error:
            self.refused[key] = error
            return None

    def all(self) -> Iterator[Backend]:
        """The backends, without what turns out to be none."""
        found = map(self._find, self.backends)
        return (each for each in found if each is not None)

"""C{Places}: finds backends with room: they may connect at once for one more request.

Its state is the backends; those that may have room, in turn; those that lack only a slot of the
pool; those not looked at yet since the last sweep; when the next sweep over all of them is due; and
what turned out not to be a backend.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Hashable, Iterator
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

from kolus.backend import AnyBackend, Backend, Backends

if TYPE_CHECKING:
    from kolus.group.queue import GroupQueue
    from kolus.group.servers import Servers

__all__ = ["Places", "Tried"]

Tried = dict[AnyBackend, BaseException]
"""The backends that could not serve a request, and why. A string in a list that turned out not to
be a backend is a key, too."""

_SWEEP_EVERY = 1.0  # seconds


class Places:
    """Finds backends with room for the requests of one ident.

    @ivar backends: the backends by their keys. Only C{change} changes it.
    @ivar refused: what turned out not to be a backend when it was looked at, and why.
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
        @param queue: is told when a backend that had no room may have some.
        """
        self._queue = queue
        self._ident = ident
        self.backends = backends
        self._servers = servers
        self._clock = clock
        self._roomy: OrderedDict[Backend, None] = OrderedDict()
        self._lacking: OrderedDict[Backend, None] = OrderedDict()
        self.refused: Tried = {}
        self._unseen: Iterator[Hashable] = iter(())
        self._sweep_at = clock.seconds()

    def change(self, backends: Backends) -> None:
        """Set the backends."""
        self.backends = backends
        self._roomy.clear()
        self._lacking.clear()
        self.look_anew()

    def look_anew(self) -> None:
        """Look at all backends when room is next needed."""
        self._sweep_at = self._clock.seconds()

    def note(self, backend: Backend) -> None:
        """Note that a backend may have room."""
        self._roomy[backend] = None

    def has_room(self, backend: Backend) -> bool:
        """Whether a backend is one of these and may connect at once for one more request."""
        if backend.key not in self.backends or not self._queue.may_serve(backend):
            return False
        server = self._servers.find(self._ident, backend)
        if server is None:
            return self._servers.may_make(backend)
        return bool(server.placements.has_surplus(fresh=self._queue.fresh))

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
        now = self._clock.seconds()
        if now >= self._sweep_at:
            # A backend that had no room may have some now, and may have nobody to tell it.
            self._sweep_at = now + _SWEEP_EVERY
            self._unseen = self.once_each()
        return self.next_of(self._unseen, exclude, besides)

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
                self._roomy[backend] = None
                if backend not in exclude and backend != besides:
                    return backend
            else:
                self._wait_for(backend)
        return None

    def _wait_for(self, backend: Backend) -> None:
        """Have the queue told when a backend without room has some. Changes of health are told to
        all queues anyway."""
        if not self._queue.may_serve(backend):
            return
        if self._servers.await_room(self._queue, backend):
            self._lacking[backend] = None
        self._queue.look_at(self._servers.attempt_due(backend))

    def ask_pool(self) -> None:
        """Somebody waits for whom no connection is on its way. Have a backend that lacks only a
        slot of the pool ask for one."""
        while self._lacking and not self._servers.ask_pool(next(iter(self._lacking))):
            self._lacking.popitem(last=False)

    def _find(self, key: Any) -> Backend | None:
        """The backend with a key; C{None} if it has left meanwhile, or is not a backend."""
        try:
            return None if key in self.refused else self.backends.get(key)
        except (TypeError, ValueError) as error:
            self.refused[key] = error
            return None

    def all(self) -> Iterator[Backend]:
        """The backends, without what turns out not to be one."""
        found = map(self._find, self.backends)
        return (each for each in found if each is not None)

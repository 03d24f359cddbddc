"""C{Room}: which of several backends may connect at once for one request more.

Its state is the backends, those of them that may have room, in turn, those that are to be looked at
because they may have some by now, and when to look at all of them again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterator
from typing import Any

from twisted.internet.interfaces import IReactorTime

from kolus.backend import Backend, Backends
from kolus.manager.house import House, Server
from kolus.manager.waiters import Tried

__all__ = ["Room"]

_SWEEP_EVERY = 1.0


class Room:
    """Finds backends with room for the requests of one ident.

    @ivar backends: whom it finds, by their keys; C{change} alone changes it.
    @ivar refused: what turned out to be no backend when it was looked at, and why.
    """

    def __init__(
        self,
        ident: Hashable,
        backends: Backends,
        house: House,
        clock: IReactorTime,
        may_serve: Callable[[Backend], bool],
        look_at: Callable[[float], object],
    ) -> None:
        """
        @param may_serve: whether a backend's health lets it serve.
        @param look_at: called with a time, on the clock, at which there may be more room.
        """
        self._ident = ident
        self.backends = backends
        self._house = house
        self._clock = clock
        self._may_serve = may_serve
        self._look_at = look_at
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

    def is_known(self) -> bool:
        """Whether any may have room, as far as was noted."""
        return bool(self._roomy)

    def has(self, backend: Backend) -> bool:
        """Whether one of them may connect at once for one request more."""
        if backend.key not in self.backends or not self._may_serve(backend):
            return False
        server = self._house.server(self._ident, backend)
        if server is None:
            return self._house.may_make(self._ident, backend)
        return self.surplus(server) > 0

    def surplus(self, server: Server) -> int:
        """For how many more a manager may connect; below 0: how many wait there in vain."""
        if server.is_ejected() and not self._may_serve(server.backend):
            return -len(server.waiting)
        return server.surplus()

    def next(self, exclude: Collection[object]) -> Backend | None:
        """One that has room, each in turn."""
        for _ in range(len(self._roomy)):
            backend = next(iter(self._roomy))
            if not self.has(backend):
                del self._roomy[backend]
                continue
            self._roomy.move_to_end(backend)
            if backend not in exclude:
                return backend
        now = self._clock.seconds()
        if now >= self._sweep_at:
            # Who was without room may have some by now, and nobody to tell it.
            self._sweep_at = now + _SWEEP_EVERY
            self._unseen = iter(tuple(self.backends))
        for key in self._unseen:
            unseen = self._find(key)
            if unseen is None:
                continue
            if self.has(unseen):
                self._roomy[unseen] = None
                if unseen not in exclude:
                    return unseen
            else:
                self._look_at(self._house.attempt_due(unseen))
        return None

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

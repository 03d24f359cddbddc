"""C{Durations}: an observer that counts how long requests wait, leases last and connects take.

Its state is three histograms for each backend that had such events lately, the latest last. Only
events change it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from kolus.backend import AnyBackend, Backend
from kolus.events import Connected, Event, Leased, Settled
from kolus.support import Histogram, check_whole

__all__ = ["BackendDurations", "Durations"]


class BackendDurations:
    """The histograms of one backend.

    @ivar wait: seconds from the request to the lease; 0.0 for what was served at once.
    @ivar hold: seconds from the lease to its end.
    @ivar connect: seconds that the attempts that succeeded took, with C{prepare}.
    """

    __slots__ = ("connect", "hold", "wait")

    def __init__(self) -> None:
        self.wait = Histogram()
        self.hold = Histogram()
        self.connect = Histogram()


class Durations:
    """Measures what it is called with: C{Pool(..., observers=[durations])}."""

    def __init__(self, most: int = 1000) -> None:
        """
        @param most: how many backends are kept. When another comes, the one without events for
            longest is dropped. If it comes again, it begins with empty histograms.
        @raise ValueError: C{most} is no whole number of at least 1.
        """
        check_whole("most", most, 1)
        self._most = most
        self._backends: OrderedDict[Backend, BackendDurations] = OrderedDict()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Leased):
            self._at(event.backend).wait.add(event.waited)
        elif isinstance(event, Settled):
            self._at(event.backend).hold.add(event.held)
        elif isinstance(event, Connected):
            self._at(event.backend).connect.add(event.took)

    def __iter__(self) -> Iterator[tuple[Backend, BackendDurations]]:
        return iter(tuple(self._backends.items()))

    def of(self, backend: AnyBackend) -> BackendDurations:
        """The histograms of a backend; empty ones if nothing happened, or if it was dropped."""
        return self._backends.get(Backend.of(backend)) or BackendDurations()

    def _at(self, backend: Backend) -> BackendDurations:
        found = self._backends.get(backend)
        if found is None:
            if len(self._backends) >= self._most:
                self._backends.popitem(last=False)
            found = self._backends[backend] = BackendDurations()
        else:
            self._backends.move_to_end(backend)
        return found

"""C{Panic}: if too many backends of a list are ejected, balancers may choose among all of them.

Its state: the backends; the number of ejected ones at the last count; whether panic is on; and the
number of requests that went to ejected backends.

The threshold is Envoy's default: panic begins when fewer than half are healthy. The healthy ones
would be overloaded, and the cause of the failures is probably here, not at the backends. So at most
half of the backends of a group are out of use, and never the only one.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Protocol

from twisted.logger import Logger

if TYPE_CHECKING:
    from kolus.backend import Backend, Backends

__all__ = ["Panic"]

_log = Logger()


class Healths(Protocol):
    """The health of all backends of a pool: its records.

    @ivar health_changes: how often a backend was ejected or admitted.
    @ivar sick: the backends that are not well, by their keys.
    """

    health_changes: int

    @property
    def sick(self) -> Mapping[Hashable, object]: ...


class Panic:
    """Counts the ejected backends of a group, or of a list.

    @ivar requests: number of requests that went to ejected backends.
    """

    def __init__(self, records: Healths, backends: Backends, *, logs: bool = False) -> None:
        """
        @param backends: the backends by their keys.
        @param logs: whether to log the begin of panic.
        """
        self.requests = 0
        self._logs = logs
        self._records = records
        self._is_on = False
        self.change(backends)

    def change(self, backends: Backends) -> None:
        """Set the backends."""
        self._backends = backends
        self._count()

    def may_serve(self, backend: Backend) -> bool:
        """Whether the health of a backend lets it serve requests that were not placed there."""
        return backend.key not in self._records.sick or self.is_on

    @property
    def is_on(self) -> bool:
        """Whether balancers may choose ejected backends too."""
        self._look()
        return self._is_on

    @property
    def ejected(self) -> int:
        """Number of ejected backends."""
        self._look()
        return self._ejected

    def _look(self) -> None:
        """Count again, if the health of any backend has changed."""
        if self._seen != self._records.health_changes:
            self._count()

    def _count(self) -> None:
        self._seen = self._records.health_changes
        backends, sick = self._backends, self._records.sick
        fewer, more = (sick, backends) if len(sick) < len(backends) else (backends, sick)
        self._ejected = sum([key in more for key in fewer])
        is_on = 2 * self._ejected > len(backends)
        if self._logs and is_on and not self._is_on:
            _log.warn(
                "{ejected} of {all} backends are ejected: balancers choose among all of them until "
                "half are healthy",
                ejected=self._ejected,
                all=len(backends),
            )
        self._is_on = is_on

"""C{Panic}: whether so few of several backends are healthy that all are to be chosen from.

Its state is which backends these are, how many were ejected when that was last asked, and how often
a request was given to one of them all the same.

The threshold is Envoy's: with fewer than half healthy, those would be overloaded by what the
others had to do, and the failures are likelier to be ours than theirs. So at most half of the
backends of a group are ever out of use, and never the only one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

if TYPE_CHECKING:
    from kolus.backend import Backends
    from kolus.manager import Records

__all__ = ["Panic"]

_log = Logger()


class Panic:
    """Watches over how many backends of a group, or of a list, are ejected.

    @ivar requests: how many requests ejected ones were given.
    """

    def __init__(self, records: Records, *, is_told: bool = True) -> None:
        """
        @param is_told: whether the log says when it begins.
        """
        self.requests = 0
        self._is_told = is_told
        self._records = records
        self._backends: Backends = {}
        self._seen = records.health_changes
        self._ejected = 0
        self._is_on = False

    def watch_over(self, backends: Backends) -> None:
        """These are the backends from now on, by their keys."""
        self._backends = backends
        self._count()

    @property
    def is_on(self) -> bool:
        """Whether ejected ones may be chosen, too."""
        self._look()
        return self._is_on

    @property
    def ejected(self) -> int:
        """How many are ejected."""
        self._look()
        return self._ejected

    def _look(self) -> None:
        """See whether it is time to panic, or over."""
        if self._seen != self._records.health_changes:
            self._count()

    def _count(self) -> None:
        self._seen = self._records.health_changes
        backends, sick = self._backends, self._records.sick
        fewer, more = (sick, backends) if len(sick) < len(backends) else (backends, sick)
        self._ejected = sum([key in more for key in fewer])
        is_on = 2 * self._ejected > len(backends)
        if self._is_told and is_on and not self._is_on:
            _log.warn(
                "{ejected} of {all} backends are ejected: until half are well, all are chosen from",
                ejected=self._ejected,
                all=len(backends),
            )
        self._is_on = is_on

"""C{Panic}: whether so few of a group's backends are healthy that all are to be chosen from.

Its state is how many were ejected when that last changed, and how often a request was given to
one of them all the same.

The threshold is Envoy's: with fewer than half healthy, those would be overloaded by what the
others had to do, and the failures are likelier to be ours than theirs. So at most half of the
backends of a group are ever out of use, and never the only one.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

from twisted.logger import Logger

from kolus.backend import Backend

if TYPE_CHECKING:
    from kolus.accounts import Accounts

__all__ = ["Panic"]

_log = Logger()


class Panic:
    """Watches over how many backends of a group are ejected.

    @ivar is_on: whether ejected ones may be chosen, too.
    @ivar ejected: how many are ejected.
    @ivar requests: how many requests ejected ones were given.
    """

    def __init__(self, accounts: Accounts) -> None:
        self.is_on = False
        self.ejected = self.requests = 0
        self._accounts = accounts
        self._seen = -1
        self._of: Mapping[Hashable, Backend] = {}

    def look(self, backends: Mapping[Hashable, Backend]) -> None:
        """See whether it is time to panic, or over.

        @param backends: the group's, by their keys: another mapping for another list.
        """
        if self._seen == self._accounts.health_changes and self._of is backends:
            return
        self._seen, self._of = self._accounts.health_changes, backends
        sick = self._accounts.sick
        fewer, more = (sick, backends) if len(sick) < len(backends) else (backends, sick)
        self.ejected = sum([key in more for key in fewer])
        is_on = 2 * self.ejected > len(backends)
        if is_on and not self.is_on:
            _log.warn(
                "{ejected} of {all} backends are ejected: until half are well, all are chosen from",
                ejected=self.ejected,
                all=len(backends),
            )
        self.is_on = is_on

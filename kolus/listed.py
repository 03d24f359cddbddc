"""C{Listed}: the backends of a mere list as a balancer sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kolus.backend import AnyBackend, Backend, Status
from kolus.candidates import lighter
from kolus.live_status import LiveStatus, Statuses

if TYPE_CHECKING:
    from kolus.observatory import Observatory

__all__ = ["Listed"]


class Listed(Statuses):
    """The live statuses of a list of backends, each made when it is looked at."""

    def __init__(self, backends: Sequence[AnyBackend], observatory: Observatory) -> None:
        self.size = len(backends)
        self.among = self
        self._backends = backends
        self._observatory = observatory

    def at(self, place: int) -> LiveStatus:
        return LiveStatus(self._backend(place), self._observatory, self)

    def lighter(self, first: int, second: int) -> Status | None:
        one, other = self._backend(first), self._backend(second)
        find = self._observatory.find_account
        account, its = find(one.key), find(other.key)
        if account is not None and its is not None:
            load, other_load = account.noted_load, its.noted_load
            if load > 0 and other_load > 0:
                if other_load * one.weight < load * other.weight:
                    return LiveStatus(other, self._observatory, self, its)
                return LiveStatus(one, self._observatory, self, account)
        both = ((one, account), (other, its))
        return lighter([LiveStatus(each, self._observatory, self, of) for each, of in both], 0, 1)

    def _backend(self, place: int) -> Backend:
        given = self._backends[place]
        if isinstance(given, Backend):
            return given
        try:
            return self._observatory.backend(given)
        except (TypeError, ValueError) as error:
            self.refused = (given, error)
            raise

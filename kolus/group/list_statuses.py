"""C{ListStatuses}: the statuses that a balancer chooses from for a list of backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kolus.backend import AnyBackend, Backend
from kolus.balance import lighter
from kolus.group.live_status import LiveStatus, Statuses

if TYPE_CHECKING:
    from kolus.manager import Snapshots
    from kolus.status import Status

__all__ = ["ListStatuses"]


class ListStatuses(Statuses):
    """The live statuses of a list of backends. Each is made when it is looked at, not kept."""

    def __init__(self, backends: Sequence[AnyBackend], snapshots: Snapshots) -> None:
        self.size = len(backends)
        self.among = self
        self._backends = backends
        self._snapshots = snapshots

    def at(self, place: int) -> LiveStatus:
        return LiveStatus(self._backend(place), self._snapshots, self)

    def lighter(self, first: int, second: int) -> Status | None:
        one, other = self._backend(first), self._backend(second)
        find = self._snapshots.find_record
        record, its = find(one.key), find(other.key)
        if record is not None and its is not None and record.noted > 0 and its.noted > 0:
            load = record.noted - len(record.idle)
            other_load = its.noted - len(its.idle)
            if other_load * one.weight < load * other.weight:
                return LiveStatus(other, self._snapshots, self, its)
            return LiveStatus(one, self._snapshots, self, record)
        both = ((one, record), (other, its))
        return lighter([LiveStatus(each, self._snapshots, self, of) for each, of in both], 0, 1)

    def _backend(self, place: int) -> Backend:
        given = self._backends[place]
        if isinstance(given, Backend):
            return given
        try:
            return self._snapshots.backend(given)
        except (TypeError, ValueError) as error:
            self.refused = (given, error)
            raise

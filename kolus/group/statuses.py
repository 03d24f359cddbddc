"""C{Statuses}: what a balancer chooses from: the live statuses of a list of backends or a group."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, overload

from kolus.backend import AnyBackend, Backend
from kolus.balance import lighter_of
from kolus.group.live_status import LiveStatus
from kolus.health import Panic
from kolus.status import Status

if TYPE_CHECKING:
    from kolus.group.queue import GroupQueue
    from kolus.group.queues import Queues
    from kolus.manager import Managers

__all__ = ["ListStatuses", "Statuses"]


class Statuses(Sequence[Status]):
    """A sequence of live statuses.

    @ivar size: their number.
    @ivar among: the sequence that they name as theirs: this, or the one that this is a part of.
    @ivar managers: the managers of the pool, where numbers are looked up.
    @ivar panic: says whether ejected backends may be chosen, too; C{None}: they may not.
    @ivar excluded: the keys of the backends that were left out.
    @ivar refused: the last item of a list that turned out not to be a backend, and the error.
    """

    size: int
    among: Statuses
    managers: Managers
    panic: Panic | None = None
    excluded: Collection[Hashable] = ()
    refused: tuple[AnyBackend, Exception] | None = None

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, place: int) -> Status: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Status]: ...
    def __getitem__(self, place: int | slice) -> Status | Sequence[Status]:
        if isinstance(place, slice):
            return [self.at(each) for each in range(*place.indices(self.size))]
        return self.at(place)

    @abstractmethod
    def at(self, place: int) -> LiveStatus:
        """
        @raise IndexError: there is no such place.
        """


class ListStatuses(Statuses):
    """The live statuses of a list of backends. Each is made when it is looked at, not kept."""

    is_fixed = True

    def __init__(self, backends: Sequence[AnyBackend], queues: Queues) -> None:
        """
        @param queues: the queues of the pool's lists.
        """
        self.size = len(backends)
        self.among = self
        self.managers = queues.managers
        self._backends = backends
        self._queues = queues
        if 2 * len(self.managers.records.sick) > self.size:  # else there is no panic
            self.panic = self._panic(self._keyed())

    @property
    def statuses(self) -> Statuses:
        """All of them; a group has this, too."""
        return self

    def at(self, place: int) -> LiveStatus:
        return LiveStatus(self._backend(place), self)

    def lighter(self, first: int, second: int) -> Status | None:
        one, other = self._backend(first), self._backend(second)
        find = self.managers.records.find
        record, its = find(one.key), find(other.key)
        if record is not None and its is not None:
            lighter = record.load.lighter(its.load, one.weight, other.weight)
            if lighter is not None:
                if lighter is record.load:
                    return LiveStatus(one, self, record)
                return LiveStatus(other, self, its)
        return lighter_of(LiveStatus(one, self, record), LiveStatus(other, self, its))

    def _backend(self, place: int) -> Backend:
        given = self._backends[place]
        if isinstance(given, Backend):
            return given
        try:
            return self.managers.records.backend(given)
        except (TypeError, ValueError) as error:
            self.refused = (given, error)
            raise

    def without(self, exclude: Collection[AnyBackend]) -> ListStatuses:
        """Those that are left without some backends."""
        keys = {Backend.key_of(each) for each in exclude}
        left = [each for each in self._backends if Backend.key_of(each) not in keys]
        statuses = ListStatuses(left, self._queues)
        statuses.excluded = keys
        return statuses

    def all_named(self) -> str:
        return "them all"

    def queue(
        self, ident: Hashable, exclude: Collection[AnyBackend] = (), fresh: bool = False
    ) -> GroupQueue:
        """The queue of the requests of C{ident} for any of these backends."""
        # The caller may change its list while the request waits.
        self._backends = tuple(self._backends)
        backends = (self.without(exclude) if exclude else self)._keyed()
        keys = frozenset(backends)
        queue = self._queues.find(ident, keys, fresh)
        if queue is None:
            openings = self._queues.openings(keys, backends, lambda: self._panic(backends))
            queue = self._queues.make(*(ident, keys, backends, openings), lasts=False, fresh=fresh)
        return queue

    def _keyed(self) -> _ByKey:
        return _ByKey(self._backends, self.managers)

    def _panic(self, backends: _ByKey) -> Panic:
        return Panic(self.managers.records, backends)


class _ByKey(Mapping[Hashable, Backend]):
    """The backends of a list by their keys. A string is parsed only when it is looked up: of a list
    of ten thousand, a request looks up very few."""

    def __init__(self, backends: Sequence[AnyBackend], managers: Managers) -> None:
        self._given = {Backend.key_of(each): each for each in backends}
        self._records = managers.records

    def __getitem__(self, key: Hashable) -> Backend:
        return self._records.backend(self._given[key])

    def __contains__(self, key: object) -> bool:
        return key in self._given

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)

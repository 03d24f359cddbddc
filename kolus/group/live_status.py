"""C{LiveStatus}: a status whose numbers are looked up when a balancer reads them.

It stores no numbers. So a balancer that compares the loads of two of ten thousand backends pays for
two. The load is read from the backend's record and managers; what few balancers read comes from a
C{Status} made for that one query.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Hashable, Sequence
from typing import TYPE_CHECKING, overload

from kolus.status import State, Status

if TYPE_CHECKING:
    from kolus.backend import AnyBackend, Backend
    from kolus.health import Panic
    from kolus.interfaces import IKolusManager
    from kolus.manager import BackendRecord, Snapshots

__all__ = ["LiveStatus", "Statuses"]


class LiveStatus(Status):
    """The current numbers of one backend.

    @ivar among: the sequence that it belongs to.
    """

    __slots__ = ("_backend", "_record", "_snapshots", "among")
    # The setters of a frozen dataclass with slots fail in subclasses; without slots it is slow.
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__

    def __init__(
        self,
        backend: Backend,
        snapshots: Snapshots,
        among: Statuses,
        record: BackendRecord | None = None,
    ) -> None:
        """
        @param record: the backend's record, if it was looked up before.
        """
        self._backend = backend
        self._snapshots = snapshots
        self._record = record
        self.among = among

    @property
    def record(self) -> BackendRecord | None:
        """The backend's record; C{None} if it was never used."""
        if self._record is None:
            self._record = self._snapshots.find_record(self._backend.key)
        return self._record

    @property
    def load(self) -> float:
        record = self._record or self.record
        if record is None:
            is_untouched = self._snapshots.is_untouched(self._backend)
            return 1 / self._backend.weight if is_untouched else self._slow_load()
        load = record.load()
        return load / self._backend.weight if load > 0 else self._slow_load()

    @property
    def outstanding(self) -> int:
        """The number of leases and waiters at the backend."""
        load = -1 if self.record is None else self.record.load()
        return load - 1 if load > 0 else self.leased + self.waiting

    def _slow_load(self) -> float:
        status = self.snapshot()
        return status.pressure if self._may_take(status) else math.inf

    @property
    def takes_requests(self) -> bool:
        record = self._record or self.record
        is_known = record is not None and record.load() > 0
        return is_known or self._may_take(self.snapshot())

    def _may_take(self, status: Status) -> bool:
        panic = self.among.panic
        panics = panic is not None and panic.is_on and status.state is State.EJECTED
        return status.takes_requests or panics

    def snapshot(self) -> Status:
        """A status with the current numbers, which does not change any more."""
        return self._snapshots.snapshot(self._backend)

    @property
    def room(self) -> int:
        record = self.record
        if record is None or len(record.members) != 1:
            return self.snapshot().room
        return record.members[0].room()

    @property
    def backend(self) -> Backend:
        return self._backend

    @property
    def manager(self) -> IKolusManager | None:
        return self.snapshot().manager

    @property
    def ident(self) -> Hashable:
        return self.snapshot().ident

    @property
    def idle(self) -> int | None:
        record = self.record
        if record is None or not record.members:
            return self.snapshot().idle
        return sum([each.ready() for each in record.members])

    @property
    def leased(self) -> int:
        record = self.record
        if record is None:
            return 0 if self._snapshots.is_untouched(self._backend) else self.snapshot().leased
        return sum([each.load() - each.demand() for each in record.members])

    @property
    def connecting(self) -> int:
        return self.snapshot().connecting

    @property
    def unused(self) -> int | None:
        return self.snapshot().unused

    @property
    def waiting(self) -> int:
        record = self.record
        if record is None:
            return 0 if self._snapshots.is_untouched(self._backend) else self.snapshot().waiting
        return sum([each.demand() for each in record.members])

    @property
    def limit(self) -> int:
        return self.snapshot().limit

    @property
    def state(self) -> State:
        return self.snapshot().state

    @property
    def ramp(self) -> float:
        record = self.record
        return 1.0 if record is None else record.health.ramp()


class Statuses(Sequence[Status]):
    """A sequence of live statuses to choose from.

    @ivar size: their number.
    @ivar among: the sequence that they name as theirs: this, or the one that this is a part of.
    @ivar panic: says whether ejected backends may be chosen, too; C{None}: they may not.
    @ivar excluded: the keys of the backends that were left out.
    @ivar refused: the last item of a list that turned out not to be a backend, and the error.
    """

    size: int
    among: Statuses
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

    def lighter_record(self, first: int, second: int) -> BackendRecord | None:
        """What is known of the less loaded of those at two places, the first if they are equal.

        C{None} unless it is noted of both that they serve, and what they have to do.
        """

    @abstractmethod
    def at(self, place: int) -> LiveStatus:
        """
        @raise IndexError: there is no such place.
        """

"""C{LiveStatus}: a status whose numbers are looked up when a balancer reads them.

It stores no numbers. So a balancer that compares the loads of two of ten thousand backends pays for
two. What balancers read most comes from the backend's record and managers; the rest comes from a
C{Status} made for that one query.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from kolus.manager import backend_status
from kolus.status import State, Status

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.group.statuses import Statuses
    from kolus.manager import BackendRecord

__all__ = ["LiveStatus"]


class LiveStatus(Status):
    """The current numbers of one backend.

    @ivar among: the sequence that it belongs to.
    """

    __slots__ = ("_record", "among")
    # The setters of a frozen dataclass with slots fail in subclasses; without slots it is slow.
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__

    def __init__(
        self, backend: Backend, among: Statuses, record: BackendRecord | None = None
    ) -> None:
        """
        @param record: the backend's record, if it was looked up before.
        """
        self.backend = backend  # type: ignore[misc]
        self._record = record
        self.among = among

    def snapshot(self) -> Status:
        """A status with the current numbers, which does not change any more."""
        return backend_status(self.among.managers, self.backend)

    @property
    def record(self) -> BackendRecord | None:
        """The backend's record; C{None} if it was never used. Each query asks C{_record} first, as
        a call would cost half of it."""
        if self._record is None:
            self._record = self.among.managers.records.find(self.backend.key)
        return self._record

    def _is_untouched(self) -> bool:
        return self.among.managers.is_untouched(self.backend)

    @property
    def load(self) -> float:
        record = self._record or self.record
        if record is None:
            return 1 / self.backend.weight if self._is_untouched() else self._slow_load()
        load = record.load.now()
        return load / self.backend.weight if load > 0 else self._slow_load()

    @property
    def outstanding(self) -> int:
        record = self._record or self.record
        load = -1 if record is None else record.load.now()
        return load - 1 if load > 0 else self.leased + self.waiting

    def _slow_load(self) -> float:
        status = self.snapshot()
        return status.pressure if self._may_take(status) else math.inf

    @property
    def takes_requests(self) -> bool:
        record = self._record or self.record
        is_known = record is not None and record.load.now() > 0
        return is_known or self._may_take(self.snapshot())

    def _may_take(self, status: Status) -> bool:
        panic = self.among.panic
        panics = panic is not None and panic.is_on and status.state is State.EJECTED
        return status.takes_requests or panics

    @property
    def idle(self) -> int | None:
        record = self._record or self.record
        if record is None or not record.members:
            return self.snapshot().idle
        return sum([each.supply.ready() for each in record.members])

    @property
    def leased(self) -> int:
        record = self._record or self.record
        if record is None:
            return 0 if self._is_untouched() else self.snapshot().leased
        return sum([each.load() - each.demand() for each in record.members])

    @property
    def waiting(self) -> int:
        record = self._record or self.record
        if record is None:
            return 0 if self._is_untouched() else self.snapshot().waiting
        return sum([each.demand() for each in record.members])

    @property
    def limit(self) -> int:
        record, managers = self._record or self.record, self.among.managers
        if record is None or not record.members:
            return managers.limits.of(self.backend) * (managers.policy.slots or 1)
        return max([each.supply.capacity() for each in record.members])

    @property
    def detached(self) -> int:
        record = self._record or self.record
        return 0 if record is None else len(record.detached)

    @property
    def ramp(self) -> float:
        record = self._record or self.record
        return 1.0 if record is None else record.health.ramp()


def _of_snapshot(name: str) -> Any:
    return property(lambda self: getattr(self.snapshot(), name))


# What few balancers read. A C{__getattr__} would make every other attribute slower, too.
for _field in fields(Status):
    if _field.name != "backend" and _field.name not in vars(LiveStatus):
        setattr(LiveStatus, _field.name, _of_snapshot(_field.name))

"""C{Snapshots}: makes the C{Status} of each backend of a pool."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kolus.backend import AnyBackend, Backend
from kolus.status import State, Status

if TYPE_CHECKING:
    from kolus.manager.managers import Managers

__all__ = ["Snapshots"]


class Snapshots:
    """Looks at the managers and records of a pool. It has no state of its own."""

    def __init__(self, managers: Managers) -> None:
        self._managers = managers
        self.find_record = managers.records.find
        self.sick = managers.records.sick

    def backend(self, backend: AnyBackend) -> Backend:
        """The backend that a string or a pair stands for.

        @raise ValueError: it is invalid.
        @raise TypeError: it is not a backend.
        """
        if isinstance(backend, str):  # parsing it is slow
            record = self.find_record(backend)
            if record is not None:
                return record.backend
        return Backend.of(backend)

    def is_untouched(self, backend: Backend) -> bool:
        """Whether a backend has no manager, and the next request makes one."""
        return backend.key not in self._managers.at and not self._managers.is_paused(backend)

    def snapshot(self, backend: Backend) -> Status:
        """The status of a backend now."""
        managers = self._managers
        statuses = [each.status() for each in managers.of(backend)]
        is_made_next = managers.makes_next(backend)
        if statuses and not is_made_next:
            if len(statuses) > 1:
                return Status.total(backend, statuses)
            (status,) = statuses
            return status if backend is status.backend else replace(status, backend=backend)
        record = self.find_record(backend.key)
        state = State.PAUSED if managers.is_paused(backend) else State.ABSENT
        if record is not None:
            state = record.health.state(state)
        if statuses:  # of managers that wait for their last leases
            return replace(Status.total(backend, statuses), manager=None, ident=None, state=state)
        slots = managers.policy.slots or 1
        limit, unused = managers.limit(backend), managers.records.budget.unused()
        return Status(
            backend=backend,
            manager=None,
            ident=None,
            idle=None,
            leased=0,
            connecting=0,
            unused=None if unused >= limit else max(0, unused) * slots,
            waiting=0,
            limit=limit * slots,
            state=state,
            ramp=1.0 if record is None else record.health.ramp(),
        )

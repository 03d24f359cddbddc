"""C{backend_status}: the C{Status} of a backend, of all its managers together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kolus.status import State, Status

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.manager.managers import Managers

__all__ = ["backend_status"]


def backend_status(managers: Managers, backend: Backend) -> Status:
    """The numbers of a backend now."""
    statuses = [each.status() for each in managers.of(backend)]
    is_made_next = managers.makes_next(backend)
    if statuses and not is_made_next:
        if len(statuses) > 1:
            return Status.total(backend, statuses)
        (status,) = statuses
        return status if backend is status.backend else replace(status, backend=backend)
    record = managers.records.find(backend.key)
    state = State.PAUSED if managers.is_paused(backend) else State.ABSENT
    if record is not None:
        state = record.health.state(state)
    if statuses:  # of managers that wait for their last leases
        return replace(Status.total(backend, statuses), manager=None, ident=None, state=state)
    slots, limit = managers.policy.slots or 1, managers.limits.of(backend)
    unused = managers.records.budget.unused()
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
        detached=0 if record is None else len(record.detached),
    )

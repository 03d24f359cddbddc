"""The numbers of one manager, as a C{Status}."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from kolus.status import Status

if TYPE_CHECKING:
    from kolus.manager.base import BaseManager

__all__ = ["numbers"]


def numbers(manager: BaseManager[Any]) -> Status:
    """The status as far as it is known without a look at each connection."""
    slots, record = manager._policy.slots or 1, manager._record
    return Status(
        backend=manager.backend,
        manager=cast(Any, manager),
        ident=manager.ident,
        idle=manager.ready(),
        leased=manager._leased(),
        connecting=len(manager.connections.connecting) * slots,
        unused=max(0, record.unused()) * slots,
        waiting=manager.demand(),
        limit=manager.capacity(),
        state=record.health.state(manager._lifecycle.state()),
        ramp=record.health.ramp(),
        detached=len(record.detached),
    )

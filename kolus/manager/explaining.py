"""What C{explain} tells of a manager: who holds leases, who waits, and for what."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from kolus.watching import ManagerExplanation, WaiterExplanation, label, why_waiting

if TYPE_CHECKING:
    from kolus.manager.base import BaseManager
    from kolus.manager.waiting.queue import Waiter

__all__ = ["explain_manager"]


def explain_manager(manager: BaseManager[Any]) -> ManagerExplanation:
    """See C{IKolusManager.explain}."""
    record, connections, slots = manager.record, manager.connections, manager.policy.slots
    attempts, status = record.attempts, manager.status()
    out = dict.fromkeys(manager.supply.held(), "leased") | manager.supply.busy()
    waiting = sorted(
        [*manager.waiting, *manager.placements.waiters], key=lambda waiter: waiter.order
    )
    now = manager.now()
    tracker, owned = manager.tracker, manager.tracker.owned()
    leases = tuple(tracker.explain_lease(each, doing, owned, now) for each, doing in out.items())
    retry_in = attempts.due_at - now if attempts.due_at > now else None
    why = why_waiting(
        status,
        oldest_lease=max([each.held for each in leases if each.doing == "leased"], default=None),
        last_error=attempts.last_error,
        retry_in=retry_in,
        shared=slots is not None,
        checking=len(connections.checking),
        connecting_for=connections.connecting_for(),
        held_by_others=(len(record.all) - len(connections.all) - len(record.detached))
        * (slots or 1),
        pool_limit=record.room.binding_pool_limit(),
        siblings=len(record.members) - 1,
        silent=manager.supply.silent(),
    )
    return ManagerExplanation(
        status=status,
        waiters=tuple(
            _explain_waiter(place, each, now, why) for place, each in enumerate(waiting, 1)
        ),
        leases=leases,
        last_error=attempts.last_error,
        retry_in=retry_in,
        why=why,
    )


def _explain_waiter(position: int, waiter: Waiter[Any], now: float, why: str) -> WaiterExplanation:
    left = waiter.deadline - now
    why = why if position == 1 else _before(position - 1)
    backends = getattr(waiter.queue, "backends", None)
    if backends is not None:
        why += f"; any of {len(backends)} backends may serve it"
    if waiter.fresh:
        why += "; it wants a fresh connection"
    return WaiterExplanation(
        position=position,
        why=why,
        waited=now - waiter.since,
        deadline_in=left if left < math.inf else None,
        owner=None if waiter.ownership is None else label(waiter.ownership.owner),
        origin=waiter.origin,
    )


def _before(count: int) -> str:
    return f"{count} {'is' if count == 1 else 'are'} served before it"

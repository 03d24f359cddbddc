"""Whether nothing is out of the ordinary at a manager, so that leases may take the short way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kolus.manager.base import BaseManager

__all__ = ["is_plain", "look_if_smooth"]


def is_plain(manager: BaseManager[Any]) -> bool:
    """Whether a released connection can be leased again without a reset or another step."""
    policy, record = manager._policy, manager._record
    is_calm = record.health.is_well and not record.shrinking.active
    has_hook = policy.reset is not None or policy.clean is not None
    has_bound = policy.max_uses is not None or policy.max_idle is not None
    return is_calm and not (has_hook or has_bound)


def look_if_smooth(manager: BaseManager[Any]) -> None:
    """See whether a lease and a release change nothing but the connection and two counters."""
    told = manager._special or manager._observers or manager._watchers or manager._feedbacks
    placements = manager.placements
    asked = manager._group_queues or manager._wanting or placements.wait_for_idle
    if told or asked:
        return
    record = manager._record
    # Other managers may need the slots of the connections that are idle here.
    has_rivals = len(record.members) > 1 or record.budget.limit is not None
    if has_rivals or not (manager._plain and manager._lifecycle.serves):
        return
    manager._record.smooth[manager] = None
    # Each waiter that leaves makes room for a queue that waits for room. And where a check is
    # needed before each lease, it is needed before each hand-off, too.
    manager.passes_on = manager.hooks.check_after > 0 and not placements.wait_for_room
    if not manager.waiting:
        shortest_idle = manager.connections.shortest_idle
        manager.smooth = manager._alarm.at <= manager._now() + shortest_idle

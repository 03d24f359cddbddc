"""Whether nothing is out of the ordinary at a manager, so that leases may take the short way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kolus.manager.base import BaseManager

__all__ = ["look_if_smooth"]


def look_if_smooth(manager: BaseManager[Any]) -> None:
    """See whether a lease and a release change nothing but the connection and two counters."""
    told = manager._special or manager._observers or manager._watchers or manager._feedbacks
    placements = manager.placements
    asked = placements.wait_for_idle or placements.wait_for_room or manager._wanting
    if told or asked or manager._group_queues or manager._checks:
        return
    has_siblings = len(manager._record.members) > 1  # which may need what is idle here
    if has_siblings or not (manager._plain and manager._lifecycle.serves):
        return
    manager.passes_on = True
    manager._record.smooth[manager] = None
    if not manager.waiting:
        manager.smooth = manager._alarm.at <= manager._now() + manager.connections.shortest_idle

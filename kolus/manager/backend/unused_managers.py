"""C{UnusedManagers}: which managers of one backend nobody uses, so that their number is bounded.

Its state is the bound, and the managers that had no connection and no waiter when last looked at.
What has changed since is seen when one of them is to be closed. So a request need not tell.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kolus.manager.backend.record import BackendRecord
    from kolus.manager.base import BaseManager

__all__ = ["UnusedManagers"]


class UnusedManagers:
    """Finds the manager that is unused for the longest time."""

    def __init__(self, record: BackendRecord, most: int | None) -> None:
        """
        @param most: the most managers of the backend; C{None}: any number.
        """
        self._record = record
        self._most = most
        self._vacant: OrderedDict[BaseManager[Any], None] = OrderedDict()

    def add(self, member: BaseManager[Any]) -> None:
        """A manager has no connection and no waiter any more, or not yet."""
        self._vacant[member] = None
        self._vacant.move_to_end(member)

    def discard(self, member: BaseManager[Any]) -> None:
        """A manager has ended."""
        self._vacant.pop(member, None)

    def close_some(self) -> None:
        """If there are too many managers, have those closed that nobody uses."""
        record, most = self._record, self._most
        if most is not None and len(record.members) > most and record.listener is not None:
            record.listener.close_unused(record, most)

    def longest(self) -> BaseManager[Any] | None:
        """A manager without leases and waiters, the longest unused; first those that have no
        connections either. Never the newest: its first request is about to come."""
        newest = self._record.members[-1]
        for _ in range(len(self._vacant)):
            member, _ = self._vacant.popitem(last=False)
            if member is newest:
                self._vacant[member] = None
            elif not (member.connections.all or member.demand()):
                return member
        idle = self._record.turns.idle_managers.oldest(unused=True)
        return None if idle is newest else idle

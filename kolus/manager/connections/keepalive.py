"""C{KeepAlive}: checks idle connections again and again, so that a silent death is found in time.

Its state is how many of its checks are under way. When a connection is due, its manager's
C{Connections} know.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kolus.manager.base import BaseManager

__all__ = ["MOST_AT_A_TIME", "KeepAlive"]

MOST_AT_A_TIME = 4
"""So many idle connections of one manager are in a keep-alive check at most: the others can be
leased meanwhile."""


class KeepAlive:
    """Runs the policy's check on idle connections of one manager, every C{keepalive} seconds.

    A connection in such a check is as one in the check before a lease: if it passes and somebody
    waits, it is leased. Otherwise it is idle again, since when it was.
    """

    def __init__(self, manager: BaseManager[Any]) -> None:
        self._manager = manager
        self._under_way = 0

    def next_due(self) -> float:
        """When C{check_due} is to be called, on the clock; infinity if never."""
        is_free = self._under_way < MOST_AT_A_TIME
        return self._manager.connections.check_due_at() if is_free else math.inf

    def check_due(self, now: float) -> None:
        """Check the connections that are due, as many as may be checked at a time."""
        connections = self._manager.connections
        while self._under_way < MOST_AT_A_TIME:
            connection = connections.pop_to_check(now)
            if connection is None:
                return
            self._under_way += 1
            self._manager.checker.check(connection).addCallback(self._checked)

    def _checked(self, _: object) -> None:
        self._under_way -= 1
        self._manager.alarm.set(self.next_due())

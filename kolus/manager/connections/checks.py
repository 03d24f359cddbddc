"""C{Checks}: the connections of one manager that are in a check, and which of them to count on.

When a check fails or takes longer than 0.25 s, the peer may have died without a word. Then what was
idle as long has probably died, too. None of these connections is counted on, so new ones are made.
Those that the waiters would have got are all checked at once, not one after the other.

Its state is the connections in a check, each with the time when it began, the oldest first; when
each was last known to be good; those of them that are not doubted; of these, those that were
never leased; and whether the backend was told of the failure that they have in common.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kolus.manager.connections.under_way import UnderWay

if TYPE_CHECKING:
    from kolus.connection import Connection
    from kolus.support import SteadyClock

__all__ = ["Checks"]

_SLOW = 0.25


class Checks:
    """Knows which connections are in a check.

    @ivar is_doubting: whether C{Checker.doubt} is running.
    """

    def __init__(self, clock: SteadyClock) -> None:
        self._clock = clock
        self._began: dict[Connection[Any], float] = {}
        self._good_at: dict[Connection[Any], float] = {}
        self._trusted = UnderWay(clock)
        self._new: set[Connection[Any]] = set()
        self._is_told = False
        self.is_doubting = False

    def __len__(self) -> int:
        return len(self._began)

    def __iter__(self) -> Iterator[Connection[Any]]:
        return iter(tuple(self._began))

    def __contains__(self, connection: object) -> bool:
        return connection in self._began

    @property
    def counted_on(self) -> int:
        """The number of those that are expected to pass soon."""
        return len(self._trusted)

    @property
    def new(self) -> int:
        """The number of those of them that were never leased."""
        return len(self._new)

    def begin(self, connection: Connection[Any]) -> None:
        now = self._began[connection] = self._clock.seconds()
        self._good_at[connection] = connection.known_good_at()
        if self.is_doubting:
            return
        self._trusted[connection] = now
        if not connection.uses:
            self._new.add(connection)

    def end(self, connection: Connection[Any]) -> float:
        """
        @return: when it was last known to be good, before its check; minus infinity if it is in no
            check.
        """
        self._began.pop(connection, None)
        self._trusted.pop(connection, None)
        self._new.discard(connection)
        if not self._some_doubted():
            self._is_told = False
        return self._good_at.pop(connection, -math.inf)

    def slow_good_at(self) -> float:
        """When those whose check is slow were last known to be good; minus infinity if none is."""
        slow_since = self._clock.seconds() - _SLOW
        slow = [self._good_at[each] for each, began in self._began.items() if began <= slow_since]
        return max(slow, default=-math.inf)

    def slow_at(self) -> float:
        """When the oldest check that is not doubted counts as slow: see C{UnderWay.due_at}."""
        return self._trusted.due_at(_SLOW)

    def _some_doubted(self) -> bool:
        return len(self._began) > len(self._trusted)

    def note_failure(self, connection: Connection[Any]) -> bool:
        """A check has failed, and C{end} is due.

        @return: whether that is to be held against the backend. The failures of those that are
            doubted have one cause, so they count once.
        """
        was_told = self._is_told
        self._is_told = was_told or self._some_doubted()
        return not was_told or connection in self._trusted

    def doubt_all(self, *, is_told: bool) -> None:
        """Count on none of them any more."""
        self._trusted.clear()
        self._new.clear()
        self._is_told = (self._is_told or is_told) and self._some_doubted()

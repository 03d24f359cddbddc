"""C{Checks}: the connections of one manager that are in a check, and which of them to count on.

When a check fails or takes longer than 0.25 s, the peer may have died without a word. Then what was
idle as long has probably died, too. None of these connections is counted on, so new ones are made.
Those that the waiters would have got are all checked at once, not one after the other.

Its state is the connections in a check, each with the time when it began, the oldest first; those
of them that are doubted; those that are not and were never leased; and whether the backend was told
of the failure that they have in common.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

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
        self._doubted: set[Connection[Any]] = set()
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
    def hopeful(self) -> int:
        """The number of those that are expected to pass soon."""
        return len(self._began) - len(self._doubted)

    @property
    def new(self) -> int:
        """The number of those of them that were never leased."""
        return len(self._new)

    def begin(self, connection: Connection[Any]) -> None:
        self._began[connection] = self._clock.seconds()
        if self.is_doubting:
            self._doubted.add(connection)
        elif not connection.uses:
            self._new.add(connection)

    def end(self, connection: Connection[Any]) -> None:
        self._began.pop(connection, None)
        self._doubted.discard(connection)
        self._new.discard(connection)
        if not self._doubted:
            self._is_told = False

    def slow_at(self) -> float:
        """When the oldest check that is not doubted counts as slow, on the clock; infinity if there
        is none. If the reactor was blocked, the time begins anew after that."""
        if not self.hopeful:
            return math.inf
        oldest = next(each for each in self._began if each not in self._doubted)
        return max(self._began[oldest], self._clock.resumed_at) + _SLOW

    def is_news(self, connection: Connection[Any]) -> bool:
        """Whether the failure of a check, which has not ended yet, is to be held against the
        backend. The failures of those that are doubted have one cause, so they count once."""
        was_told, is_doubted = self._is_told, connection in self._doubted
        self._is_told = was_told or bool(self._doubted)
        return not (was_told and is_doubted)

    def doubt_all(self, *, is_told: bool) -> None:
        """Count on none of them any more."""
        self._doubted.update(self._began)
        self._new.clear()
        self._is_told = (self._is_told or is_told) and bool(self._doubted)

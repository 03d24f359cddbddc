"""C{EventLog}: the latest events of the daemon that an operator wants to see, with numbers.

Its state is the number of the last event, the latest events, and how many came in this second. It
does not take leases and releases, which are too many: the snapshots count them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from kolus.errors import describe
from kolus.events import (
    Admitted,
    ConnectFailure,
    Ejected,
    Event,
    Forgotten,
    Overdue,
    Paused,
    ProbeDue,
    Recovered,
    Resized,
    Resumed,
    Revoked,
)
from kolus.support import time_of_day

__all__ = ["Entry", "EventLog"]

_TAKEN = {
    Admitted: "admitted",
    ConnectFailure: "connect_failed",
    Ejected: "ejected",
    Forgotten: "forgotten",
    Overdue: "overdue",
    Paused: "paused",
    ProbeDue: "probe_due",
    Recovered: "recovered",
    Resized: "resized",
    Resumed: "resumed",
    Revoked: "revoked",
}
_MOST = 1000
_MOST_PER_SECOND = 100
_MOST_TEXT = 300


@dataclass(frozen=True, slots=True)
class Entry:
    """One event, as clients get it.

    @ivar number: counts from 1; each is one more than the one before.
    @ivar kind: its name in the stream.
    """

    number: int
    kind: str
    value: dict[str, Any]


class EventLog:
    """Keeps the latest thousand entries. Of a pool's events it takes a hundred a second at most."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        """
        @param seconds: tells a time that never goes back.
        """
        self.last = 0
        self._entries: deque[Entry] = deque(maxlen=_MOST)
        self._seconds = seconds
        self._second = -1
        self._in_second = 0

    def heard(self, group: str, event: Event) -> None:
        """Take an event of a pool, unless it is of no interest, or too many came in this second."""
        kind = _TAKEN.get(type(event))
        if kind is not None and self._has_room():
            self.add(kind, {"group": group, **_facts(event)})

    def add(self, kind: str, value: dict[str, Any]) -> None:
        """Take an entry."""
        self.last += 1
        self._entries.append(Entry(self.last, kind, {"time": time_of_day(), **value}))

    def since(self, number: int) -> list[Entry]:
        """The entries after a number, the oldest first."""
        missing = min(self.last - number, len(self._entries))
        return [] if missing <= 0 else list(self._entries)[-missing:]

    def has_all_since(self, number: int) -> bool:
        """Whether every entry after a number is still there."""
        return 0 <= self.last - number <= len(self._entries)

    def _has_room(self) -> bool:
        second = int(self._seconds())
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += 1
        return self._in_second <= _MOST_PER_SECOND


def _facts(event: Event) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for each in fields(event):
        value = getattr(event, each.name)
        if isinstance(value, BaseException):
            value = describe(value)
        elif isinstance(value, Enum):
            value = value.value
        elif not isinstance(value, bool | int | float | str):
            value = None if value is None else str(value)
        facts[each.name] = value[:_MOST_TEXT] if isinstance(value, str) else value
    return facts

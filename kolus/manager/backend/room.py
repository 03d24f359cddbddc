"""C{Room}: how many more connections to one backend may be made, now or soon.

It has no state of its own: the numbers follow from the backend's limit and the pool's, and from the
connections and the attempts to make some.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

if TYPE_CHECKING:
    from kolus.manager.backend.record import BackendRecord
    from kolus.manager.base import BaseManager

__all__ = ["Room"]


class Room:
    """The room that the limits leave at one backend."""

    def __init__(
        self, record: BackendRecord, clock: IReactorTime, max_connecting: int | None
    ) -> None:
        """
        @param max_connecting: the most attempts to connect at a time; C{None}: no bound.
        """
        self._record = record
        self._budget = record.budget
        self._clock = clock
        self._max_connecting = math.inf if max_connecting is None else max_connecting

    def unused(self) -> int:
        """How many more connections may be made; below 0 while there are more than the backend's
        limit or the pool's."""
        return min(self._record.limit - len(self._record.all), self._budget.unused())

    def obtainable(self) -> int:
        """The same, but at least 1 if an idle connection of another backend would make way."""
        return min(self._record.limit - len(self._record.all), self._budget.obtainable())

    def is_ready(self) -> bool:
        """Whether one more connection may be made, and an attempt is due."""
        return self.obtainable() > 0 and self._is_due()

    def _is_due(self) -> bool:
        return self._record.attempts.due_at <= self._clock.seconds()

    def may_connect(self) -> bool:
        """Whether one more attempt may begin beside those of all managers."""
        return self._budget.unused() > 0 and self._may_attempt()

    def has_own(self) -> bool:
        """Whether one more attempt may begin and is due, leaving aside the limit of the pool."""
        return self._may_attempt() and self._is_due()

    def _may_attempt(self) -> bool:
        under_way = len(self._record.connecting)
        return (
            under_way < self._max_connecting
            and len(self._record.all) < self._record.limit
            and self._record.attempts.may_begin(self._clock.seconds(), under_way)
        )

    def binding_pool_limit(self) -> int | None:
        """The limit of the pool, if nothing but that prevents one more connection."""
        binds = len(self._record.all) < self._record.limit and self._budget.unused() <= 0
        return self._budget.limit if binds else None

    def taken_by_others(self, member: BaseManager[Any]) -> int:
        """If the limit is reached, how many connections are not of this manager; else 0."""
        used = len(self._record.all)
        return 0 if used < self._record.limit else used - len(member.connections.all)

    def to_come(self) -> int:
        """How many more connections may be made once those that are closing are gone. It may be
        below 0 after the limit was lowered."""
        return min(self.own_to_come(), self._budget.room_to_come())

    def own_to_come(self) -> int:
        """The same by the limit of the backend alone."""
        return self._record.limit - len(self._record.all) + len(self._record.closing)

"""C{Recovery}: tries ejected backends in the background while requests come that they could serve.

Balancers do not choose an ejected backend, so no request would find out that it is back. A connect
costs a backend next to nothing. So one is made as often as the back-off allows; if it succeeds
after others have failed, the probe of the backend is due at once.

Its state is the backends to try, by when that is allowed, when the last request came,
and whether the pool is closed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from kolus.support import Alarm, LazyHeap

if TYPE_CHECKING:
    from kolus.manager.backend.record import BackendRecord

__all__ = ["Recovery"]

_PAUSE = 0.25
"""Seconds at least between two tries of a backend, for policies without a back-off."""


def _do_nothing(_: BackendRecord) -> None:
    """Connect to nothing: the pool is closed."""


class Recovery:
    """Tries each ejected backend once for each request, or for many that come meanwhile."""

    def __init__(self, clock: IReactorTime, connect: Callable[[BackendRecord], object]) -> None:
        """
        @param connect: connects to a backend, if it has no attempt under way.
        """
        self._clock = clock
        self._connect = connect
        self._due: LazyHeap[BackendRecord] = LazyHeap()
        self._since: dict[BackendRecord, float] = {}
        self._asked_at = -math.inf
        self._stopped = False
        self._alarm = Alarm(clock, self._try_due)

    def add(self, record: BackendRecord) -> None:
        """A backend was ejected, or connecting to it failed while it was. One that was ejected by
        hand or by a health check is not tried: only they end that."""
        if not (record in self._since or record.health.is_held or self._stopped):
            now = self._clock.seconds()
            self._since[record] = now
            self._due.set(record, max(record.attempts.due_at, now + _PAUSE))

    def remove(self, record: BackendRecord) -> None:
        """A backend is admitted, or forgotten."""
        self._since.pop(record, None)
        self._due.discard(record)

    def asked(self) -> None:
        """A request comes while a backend is ejected."""
        first = self._due.first()
        if first is not None:
            self._asked_at = now = self._clock.seconds()
            due = self._due.ranks[first]
            if due <= now:
                self._try_due()
            else:
                self._alarm.set(due)

    def stop(self) -> None:
        """The pool is closed, and is not kept alive by what is left of it."""
        self._stopped = True
        self._connect = _do_nothing
        self._due.clear()
        self._since.clear()
        self._alarm.clear()

    def _try_due(self) -> None:
        now = self._clock.seconds()
        while (record := self._due.first()) is not None:
            due, since = self._due.ranks[record], self._since[record]
            if due > now or since > self._asked_at:
                if since <= self._asked_at:
                    self._alarm.set(due)
                return
            self.remove(record)
            if not record.health.may_be_over:
                continue
            if record.attempts.due_at > now:
                self.add(record)
            else:
                self._connect(record)

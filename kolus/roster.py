"""The connections of one manager, by what they are doing.

Every connection is in C{all} from the attempt to make it until it is gone, and holds one slot of
the limit. Meanwhile it is in C{connecting}, in C{idle} or in C{closing}; if in none of them it is
out: with a lessee, or in a hook before or after one (C{checking}: about to be leased). C{aging}
are those with a lifetime, the first to expire first. The manager moves connections by the
methods here; nobody else changes the collections, and counts are read off them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter
from typing import Generic, TypeVar

from twisted.internet.interfaces import IReactorTime

from kolus.alarm import Alarm
from kolus.connection import Connection
from kolus.connection_state import CLOSED, CLOSING
from kolus.policy import Policy

__all__ = ["Roster"]

P = TypeVar("P")
_by_expiry = attrgetter("expires_at")


class Roster(Generic[P]):
    """Which connections there are, which is next, and which are due to end.

    @ivar limit: most connections.
    """

    def __init__(self, clock: IReactorTime, limit: int, policy: Policy, alarm: Alarm) -> None:
        """
        @param alarm: set to whenever something here is due; its owner then calls C{pop_slow} and
            C{retire}.
        """
        self.limit = limit
        self._clock = clock
        self._policy = policy
        self._alarm = alarm
        self._idle_timeout = _or_never(policy.idle_timeout)
        self._shortest_idle = self._idle_timeout * (1 - policy.idle_jitter)
        self.all: set[Connection[P]] = set()
        self.connecting: set[Connection[P]] = set()
        self.checking: set[Connection[P]] = set()
        self.closing: dict[Connection[P], float] = {}
        """Each with the time when it is to be aborted, in the order of these times; infinity,
        anywhere, for those that were."""
        self.aging: list[Connection[P]] = []
        self._vacant_since = clock.seconds()
        self._needed_until = -math.inf
        # Ordered by coming home. Taking a dict's last is fast, taking its first is not after
        # many others were: only that needs the slower OrderedDict.
        self.idle: dict[Connection[P], None]
        self._pop: Callable[[], tuple[Connection[P], None]]
        self._from_next: Callable[[dict[Connection[P], None]], Iterator[Connection[P]]]
        if policy.reuse == "lifo":
            self.idle = {}
            self._pop = self.idle.popitem
            self._from_next = reversed
        else:
            ordered: OrderedDict[Connection[P], None] = OrderedDict()
            self.idle = ordered
            self._pop = partial(ordered.popitem, last=False)
            self._from_next = iter

    def next_idle(self) -> Connection[P]:
        """The idle connection that is next by the policy's C{reuse}; it stays where it is."""
        return next(self._from_next(self.idle))

    def freshest_idle(self) -> Connection[P]:
        """The idle connection that came home last; it stays where it is."""
        return next(reversed(self.idle))

    def take(self, *, freshest: bool = False) -> Connection[P] | None:
        """Take out the next idle connection, or the freshest; one of no use is closed instead.

        @return: C{None} if there is none left.
        """
        while self.idle:
            connection, _ = self.idle.popitem() if freshest else self._pop()
            if connection.usable():
                return connection
            self.close(connection)
        return None

    def leased(self) -> int:
        """How many are out."""
        return len(self.all) - len(self.connecting) - len(self.idle) - len(self.closing)

    def unused(self) -> int:
        """How many more may be made."""
        return self.limit - len(self.all)

    def coming(self) -> int:
        """How many requests need not wait for the release of another's lease."""
        return self.unused() + len(self.connecting) + len(self.idle) + len(self.checking)

    def begin(self, connection: Connection[P]) -> None:
        """An attempt to connect has begun."""
        self.all.add(connection)
        self.connecting.add(connection)

    def connected(self, connection: Connection[P]) -> None:
        """It is ready, so from now on it ages."""
        self.connecting.discard(connection)
        policy = self._policy
        if policy.lifetime is not None:
            lifetime = policy.lifetime * (1 - policy.lifetime_jitter * connection.chance)
            connection.expires_at = self._clock.seconds() + lifetime
            insort(self.aging, connection, key=_by_expiry)
            self._alarm.set(connection.expires_at)

    def come_home(self, connection: Connection[P]) -> None:
        """Make it idle, for the next who wants it. It has to be usable."""
        now = self._clock.seconds()
        self.idle[connection] = None
        connection.rest(now)  # which reads, and may find at once that it is of no use
        due = now + self._shortest_idle
        if due < self._alarm.at:
            self._alarm.set(due)

    def close(self, connection: Connection[P], *, abort: bool = False) -> None:
        """Tell it to close, if it was not told before; its slot is free when it is gone."""
        if connection.state < CLOSING:
            self.connecting.discard(connection)
            self.idle.pop(connection, None)
            due = self._clock.seconds() + _or_never(self._policy.close_timeout)
            self.closing[connection] = due
            self._alarm.set(due)
        elif connection.state is CLOSED or not abort:
            return
        if abort:
            connection.abort()
        else:
            connection.close()

    def remove(self, connection: Connection[P]) -> None:
        """It is gone."""
        self.all.discard(connection)
        self.connecting.discard(connection)
        self.checking.discard(connection)
        self.closing.pop(connection, None)
        self.idle.pop(connection, None)
        self._forget_age(connection)
        if not self.all:
            self._vacant_since = self._clock.seconds()
            self._alarm.set(self.vacant_until())

    # What is due

    def pop_slow(self, now: float) -> list[Connection[P]]:
        """Those that should be gone by now; each is named once."""
        slow = []
        for connection, due in self.closing.items():
            if now < due < math.inf:
                break
            if due <= now:
                slow.append(connection)
        for connection in slow:
            self.closing[connection] = math.inf
        return slow

    def retire(self, now: float) -> list[Connection[P]]:
        """Mark those whose lifetime is over, whatever they are doing.

        @return: the idle ones that are to be closed now: of these, and of those that nobody
            leased for the idle timeout, the policy's C{min_idle} spared.
        """
        count = 0
        while count < len(self.aging) and self.aging[count].expires_at <= now:
            self.aging[count].retired = True
            count += 1
        overdue = [each for each in self.aging[:count] if each in self.idle]
        del self.aging[:count]
        surplus = len(self.idle) - len(overdue) - self._policy.min_idle
        for connection in self.idle:
            if surplus <= 0 or self._idle_due(connection) > now:
                break
            if not connection.retired:
                overdue.append(connection)
                surplus -= 1
        return overdue

    def is_needed(self) -> None:
        """Somebody waits for a connection: a manager without one stays, for a second or more."""
        self._vacant_since = self._clock.seconds()
        self._needed_until = self._vacant_since + 1.0

    def vacant_until(self) -> float:
        """When there was no connection for the manager idle timeout; infinity if there is one."""
        if self.all or self._policy.min_idle:
            return math.inf
        unused_until = self._vacant_since + _or_never(self._policy.manager_idle_timeout)
        return max(unused_until, self._needed_until)

    def next_due(self) -> float:
        """When the next of these has something, on the clock; infinity if never."""
        due = next((due for due in self.closing.values() if due < math.inf), math.inf)
        due = min(due, self.vacant_until())
        if self.aging:
            due = min(due, self.aging[0].expires_at)
        if len(self.idle) > self._policy.min_idle:
            due = min(due, self._idle_due(next(iter(self.idle))))
        return due

    def _forget_age(self, connection: Connection[P]) -> None:
        aging, expires_at = self.aging, connection.expires_at
        place = bisect_left(aging, expires_at, key=_by_expiry)
        while place < len(aging) and aging[place].expires_at == expires_at:
            if aging[place] is connection:
                del aging[place]
                return
            place += 1

    def _idle_due(self, connection: Connection[P]) -> float:
        return connection.since + self._idle_timeout * (
            1 - self._policy.idle_jitter * connection.chance
        )


def _or_never(seconds: float | None) -> float:
    """C{None} as infinity."""
    return math.inf if seconds is None else seconds

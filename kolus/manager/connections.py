"""The connections of one manager, by what they are doing.

Every connection is in C{all} from the attempt to make it until it is gone, and holds one slot of
the limit. Meanwhile it is in C{connecting}, in C{idle} or in C{closing}; if in none of them it is
out: with a lessee, or in a hook before or after one (C{checking}: about to be leased). C{expiring}
are those whose lifetime is nearly over and that have no replacement yet, the first to expire
first. The manager moves connections by the methods here; only a connection that comes home joins
C{idle} by itself. Counts are read off the collections.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.interfaces import IReactorTime

from kolus.events import Why
from kolus.manager.connection import Connection
from kolus.manager.connection_state import CLOSED, CLOSING, CONNECTING, IDLE
from kolus.manager.lifetimes import Lifetimes

if TYPE_CHECKING:
    from kolus.manager.record import BackendRecord
    from kolus.policy import Policy
    from kolus.support import Alarm

__all__ = ["Connections"]

P = TypeVar("P")
_REPLACE_AHEAD = 5.0
_SLOW_CONNECT = 0.25  # as RFC 8305 waits before it tries another address


class Connections(Generic[P]):
    """Which connections there are, which is next, and which are due to end."""

    def __init__(
        self, clock: IReactorTime, record: BackendRecord, policy: Policy, alarm: Alarm
    ) -> None:
        """
        @param record: whose slots these connections take.
        @param alarm: set to whenever something here is due; its owner then calls C{close_due}.
        """
        self._record = record
        self._clock = clock
        self._policy = policy
        self._alarm = alarm
        self._idle_timeout = _or_never(policy.idle_timeout)
        self.shortest_idle = self._idle_timeout * (1 - policy.idle_jitter)
        self.all: set[Connection[P]] = set()
        self.connecting: dict[Connection[P], float] = {}
        """Each with the time when the attempt began, in the order of these times."""
        self.checking: set[Connection[P]] = set()
        self.closing: dict[Connection[P], float] = {}
        """Each with the time when it is to be aborted, in the order of these times; infinity,
        anywhere, for those that were."""
        self.expiring: dict[Connection[P], None] = {}
        self._lifetimes: Lifetimes[Connection[P]] | None = None
        if policy.lifetime is not None:
            # Replacing one takes a connect: begin early enough, but late in a short life.
            ahead = min(_or_never(policy.connect_timeout), _REPLACE_AHEAD, policy.lifetime / 10)
            self._lifetimes = Lifetimes(policy.lifetime, policy.lifetime_jitter, ahead)
        self.moved: Callable[[Connection[P]], object] | None = None
        """Told of a connection that came home, is retired, or is gone, if there is one to tell."""
        self._vacant_since = clock.seconds()
        self._needed_until = -math.inf
        # In the order of coming home; popitem takes out the one that is next.
        self.idle: dict[Connection[P], None]
        self._from_next: Callable[[dict[Connection[P], None]], Iterator[Connection[P]]]
        if policy.reuse == "lifo":
            self.idle = {}
            self._from_next = reversed
        else:
            self.idle = _FirstOut()
            self._from_next = iter

    def next_idle(self) -> Connection[P]:
        """The idle connection that is next by the policy's C{reuse}; it stays where it is."""
        return next(self._from_next(self.idle))

    def idle_in_turn(self) -> Iterator[Connection[P]]:
        """The idle connections, the next first, as long as none comes or goes."""
        return self._from_next(self.idle)

    def freshest_idle(self) -> Connection[P]:
        """The idle connection that came home last; it stays where it is."""
        return next(reversed(self.idle))

    def leased(self) -> int:
        """How many are out."""
        return len(self.all) - len(self.connecting) - len(self.idle) - len(self.closing)

    def slow_at(self) -> float:
        """From when on the oldest attempt to connect takes long; infinity if there is none."""
        return next(iter(self.connecting.values()), math.inf) + _SLOW_CONNECT

    def begin(self, connection: Connection[P]) -> None:
        """An attempt to connect has begun."""
        self.all.add(connection)
        self.connecting[connection] = self._clock.seconds()
        self._record.all.add(connection)
        self._record.connecting.add(connection)
        self._record.turns.recount(connection.manager)
        self._record.changed()

    def connected(self, connection: Connection[P]) -> None:
        """It is ready: from now on it ages, and it replaces one that is about to expire."""
        self.connecting.pop(connection, None)
        self._record.connecting.discard(connection)
        self._record.changed()
        if self._lifetimes is not None:
            self._lifetimes.add(connection, self._clock.seconds(), self._record.limit)
            self._alarm.set(self._lifetimes.next_due())
        if self.expiring:
            old = next(iter(self.expiring))
            del self.expiring[old]
            self._retire(old, Why.LIFETIME)

    def come_home(self, connection: Connection[P]) -> bool:
        """Make it idle, for the next who wants it.

        @return: whether it is; if it is of no use any more, nothing has changed.
        """
        now = self._clock.seconds()
        if not connection.rest(now, self.idle):
            return False
        self._tell_moved(connection)
        if len(self.idle) == 1:
            self._record.turns.has_idle(connection.manager)
        due = now + self.shortest_idle
        if due < self._alarm.at:
            self._alarm.set(due)
        return True

    def close(self, connection: Connection[P], why: Why, *, abort: bool = False) -> None:
        """Tell it to close, if it was not told before; its slot is free when it is gone."""
        connection.retire(why)
        if connection.state < CLOSING:
            self.connecting.pop(connection, None)
            self.idle.pop(connection, None)
            self.expiring.pop(connection, None)
            due = self._clock.seconds() + _or_never(self._policy.close_timeout)
            self.closing[connection] = due
            self._record.connecting.discard(connection)
            self._record.closing.add(connection)
            self._tell_moved(connection)
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
        for each in (self._record.all, self._record.connecting, self._record.closing):
            each.discard(connection)
        self._record.turns.recount(connection.manager)
        self.connecting.pop(connection, None)
        self.checking.discard(connection)
        self.closing.pop(connection, None)
        self.idle.pop(connection, None)
        self.expiring.pop(connection, None)
        self._tell_moved(connection)
        if self._lifetimes is not None:
            self._lifetimes.remove(connection)
        if not self.all:
            self._vacant_since = self._clock.seconds()
            self._alarm.set(self.vacant_until())

    def retire_all(self, why: Why) -> None:
        """Close what nobody has, and the rest as it comes home."""
        for connection in tuple(self.all):
            self._retire(connection, why)

    def _retire(self, connection: Connection[P], why: Why) -> None:
        connection.retire(why)
        if connection.state is CONNECTING or connection.state is IDLE:
            self.close(connection, why)
        else:
            self._tell_moved(connection)

    def _tell_moved(self, connection: Connection[P]) -> None:
        if self.moved is not None:
            self.moved(connection)
        self._record.changed()

    # What a record asks of its members

    def oldest_idle(self) -> float:
        """Since when the one is idle that is idle longest; infinity if none is."""
        return next(iter(self.idle)).since if self.idle else math.inf

    def close_oldest_idle(self, why: Why) -> None:
        """There has to be one."""
        self.close(next(iter(self.idle)), why)

    def unleased(self) -> int:
        """How many nobody has: they are idle, or being made."""
        return len(self.connecting) + len(self.idle)

    def shed(self, count: int) -> None:
        """Close so many of those that nobody has: first those being made, then the oldest idle."""
        for connection in tuple(islice(chain(self.connecting, self.idle), count)):
            # Whoever heard of the end of an attempt may have leased one of these.
            if connection.state is CONNECTING or connection.state is IDLE:
                self.close(connection, Why.RESIZED)

    # What is due

    def close_due(self, now: float) -> None:
        """Close what is too old or was idle for too long, and abort what is slow to close."""
        for connection, due in tuple(self.closing.items()):
            if now < due < math.inf:
                break
            if due <= now:
                self.closing[connection] = math.inf
                connection.abort()
        if self._lifetimes is not None:
            for connection in self._lifetimes.pop_expired(now):
                self.expiring.pop(connection, None)
                self._retire(connection, Why.LIFETIME)
            for connection in self._lifetimes.due_to_replace(now):
                # One that nobody has leased yet has replaced another for nothing.
                of_use = connection.uses or len(self.idle) <= self._policy.min_idle
                if of_use and connection.state < CLOSING:
                    self.expiring[connection] = None
        while len(self.idle) > self._policy.min_idle:
            oldest = next(iter(self.idle))
            if self._idle_due(oldest) > now:
                break
            self.close(oldest, Why.IDLE)

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
        if self._lifetimes is not None:
            due = min(due, self._lifetimes.next_due())
        if len(self.idle) > self._policy.min_idle:
            due = min(due, self._idle_due(next(iter(self.idle))))
        return due

    def _idle_due(self, connection: Connection[P]) -> float:
        return connection.since + self._idle_timeout * (
            1 - self._policy.idle_jitter * connection.chance
        )


class _FirstOut(OrderedDict[Connection[Any], None]):
    """Its C{popitem} takes the first. A dict's is fast only until many others were taken."""

    def popitem(self, last: bool = False) -> tuple[Connection[Any], None]:
        return super().popitem(last)


def _or_never(seconds: float | None) -> float:
    """C{None} as infinity."""
    return math.inf if seconds is None else seconds

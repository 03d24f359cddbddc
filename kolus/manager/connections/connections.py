"""The connections of one manager, by what they are doing.

A connection is in C{all} from the attempt to make it until it is gone, and holds one slot of the
limit. It may also be in C{connecting}, C{idle} or C{closing}. If it is in none of these, it is out:
leased, or in a check (C{checking}) or a reset. C{expiring} has the connections whose lifetime is
nearly over and that have no replacement yet, the first to expire first. The manager moves
connections with the methods here. Only the lease path takes from C{idle} and adds to it by itself.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from itertools import chain, islice
from typing import TYPE_CHECKING, Generic, TypeVar

from kolus.connection import CLOSED, CLOSING, CONNECTING, IDLE, Connection
from kolus.events import Why
from kolus.health import LATE
from kolus.manager.connections.checks import Checks
from kolus.manager.connections.idle_order import IdleOrder
from kolus.manager.connections.idle_times import IdleTimes
from kolus.manager.connections.lifetimes import Lifetimes
from kolus.manager.connections.under_way import UnderWay

if TYPE_CHECKING:
    from kolus.manager.backend.record import BackendRecord
    from kolus.policy import Policy
    from kolus.support import Alarm, SteadyClock

__all__ = ["SLOW_CONNECT", "Connections"]

P = TypeVar("P")
_REPLACE_AHEAD = 5.0
SLOW_CONNECT = 0.25  # as RFC 8305 waits before it tries another address


class Connections(Generic[P]):
    """Knows the connections of one manager, which is next, and which are due to be closed."""

    def __init__(
        self, clock: SteadyClock, record: BackendRecord, policy: Policy, alarm: Alarm
    ) -> None:
        """
        @param record: the record whose slots the connections take.
        @param alarm: set to when something here is due. Its owner then calls C{close_due}.
        """
        self._record = record
        self._clock = clock
        self._policy = policy
        self._alarm = alarm
        self.all: set[Connection[P]] = set()
        self.connecting = UnderWay(clock)
        self._in_time = UnderWay(clock)
        """Those of them that are not late."""
        self.checking = Checks(clock)
        self.closing: dict[Connection[P], None] = {}
        self._to_abort: OrderedDict[Connection[P], float] = OrderedDict()
        """Those of them that are still to be aborted, each with the time, in their order."""
        self.expiring: dict[Connection[P], None] = {}
        self._lifetimes: Lifetimes[Connection[P]] | None = None
        if policy.lifetime is not None:
            # A replacement takes a connect: begin early, but not too early in a short life.
            ahead = min(_or_never(policy.connect_timeout), _REPLACE_AHEAD, policy.lifetime / 10)
            self._lifetimes = Lifetimes(policy.lifetime, policy.lifetime_jitter, ahead)
        self.moved: Callable[[Connection[P]], object] | None = None
        """Called with a connection that became idle, is retired or is gone; C{None}: nobody is."""
        self._vacant_since = clock.seconds()
        self._needed_until = -math.inf
        self.order = IdleOrder[P](policy)
        self.idle = self.order.all
        timeout, keepalive = _or_never(policy.idle_timeout), _or_never(policy.keepalive)
        jitter = policy.idle_jitter
        self._idle_times = IdleTimes[Connection[P]](
            self.idle,
            timeout * (1 - jitter),
            lambda each: each.since + timeout * (1 - jitter * each.chance),
        )
        self._check_times = IdleTimes[Connection[P]](
            self.idle, keepalive, lambda each: each.known_good_at() + keepalive
        )
        self.shortest_idle = min(self._idle_times.shortest, keepalive)
        """Nothing is due with a connection before it was idle for so many seconds."""
        self._close_timeout = _or_never(policy.close_timeout)
        self._most_idle = math.inf if policy.max_idle is None else policy.max_idle

    def leased(self) -> int:
        """The number of connections that are leased, in a check or in a reset."""
        return len(self.all) - len(self.connecting) - len(self.idle) - len(self.closing)

    def in_use(self) -> bool:
        """Whether there are any that are neither idle nor being closed."""
        return len(self.all) > len(self.idle) + len(self.closing)

    def slow_at(self) -> float:
        """When the oldest attempt to connect counts as slow: see C{UnderWay.due_at}."""
        return self.connecting.due_at(SLOW_CONNECT)

    def connecting_for(self) -> float | None:
        """Seconds since the oldest attempt to connect began; C{None} if there is none."""
        began = next(iter(self.connecting.values()), None)
        return None if began is None else self._clock.seconds() - began

    @property
    def counted_on(self) -> int:
        """The number of attempts to connect that are not late, so that a request counts on them."""
        return len(self._in_time)

    def begin(self, connection: Connection[P]) -> None:
        """An attempt to connect has begun."""
        self.all.add(connection)
        self.connecting[connection] = self._in_time[connection] = self._clock.seconds()
        self._record.begin(connection)
        self._record.turns.recount(connection.manager)
        self._record.changed(connection.manager)

    def wait_for_late(self) -> None:
        """Have it noted when an attempt that is under way is late."""
        if self._in_time:
            self._alarm.set(self._in_time.due_at(LATE))

    def connected(self, connection: Connection[P]) -> None:
        """A connection is ready. Its lifetime begins, and it replaces one that expires soon."""
        self._attempt_ended(connection)
        self._record.connecting.discard(connection)
        self._record.changed(connection.manager)
        if self._lifetimes is not None:
            self._lifetimes.add(connection, self._clock.seconds(), self._record.limit)
            self._alarm.set(self._lifetimes.next_due())
        if self.expiring:
            old = next(iter(self.expiring))
            del self.expiring[old]
            self._retire(old, Why.LIFETIME)

    def take_back(self, connection: Connection[P]) -> bool:
        """Make a connection idle.

        @return: whether it is idle. If it cannot be used any more, nothing has changed.
        """
        now = self._clock.seconds()
        if not connection.become_idle(now, self.idle):
            return False
        if connection.since < now:  # it was idle, and is so again: where it was, at the cold end
            self.order.put_first(connection)
            self._idle_times.add(connection)
            self._alarm.set(self._idle_times.next_due())
        self._tell_moved(connection)
        if not connection.uses:
            self.order.note_new(connection)
        if len(self.idle) == 1:
            self._record.turns.note_idle(connection.manager)
        due = now + self.shortest_idle
        if due < self._alarm.at:
            self._alarm.set(due)
        return True

    def close(self, connection: Connection[P], why: Why, *, abort: bool = False) -> None:
        """Close a connection, unless it is closing. Its slot is free when it is gone.

        @param abort: do not wait until what was written is sent, even if it is closing."""
        connection.retire(why)
        if connection.state < CLOSING:
            self._attempt_ended(connection)
            self.order.leave(connection)
            self.expiring.pop(connection, None)
            due = self._clock.seconds() + self._close_timeout
            self.closing[connection] = None
            self._to_abort[connection] = due
            self._record.connecting.discard(connection)
            self._record.closing.add(connection)
            self._record.ends(connection)
            self._tell_moved(connection)
            self._alarm.set(due)
        elif connection.state is CLOSED or not abort:
            return
        if abort:
            connection.abort()
        else:
            connection.close()

    def remove(self, connection: Connection[P]) -> None:
        """A connection is gone."""
        self.all.discard(connection)
        self._record.remove(connection)
        self._record.turns.recount(connection.manager)
        self._attempt_ended(connection)
        self.checking.end(connection)
        self.closing.pop(connection, None)
        self._to_abort.pop(connection, None)
        self.order.remove(connection)
        self.expiring.pop(connection, None)
        self._idle_times.remove(connection)
        self._check_times.remove(connection)
        self._tell_moved(connection)
        if self._lifetimes is not None:
            self._lifetimes.remove(connection)
        if not self.all:
            self._vacant_since = self._clock.seconds()
            self._alarm.set(self.vacant_until())

    def _attempt_ended(self, connection: Connection[P]) -> None:
        """If it was an attempt to connect, that is over."""
        self.connecting.pop(connection, None)
        self._in_time.pop(connection, None)

    def close_surplus(self) -> None:
        """Close idle connections beyond the policy's C{max_idle}, those that came home last."""
        while len(self.idle) > self._most_idle:
            self.close(self.order.freshest(), Why.SURPLUS)

    def retire_all(self, why: Why) -> None:
        """Close idle and connecting connections now, the others when they are released."""
        for connection in tuple(self.all):
            self._retire(connection, why)

    def _retire(self, connection: Connection[P], why: Why) -> None:
        connection.retire(why)
        if connection.state is CONNECTING or connection.state is IDLE:
            self.close(connection, why)
        else:
            self._tell_moved(connection)

    def take(self, connection: Connection[P]) -> None:
        """Take an idle connection, to check or to lease it."""
        self.order.leave(connection)
        self._tell_moved(connection)

    def _tell_moved(self, connection: Connection[P]) -> None:
        if self.moved is not None:
            self.moved(connection)
        self._record.changed(connection.manager)

    # Keep-alive

    def check_due_at(self) -> float:
        """When the next idle connection is to be checked, on the clock; infinity if none is."""
        return self._check_times.next_due() if self.idle else math.inf

    def pop_to_check(self, now: float) -> Connection[P] | None:
        """Take out an idle connection that is to be checked now; C{None} if there is none."""
        connection = self._check_times.pop_due(now)
        if connection is not None:
            connection.kept_since = connection.since
            self.take(connection)
        return connection

    # What a record asks of its members

    def close_oldest_idle(self, why: Why) -> None:
        """Close the longest idle connection; there must be one."""
        self.close(self.order.oldest(), why)

    def unleased(self) -> int:
        """The number of connections that are idle or being made."""
        return len(self.connecting) + len(self.idle)

    def shed(self, count: int) -> None:
        """Close so many connections, first those being made, then the longest idle."""
        for connection in tuple(islice(chain(self.connecting, self.idle), count)):
            # A callback of a failed attempt may have leased one of these.
            if connection.state is CONNECTING or connection.state is IDLE:
                self.close(connection, Why.RESIZED)

    # What is due

    def close_due(self, now: float) -> None:
        """Close connections that are too old or idle for too long, abort those slow to close, and
        note which attempts to connect are late."""
        self._in_time.drop_due(now, LATE)
        while self._to_abort and next(iter(self._to_abort.values())) <= now:
            connection, _ = self._to_abort.popitem(last=False)
            connection.abort()
        self._close_overdue(now)
        if self._lifetimes is not None:
            for connection in self._lifetimes.due_to_replace(now):
                # Do not replace a connection that was never leased: nobody needed it.
                of_use = connection.uses or len(self.idle) <= self._policy.min_idle
                if of_use and connection.state < CLOSING:
                    self.expiring[connection] = None

    def close_overdue(self) -> None:
        """Close what is too old or idle for too long, if the alarm should have rung already: the
        reactor may have been blocked, the machine suspended, or the clock set back."""
        now = self._clock.seconds()
        if now >= self._alarm.at:
            self._clock.look()
            self._close_overdue(now)

    def _close_overdue(self, now: float) -> None:
        """Close connections that are too old or idle for too long, which nobody may lease now."""
        if self._lifetimes is not None:
            for connection in self._lifetimes.pop_expired(now):
                self.expiring.pop(connection, None)
                self._retire(connection, Why.LIFETIME)
        while len(self.idle) > self._policy.min_idle:
            overdue = self._idle_times.pop_due(now)
            if overdue is None:
                break
            self.close(overdue, Why.IDLE)

    def look_at_idle(self) -> None:
        """Close the idle connections that cannot be leased, although the reactor does not know yet:
        what is overdue, and those on which something has come."""
        self.close_overdue()
        for each in tuple(self.idle):
            if each in self.idle:  # its end may end others
                each.look(self._clock.seconds())

    def needed(self) -> None:
        """There is a waiter: a manager without connections stays for at least another second."""
        self._vacant_since = self._clock.seconds()
        self._needed_until = self._vacant_since + 1.0

    def vacant_until(self) -> float:
        """When the manager will have had no connection for its idle timeout, on the clock; infinity
        if it has one, or keeps a minimum idle."""
        if self.all or self._policy.min_idle:
            return math.inf
        unused_until = self._vacant_since + _or_never(self._policy.manager_idle_timeout)
        return max(unused_until, self._needed_until)

    def next_due(self) -> float:
        """When C{close_due} or the end of the manager is due, on the clock; infinity if never."""
        due = next(iter(self._to_abort.values()), math.inf)
        due = min(due, self._in_time.due_at(LATE), self.checking.slow_at(), self.vacant_until())
        if self._lifetimes is not None:
            due = min(due, self._lifetimes.next_due())
        if len(self.idle) > self._policy.min_idle:
            due = min(due, self._idle_times.next_due())
        return due


def _or_never(seconds: float | None) -> float:
    """C{None} as infinity."""
    return math.inf if seconds is None else seconds

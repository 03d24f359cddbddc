"""C{HandOff}: gives a connection that comes home to the oldest waiter of the manager's own queue.

The connection does not become idle first. That is only done where the manager C{passes_on}. Its
state is what has come home while another connection is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from kolus.lease import RELEASED
from kolus.manager.quick_lease import QuickLease
from kolus.support import fire

if TYPE_CHECKING:
    from kolus.connection import Connection
    from kolus.manager.base import BaseManager

__all__ = ["HandOff"]

P = TypeVar("P")


class HandOff(Generic[P]):
    """Serves the own queue of one manager from what comes home."""

    __slots__ = (
        *("_counters", "_dispatcher", "_manager", "_queue", "_record", "_released", "_waiting"),
    )

    def __init__(self, manager: BaseManager[P]) -> None:
        self._manager = manager
        self._counters = manager.counters
        self._dispatcher = manager.dispatcher
        self._queue = manager.queue
        self._record = manager.record
        self._waiting = manager.queue.waiting
        self._released: list[Connection[P]] | None = None

    def pass_on(self, connection: Connection[P], moment: float) -> None:
        """Give a connection that comes home to the oldest waiter, unless something has changed.

        The waiter's callback may release its lease at once. That connection is passed on in the
        same loop, so there is no recursion.

        @param moment: the time on the clock.
        """
        if self._released is not None:
            self._released.append(connection)
            return
        manager, dispatcher = self._manager, self._dispatcher
        if dispatcher.is_deciding:
            manager.passes_on = False
            manager.settle(connection, RELEASED)
            return
        waiting, counters, load = self._waiting, self._counters, self._record.load
        self._released = released = []
        dispatcher.is_deciding = True
        try:
            while True:
                if (
                    connection.doubtful
                    or moment >= manager.alarm.at
                    or not (waiting and manager.passes_on)
                    or manager.observers
                ):
                    released.append(connection)
                    break
                waiter = self._queue.popleft()
                load.noted -= 1
                counters.releases += 1
                connection.since = moment
                connection.uses += 1
                connection.dataReceived = connection.protocol.dataReceived
                if waiter.ownership is None:
                    counters.leases += 1
                    lease: QuickLease[P] = QuickLease()
                    lease._connection = connection
                    lease._settle = manager.settler
                    fire(waiter, lease)
                else:
                    dispatcher.give(waiter, connection)
                if not released:
                    break
                connection, moment = released.pop(), manager.now()
        finally:
            self._released = None
            for each in released:
                manager.passes_on = False
                manager.settle(each, RELEASED)
            dispatcher.is_deciding = False
        if dispatcher.is_to_decide:
            dispatcher.decide()
        elif not waiting:
            manager.look_if_smooth()

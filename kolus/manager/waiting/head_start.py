"""C{HeadStart}: an attempt to connect that begins before the request that it is for has to wait.

To wait is most of what a request costs: it joins a queue, is placed at a manager, and is served
from what has become idle. Where nobody else asks, and the connection is made in no time, such as
one to a backend on this machine, the request has its lease at once.

Its state is the attempt, until its outcome is handled, and the lease.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from twisted.python.failure import Failure

from kolus.events import Why

if TYPE_CHECKING:
    from kolus.connection import Connection
    from kolus.lease import Lease
    from kolus.manager.base import BaseManager

__all__ = ["HeadStart", "head_start"]


class HeadStart:
    """
    @ivar lease: what the request gets; C{None}: it has to wait, and C{go_on} is due after that.
    """

    __slots__ = ("_attempt", "_manager", "lease")

    def __init__(self, manager: BaseManager[Any]) -> None:
        self.lease: Lease[Any] | None = None
        self._manager = manager
        dispatcher = manager._dispatcher
        dispatcher.is_deciding = True  # what it calls may ask for leases, and comes after it
        try:
            self._attempt: Any = manager._connector.begin()
        finally:
            dispatcher.is_deciding = False
        connection, made = self._attempt
        is_made = made.called and not made.paused and not isinstance(made.result, Failure)
        if is_made and connection.usable() and manager._lifecycle.serves:
            self._attempt = None
            self._take(connection)
            if self.lease is None or dispatcher.is_to_decide or manager._policy.min_idle:
                manager._connector.tell()
        else:
            # Until its request waits, that is not one that came after the attempt.
            manager._record.attempts.begun_at = math.inf

    def _take(self, connection: Connection[Any]) -> None:
        """Lease a connection that is made. Nobody has seen it idle."""
        manager = self._manager
        now = manager._now()
        manager._connector.is_ready(connection, lambda: connection.become_idle(now, {}))
        if connection.lease(now):
            self.lease = manager._tracker.lease_after(connection.begun_at, connection)
        else:
            manager.connections.close(connection, Why.UNFIT)

    def go_on(self) -> None:
        """The request waits: handle the outcome of the attempt, now or when it is known."""
        if self._attempt is not None:
            self._manager._record.attempts.begun_at = self._manager._now()
            self._manager._connector.go_on(*self._attempt)


def head_start(manager: BaseManager[Any] | None) -> HeadStart | None:
    """Begin to connect for a request that finds nothing idle, and has no owner.

    @param manager: where the request would wait; C{None}: it is not made yet.
    @return: C{None} if others wait, or if no attempt may begin now.
    """
    if manager is None:
        return None
    record, connections, dispatcher = manager._record, manager.connections, manager._dispatcher
    is_calm = record.health.is_well and record.attempts.last_error is None
    if not (is_calm and manager._lifecycle.serves) or manager._policy.slots is not None:
        return None
    if connections.idle or connections.connecting or connections.checking:
        return None
    others = record.turns.wanting or record.budget.wanting or manager.admission.warming.wishes
    if others or manager.demand() or dispatcher.is_deciding or dispatcher.is_asked(reused=False):
        return None
    return HeadStart(manager) if record.may_connect() else None

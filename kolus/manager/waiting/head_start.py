"""C{HeadStart}: an attempt to connect that begins before the request that it is for has to wait.

To wait is most of what a request costs: it joins a queue, is placed at a manager, and is served
from what has become idle. Where nobody else asks, and the connection is made in no time, such as
one to a backend on this machine, the request has its lease at once.

Its state is the attempt, until its outcome is handled, and the lease.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.python.failure import Failure

from kolus.events import Why

if TYPE_CHECKING:
    from kolus.connection import Connection
    from kolus.lease import Lease
    from kolus.manager.base import BaseManager

__all__ = ["HeadStart", "head_start"]


class HeadStart:
    """Begins to connect, and leases the connection if that is made at once.

    @ivar lease: what the request gets; C{None}: it has to wait, and C{go_on} is due after that.
    """

    __slots__ = ("_attempt", "_manager", "lease")

    def __init__(self, manager: BaseManager[Any]) -> None:
        self.lease: Lease[Any] | None = None
        self._manager = manager
        dispatcher = manager.dispatcher
        dispatcher.is_deciding = True  # what it calls may ask for leases, and comes after it
        try:
            self._attempt: Any = manager.connector.begin()
        finally:
            dispatcher.is_deciding = False
        connection, made = self._attempt
        is_made = made.called and not made.paused and not isinstance(made.result, Failure)
        if is_made and connection.usable() and manager.lifecycle.serves:
            self._attempt = None
            self._take(connection)
            if self.lease is None or dispatcher.is_to_decide or manager.policy.min_idle:
                manager.connector.tell()
        else:
            manager.record.attempts.precedes_its_request()

    def _take(self, connection: Connection[Any]) -> None:
        """Lease a connection that is made. Nobody has seen it idle."""
        manager = self._manager
        now = manager.now()
        manager.connector.made_ready(connection, lambda: connection.become_idle(now, {}))
        if connection.lease(now):
            self.lease = manager.tracker.lease_after(connection.begun_at, connection)
        else:
            manager.connections.close(connection, Why.UNFIT)

    def go_on(self) -> None:
        """The request waits: handle the outcome of the attempt, now or when it is known."""
        if self._attempt is not None:
            self._manager.record.attempts.its_request_waits(self._manager.now())
            self._manager.connector.go_on(*self._attempt)


def head_start(manager: BaseManager[Any] | None) -> HeadStart | None:
    """Begin to connect for a request that finds nothing idle, and has no owner.

    @param manager: where the request would wait; C{None}: it is not made yet.
    @return: C{None} if others wait, or if no attempt may begin now.
    """
    if manager is None:
        return None
    record, connections, dispatcher = manager.record, manager.connections, manager.dispatcher
    is_calm = record.health.is_well and record.attempts.last_error is None
    if not (is_calm and manager.lifecycle.serves) or manager.policy.slots is not None:
        return None
    if connections.idle or connections.connecting or connections.checking:
        return None
    return HeadStart(manager) if dispatcher.is_quiet() and record.room.may_connect() else None

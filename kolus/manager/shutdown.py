"""C{Shutdown}: how a manager ends: it drains, aborts what is slow, and is closed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from kolus.events import Why
from kolus.watching import Forked

if TYPE_CHECKING:
    from kolus.errors import Closed, Draining
    from kolus.manager.base import BaseManager

__all__ = ["Shutdown"]


class Shutdown:
    """Ends one manager. Its state is whether C{begin} is running; the rest is in C{Lifecycle}."""

    def __init__(self, manager: BaseManager[Any]) -> None:
        self._manager = manager
        self._begins = False

    def begin(self, refusal: type[Draining] | type[Closed]) -> None:
        """Take no more requests, and close every connection that is not leased.

        @param refusal: the error of new requests and of waiters.
        """
        manager = self._manager
        if not manager.lifecycle.end(refusal):
            self.end_if_empty()  # the alarm may call this while it ends, and would stay due
            return
        self._begins = True
        manager.record.changed(manager)
        manager.connections.retire_all(Why.CLOSED)
        for connection in tuple(manager.connections.checking):
            manager.connections.close(connection, Why.CLOSED)
        message = f"{manager!r} gives no new leases"
        while manager.waiting:
            manager.queue.fail(next(iter(manager.waiting)), refusal(message))
        manager.placements.give_up_all(refusal(message))
        manager.admission.warming.fail_all(refusal(message))
        self._begins = False
        self.end_if_empty()

    def abort_all(self) -> None:
        """The time for leases to be settled is over: log those still held, and abort all
        connections."""
        manager = self._manager
        manager.lifecycle.abort_at = math.inf
        for held in manager.supply.held():
            manager.recorder.still_held(manager.now() - held.since, held.origin)
        for connection in tuple(manager.connections.all):
            manager.connections.close(connection, Why.CLOSED, abort=True)

    def abandon(self) -> None:
        """This is a forked child: the connections are its parent's, so leave them alone."""
        manager = self._manager
        manager.lifecycle.serves = False
        manager.record.changed(manager)
        manager.alarm.clear()
        told: Any = Forked(manager.process.message())
        for connection in manager.connections.all:
            connection.retired = connection.doubtful = True
            connection.protocol = told

    def end_if_empty(self) -> None:
        """If the manager is ending and has no connections left, it is closed. Not before its
        waiters have left: they would be placed at the next manager of the same backend."""
        manager, lifecycle = self._manager, self._manager.lifecycle
        if self._begins:
            return
        if lifecycle.refusal is not None and not manager.connections.all and not lifecycle.closed:
            manager.alarm.clear()
            manager.record.leave(manager)
            lifecycle.note_closed()

"""C{Detachment}: what a connection that has left the pool still has of it, perhaps a slot.

Its state is the record whose slot the connection keeps, until it has ended.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kolus.lease import DETACHED_WITH_SLOT, Outcome

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from kolus.backend import Backend
    from kolus.connection import Connection
    from kolus.manager.backend.record import BackendRecord
    from kolus.manager.base import BaseManager

__all__ = ["DETACHES", "Detachment", "detach"]

DETACHES = {Outcome.DETACHED: False, DETACHED_WITH_SLOT: True}
"""The outcomes of leases whose connection leaves the pool, and whether it keeps its slot."""


@dataclass(frozen=True, slots=True)
class _Former:
    """Stands in for the manager of a connection that has left the pool. So a lease of it that had
    ended before can still tell its backend and its ident."""

    backend: Backend
    ident: Hashable


class Detachment:
    """Stands in for the connector of a connection that was detached.

    @ivar now: seconds on the clock of its manager.
    """

    def __init__(
        self,
        manager: BaseManager[Any],
        connection: Connection[Any],
        record: BackendRecord | None,
    ) -> None:
        """
        @param record: whose slot the connection keeps; C{None} if it keeps none.
        """
        self.now = manager.now
        self._record = record
        if record is not None:
            self._watch(connection)

    def _watch(self, connection: Connection[Any]) -> None:
        """Hear of the end of the transport, even if it is given another protocol."""
        transport: Any = connection.transport

        def lost(reason: Failure) -> None:
            del transport.connectionLost
            transport.connectionLost(reason)
            self.connection_closed(connection, reason)

        if hasattr(transport, "connectionLost"):
            with suppress(AttributeError):  # the connection's own connectionLost is told, too
                transport.connectionLost = lost

    def connection_closed(self, connection: Connection[Any], reason: Failure) -> None:
        """The connection has ended: its slot is free."""
        record, self._record = self._record, None
        if record is not None:
            record.slot_returned(connection)


def detach(
    manager: BaseManager[Any], connection: Connection[Any], outcome: Outcome, held: float
) -> None:
    """Let a connection leave the pool: from here on it only passes on what its transport tells."""
    record, keep_slot = manager.record, DETACHES[outcome]
    connection.detach(Detachment(manager, connection, record if keep_slot else None))
    manager.connections.remove(connection)
    connection.manager = _Former(manager.backend, manager.ident)
    if keep_slot:
        record.slot_kept(connection)
    manager.recorder.detached(held)
    record.budget.stays()
    manager.connections_changed()
    record.turns.wake()

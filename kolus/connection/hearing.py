"""C{Hearing}: whether anything came on a connection since somebody began to listen.

While a connection is leased, the pool has no part in what comes: it goes to the protocol. If
somebody listens, the pool notes the first that comes, and has no part in the rest.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from kolus.connection.connection import Connection

__all__ = ["Hearing"]


class Hearing:
    """Listens on the connection of a lease.

    @ivar is_silent: whether nothing has come. C{False} if that is not known, because the lease is
        of a third party's manager.
    """

    def __init__(self, leasable: Any) -> None:
        """
        @param leasable: what a lease is of; it has to be held.
        """
        connection = getattr(leasable, "connection", leasable)
        self._connection = connection if isinstance(connection, Connection) else None
        self.is_silent = self._connection is not None
        if self._connection is not None:
            if self._connection.hearings is None:
                self._connection.hearings = {}
            self._connection.hearings[self] = None
            if not _is_heard(self._connection):
                plain = self._connection.dataReceived
                self._connection.dataReceived = partial(_hear, self._connection, plain)

    def was_lost(self) -> bool:
        """Whether the connection has ended, and not because the pool ended it."""
        return self._connection is not None and self._connection.was_lost

    def stop(self) -> None:
        """Do not listen any more."""
        connection = self._connection
        if connection is not None and connection.hearings is not None:
            connection.hearings.pop(self, None)
            if not connection.hearings and _is_heard(connection):
                connection.dataReceived = connection.dataReceived.args[1]


def _is_heard(connection: Connection[Any]) -> bool:
    return getattr(connection.dataReceived, "func", None) is _hear


def _hear(connection: Connection[Any], plain: Any, data: bytes) -> None:
    hearings, connection.hearings = connection.hearings, None
    for each in hearings or ():
        each.is_silent = False
    connection.dataReceived = plain
    plain(data)

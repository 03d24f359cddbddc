"""C{PostgresTransport}: what the pool holds of a connection that libpq owns.

Its state is whether it is told to close, and whether it has reported that it is gone.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from psycopg import Error, OperationalError
from psycopg.pq import ConnStatus, TransactionStatus
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IProtocol, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.clients.postgres.stepper import Stepper
from kolus.support import has_callbacks, socket_address, steady

if TYPE_CHECKING:
    from psycopg.errors import Diagnostic
    from psycopg.pq import PGnotify

    from kolus.clients.postgres.connection import Connection

__all__ = ["PostgresTransport"]


_log = Logger()


@implementer(ITransport)
class PostgresTransport:
    """Runs the generators of a connection, and watches it between them.

    Notifications that come while nothing runs reach their handlers. When the server ends the
    connection, the protocol hears C{connectionLost}, with the server's own words if it sent any.

    @ivar connection: psycopg's connection.
    @ivar disconnecting: whether it is closed or is about to be.
    @ivar lost_transaction: whether a transaction was open when it ended, so that nothing of that
        was stored.
    """

    # The pool looks for these of Twisted's transports three times a lease. To miss one costs more
    # than to find all.
    TLS = _aborting = _writeDisconnecting = False
    producer = None

    def __init__(self, reactor: Any, connection: Connection[Any]) -> None:
        # A descriptor of its own: libpq closes the other without a word, and its number may be
        # used again before the reactor has forgotten it.
        self._socket = socket.socket(fileno=os.dup(connection.pgconn.socket))
        self.connection = connection
        self.disconnecting = self.lost_transaction = False
        self.protocol: IProtocol | None = None
        self._is_gone = False
        self._peer = socket_address(self._socket.family, self._socket.getpeername())
        self._host = socket_address(self._socket.family, self._socket.getsockname())
        self._reactor = reactor
        self._stepper = Stepper(reactor, self._socket.fileno(), self._look)
        self._last_words = ""
        connection.add_notice_handler(self._noticed)

    def start(self, protocol: IProtocol) -> None:
        """Serve a protocol, and watch the connection."""
        self.protocol = protocol
        self._stepper.rest()
        protocol.makeConnection(self)

    def begin(self, steps: Any) -> Any:
        """Let a generator take its first step. Most rows of a COPY take no other, so no Deferred is
        made for that.

        @return: what it waits for.
        @raise StopIteration: it is at its end.
        """
        if self.disconnecting:
            why = f": {self._last_words.strip()}" if self._last_words else ""
            raise OperationalError(f"the connection is closed{why}")
        try:
            return next(steps)
        except Exception:
            self._look_after()
            raise

    def run(self, steps: Any, wanted: Any, timeout: float | None) -> Deferred[Any]:
        """See L{Stepper.run}."""
        outcome = self._stepper.run(steps, wanted, timeout)
        return outcome.addBoth(self._has_run, outcome)

    def rest(self) -> None:
        """Watch the connection again, after a generator was left where it is."""
        self._stepper.rest()

    def _has_run(self, result: object, outcome: Deferred[Any]) -> object:
        if not has_callbacks(outcome):
            self._is_abandoned()
            return None
        self._look_after()
        return result

    def _look_after(self) -> None:
        """A generator has come to its end."""
        if self.connection.pgconn.status == ConnStatus.BAD:
            self._is_lost()
        elif self.protocol is not None:
            self.protocol.dataReceived(b"")  # the pool closes it if nobody had leased it

    def _is_abandoned(self) -> None:
        """Nobody awaits what has run: it was begun at the end of a block that a generator was left
        in. The lease is held by what Python has yet to collect."""
        _log.warn("a generator was left in a block: closing its connection")
        self.loseConnection()

    def _look(self) -> None:
        """Something came while nothing runs."""
        pgconn = self.connection.pgconn
        in_transaction = pgconn.transaction_status == TransactionStatus.INTRANS
        try:
            pgconn.consume_input()
            while (notification := pgconn.notifies()) is not None:
                self._tell(notification)
            is_lost = pgconn.status == ConnStatus.BAD
        except Error as error:
            self._last_words = self._last_words or str(error)
            is_lost = True
        if is_lost:
            self.lost_transaction = in_transaction
            self._is_lost()

    def _tell(self, notification: PGnotify) -> None:
        handler = self.connection.pgconn.notify_handler
        if handler is not None:
            try:
                handler(notification)
            except Exception:  # the reactor would stop to watch the socket
                _log.failure("a notify handler raised")

    def _noticed(self, notice: Diagnostic) -> None:
        if notice.severity_nonlocalized in ("FATAL", "PANIC"):
            self._last_words = notice.message_primary or ""

    def _is_lost(self) -> None:
        words = self._last_words.strip() or "the server closed the connection"
        self._gone(ConnectionLost(words))

    def _gone(self, reason: Exception) -> None:
        if self._is_gone:
            return
        self._is_gone = self.disconnecting = True
        if self.connection.pgconn.transaction_status == TransactionStatus.INTRANS:
            self.lost_transaction = True
        self._stepper.stop(OperationalError(str(reason)))
        self.connection.pgconn.finish()
        self._socket.close()
        if self.protocol is not None:
            self.protocol.connectionLost(Failure(reason))

    # ITransport

    def loseConnection(self) -> None:
        """Say good-bye to the server, and close the socket."""
        if not self.disconnecting:
            self.disconnecting = True
            closed = ConnectionDone("the program or the pool closed it")
            steady(self._reactor).callLater(0, self._gone, closed)

    abortConnection = loseConnection

    def write(self, data: bytes) -> None:
        """Refuse: only libpq writes here."""
        raise TypeError("write queries to the connection of psycopg, not bytes to its transport")

    def writeSequence(self, data: Any) -> None:
        """As C{write}."""
        self.write(b"")

    def getPeer(self) -> IAddress:
        return self._peer

    def getHost(self) -> IAddress:
        return self._host

"""C{Connection}: psycopg's C{AsyncConnection} on Twisted's reactor.

psycopg leaves it to a subclass how to wait for a socket, and how to keep users of one connection
apart. These two are replaced here; everything else is psycopg's.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus
from psycopg.rows import Row
from twisted.internet.defer import CancelledError, DeferredLock

from kolus.clients.postgres.cursor import Cursor
from kolus.clients.postgres.stepper import run_once

if TYPE_CHECKING:
    from kolus.clients.postgres.transport import PostgresTransport

__all__ = ["Connection"]

_STOPS_WITHIN = 5.0
"""Seconds for a query that was cancelled to end. Then the connection is closed."""

_log = logging.getLogger("psycopg")


class Connection(psycopg.AsyncConnection[Row]):
    """A connection to PostgreSQL. See psycopg's documentation of C{AsyncConnection}.

    Await its methods in a coroutine of Twisted. If the Deferred of that coroutine is cancelled
    while a query runs, the server is asked to cancel the query, and its end is awaited for 5 s; if
    it does not end, the connection is closed. Then the coroutine goes on with C{CancelledError}.

    @ivar soon: has a function called in the next turn of the reactor.
    """

    _transport: PostgresTransport

    def attach(self, transport: PostgresTransport, reactor: Any) -> None:
        """Be used through a transport, by a pool."""
        self._transport = transport
        self._reactor = reactor
        self.soon = reactor.callFromThread
        self.cursor_factory = Cursor
        its: Any = self
        its._pool = transport  # psycopg closes what has none
        self.lock = DeferredLock()  # type: ignore[assignment]

    async def wait(self, gen: Any, interval: float = 0.0, timeout: float | None = None) -> Any:
        """Run one of psycopg's generators."""
        try:
            wanted = self._transport.begin(gen)
        except StopIteration as end:
            return end.value
        running = self._transport.run(gen, wanted, timeout)
        try:
            return await running
        except GeneratorExit:  # nobody runs this coroutine on, so nobody hears the outcome
            running.addErrback(lambda _: None)
            raise
        except CancelledError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                await self._stop(gen)
            else:
                self._transport.rest()
            raise

    async def _stop(self, gen: Any) -> None:
        """Have the server stop a query."""
        try:
            await self.cancel_safe(timeout=_STOPS_WITHIN)
            await self._transport.run(gen, self._transport.begin(gen), _STOPS_WITHIN)
        except errors.QueryCanceled:
            return
        except (Exception, GeneratorExit) as error:
            if not self.closed:  # the pool may have closed it meanwhile
                _log.warning("a query could not be cancelled: closing its connection (%r)", error)
                await self.close()

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:
        """Ask the server to cancel what runs.

        @raise psycopg.errors.CancellationTimeout: it could not be asked within C{timeout} seconds.
        """
        if not self._should_cancel():
            return
        try:
            await run_once(self._reactor, self._cancel_gen(), timeout)
        except errors._WaitTimeout:
            raise errors.CancellationTimeout("cancellation timeout expired") from None

    @property
    def closed(self) -> bool:
        """Whether it is closed, also while the pool has yet to close the socket."""
        return self._closed or super().closed

    @property
    def has_lost_transaction(self) -> bool:
        """Whether it ended while a transaction was open, and the program did not close it."""
        return self._transport.lost_transaction and not self._closed

    async def close(self) -> None:
        """Close it. The pool makes another in its place when one is needed."""
        self._closed = True
        self._transport.loseConnection()

"""C{Session}: the protocol that the pool keeps for each connection, and what makes it as new."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import generators
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from twisted.internet.protocol import Protocol

from kolus.policy import Policy

if TYPE_CHECKING:
    from kolus.clients.postgres.connection import Connection

__all__ = ["Session", "Settings"]


class Session(Protocol):
    """What a lease of a C{PostgresPool} has as its C{protocol}.

    @ivar connection: psycopg's connection.
    """

    connection: Connection[Any]

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self.connection = transport.connection

    def dataReceived(self, data: bytes) -> None:
        """Called without data after each answer: libpq reads for itself."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How each connection is when it is leased.

    @ivar autocommit: whether each statement is a transaction of its own.
    @ivar row_factory: makes the rows of results.
    @ivar prepare_threshold: after how many executions a query is prepared; C{None}: never.
    @ivar discard: whether C{DISCARD ALL} is sent whenever a lease ends.
    @ivar prepare: called once with each new connection of psycopg.
    """

    autocommit: bool = False
    row_factory: Any = tuple_row
    prepare_threshold: int | None = 5
    discard: bool = False
    prepare: Callable[[Connection[Any]], Awaitable[object] | None] | None = None

    def policy(self, policy: Policy) -> Policy:
        """A policy with the hooks of PostgreSQL where it has none of its own."""
        return policy.completed(
            prepare=self.begin, check=self.check, clean=is_clean, reset=self.reset
        )

    async def begin(self, session: Session) -> None:
        """Make a new connection ready."""
        self._apply(session.connection)
        if self.prepare is not None:
            outcome = self.prepare(session.connection)
            if outcome is not None:
                await outcome
            await self._reset(session.connection)

    async def check(self, session: Session) -> None:
        """Send an empty query, and await its answer."""
        async with session.connection.lock:
            await session.connection.wait(_nothing(session.connection.pgconn))

    def reset(self, session: Session) -> Awaitable[object] | bool:
        """Make a connection as new after a lease: a transaction that is open is rolled back.

        @return: C{False} if a query still runs.
        """
        connection = session.connection
        status = connection.pgconn.transaction_status
        if status == TransactionStatus.IDLE and not self.discard:
            return self._apply(connection)
        if status in (TransactionStatus.ACTIVE, TransactionStatus.UNKNOWN):
            return False
        return self._reset(connection)

    async def _reset(self, connection: Connection[Any]) -> bool:
        await connection.rollback()
        if self.discard:
            await connection.set_autocommit(True)
            await connection.execute("DISCARD ALL", prepare=False)
            connection._prepared.clear()  # psycopg does it by itself the first time only
            connection._prepared._to_flush.clear()
        return self._apply(connection)

    def _apply(self, connection: Connection[Any]) -> bool:
        """Undo what a lessee may have set on our side."""
        connection._autocommit = self.autocommit
        connection._isolation_level = connection._read_only = connection._deferrable = None
        connection._begin_statement = b""
        connection.row_factory = self.row_factory
        connection.prepare_threshold = self.prepare_threshold
        connection._notify_handlers.clear()
        if connection._notifies_backlog is not None:
            connection._notifies_backlog.clear()
        return connection._pipeline is None


def _nothing(pgconn: Any) -> Any:
    pgconn.send_query(b"")
    yield from generators.execute(pgconn)


def is_clean(session: Session) -> bool:
    """Whether no query is under way. A transaction may be open: C{reset} ends it."""
    connection = session.connection
    status = connection.pgconn.transaction_status
    under_way = status in (TransactionStatus.ACTIVE, TransactionStatus.UNKNOWN)
    return not under_way and connection._pipeline is None

"""C{PostgresBlock}: a connection of psycopg for a block, whose transaction ends with it."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from psycopg import pq
from twisted.logger import Logger

from kolus.clients.block import Block
from kolus.clients.postgres.connection import Connection

__all__ = ["PostgresBlock"]

_log = Logger()
_AT_REST = pq.TransactionStatus.IDLE


class PostgresBlock(Block):
    """What C{PostgresPool.connection} returns: at its end the transaction is committed, or rolled
    back if the block raised."""

    __slots__ = ("_connection",)

    _connection: Connection[Any]

    async def __aenter__(self) -> Connection[Any]:
        self._lease = lease = await self.leased()
        self._connection = lease.protocol.connection
        return self._connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        connection = self._connection
        try:
            if isinstance(error, GeneratorExit):
                pass  # nobody runs this coroutine on: the pool rolls back
            elif error is not None:
                await _roll_back(connection)
            elif _has_work(connection):
                await connection.commit()
        except BaseException as its:
            await self._lease.__aexit__(type(its), its, its.__traceback__)
            raise
        await self._lease.__aexit__(kind, error, traceback)


def _has_work(connection: Connection[Any]) -> bool:
    """Whether there may be something to commit, or there was, and it was lost."""
    if connection.pgconn.transaction_status == _AT_REST and connection._pipeline is None:
        return False
    return not connection.closed or connection.has_lost_transaction


async def _roll_back(connection: Connection[Any]) -> None:
    if connection.closed:
        return
    try:
        await connection.rollback()
    except Exception as error:  # the block's own error says more
        _log.warn("a rollback failed: {error!r}", error=error)

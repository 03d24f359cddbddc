"""C{Cursor}: psycopg's C{AsyncCursor}, whose C{stream} may be left half-way.

asyncio's loop closes an asynchronous generator that nobody refers to any more. Twisted does not,
and psycopg's would keep the lock of its connection for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.rows import Row
from twisted.internet.defer import Deferred

__all__ = ["Cursor"]


class Cursor(psycopg.AsyncCursor[Row]):
    """See psycopg's documentation of C{AsyncCursor}."""

    def stream(self, *arguments: Any, **options: Any) -> Any:
        """See C{AsyncCursor.stream}."""
        connection: Any = self.connection
        return _Stream(super().stream(*arguments, **options), connection.soon)


class _Stream:
    """An asynchronous generator that is closed when nobody refers to this any more."""

    def __init__(self, rows: Any, soon: Callable[..., object]) -> None:
        self._rows = rows
        self._soon = soon

    def __aiter__(self) -> Any:
        return self

    def __anext__(self) -> Any:
        return self._rows.__anext__()

    def aclose(self) -> Any:
        return self._rows.aclose()

    def __del__(self) -> None:
        self._soon(_close, self._rows)


def _close(rows: Any) -> None:
    async def close() -> None:
        await rows.aclose()

    Deferred.fromCoroutine(close())

"""PostgreSQL: pooled connections of psycopg 3 on Twisted's reactor, without threads or asyncio.

Needs C{pip install 'kolus[postgres]'}.
"""

try:
    import psycopg  # noqa: F401
except ImportError as error:
    raise ImportError(
        "kolus.clients.postgres needs psycopg 3; write: pip install 'kolus[postgres]'"
    ) from error

from kolus.clients.postgres.connection import Connection
from kolus.clients.postgres.pool import PostgresPool
from kolus.clients.postgres.session import Session

__all__ = ["Connection", "PostgresPool", "Session"]

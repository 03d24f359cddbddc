"""Redis calls for the tests: txredisapi's protocols, without its own pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from txredisapi import RedisProtocol

from kolus import Pool
from tests.net.servers import Server

__all__ = ["DATABASE", "answers", "ask", "build", "choose_database"]

DATABASE = 7


def build() -> Callable[[], Any]:
    """What makes the protocols.

    Not the library's factory, which would keep every connection in a queue of its own for ever.
    With a C{dbid} each would choose its database by itself, without the pool's time limit.
    """
    return RedisProtocol  # type: ignore[no-any-return]


async def choose_database(protocol: Any) -> None:
    """Prepare a connection."""
    await protocol.select(DATABASE)


async def answers(protocol: Any) -> None:
    """Check a connection."""
    await protocol.ping()


async def ask(pool: Pool[Any], server: Server, command: str, *arguments: Any) -> Any:
    """Run one command through a lease of its own."""
    async with await pool.connect("test", server.endpoint) as lease:
        return await getattr(lease.protocol, command)(*arguments)

"""One call by each of asyncio's clients."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module
from itertools import cycle
from typing import Any

from tests.bench.peers.bare import Exchange

__all__ = ["CALLS", "Client"]

Client = tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[object]]]
"""A call, and what closes the client."""


async def http_aiohttp(port: int, limit: int) -> Client:
    aiohttp: Any = import_module("aiohttp")
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=limit))

    async def call() -> object:
        async with session.get(f"http://127.0.0.1:{port}/") as response:
            return await response.read()

    return call, session.close


async def http_httpx(port: int, limit: int) -> Client:
    httpx: Any = import_module("httpx")
    limits = httpx.Limits(max_connections=limit, max_keepalive_connections=limit)
    client = httpx.AsyncClient(limits=limits, timeout=30.0)

    async def call() -> object:
        return (await client.get(f"http://127.0.0.1:{port}/")).content

    return call, client.aclose


async def redis_asyncio(port: int, limit: int) -> Client:
    module: Any = import_module("redis.asyncio")
    pool = module.BlockingConnectionPool(port=port, max_connections=limit, timeout=30)
    redis = module.Redis(connection_pool=pool)
    return lambda: redis.get("key"), redis.aclose


async def postgres_psycopg(port: int, limit: int) -> Client:
    module: Any = import_module("psycopg_pool")
    pool = module.AsyncConnectionPool(
        f"host=127.0.0.1 port={port} user=postgres password=secret",
        min_size=1,
        max_size=limit,
        open=False,
        kwargs={"autocommit": True},
    )
    await pool.open()

    async def call() -> object:
        async with pool.connection() as connection:
            return await (await connection.execute("select 1")).fetchone()

    return call, pool.close


async def postgres_asyncpg(port: int, limit: int) -> Client:
    module: Any = import_module("asyncpg")
    pool = await module.create_pool(
        host="127.0.0.1",
        port=port,
        user="postgres",
        password="secret",
        database="postgres",
        min_size=1,
        max_size=limit,
    )

    async def call() -> object:
        async with pool.acquire() as connection:
            return await connection.fetchrow("select 1")

    return call, pool.close


async def http_held(port: int, limit: int) -> Client:
    """aiohttp's protocol on held connections, each with a session of its own."""
    aiohttp: Any = import_module("aiohttp")

    class Held(aiohttp.TCPConnector):  # type: ignore[misc]
        """Has one connection, which is always ready."""

        _protocol: Any = None

        async def connect(self, request: Any, traces: Any, timeout: Any) -> Any:
            if self._protocol is None:
                self._protocol = await self._create_connection(request, traces, timeout)
            key = request.connection_key
            return aiohttp.connector.Connection(self, key, self._protocol, self._loop)

        def _release(self, *_: object, **__: object) -> None:
            pass

    held = [(asyncio.Lock(), aiohttp.ClientSession(connector=Held())) for _ in range(limit)]
    turns = cycle(held)

    async def call() -> object:
        lock, session = next(turns)
        async with lock, session.get(f"http://127.0.0.1:{port}/") as response:
            return await response.read()

    async def close() -> None:
        for _, session in held:
            await session.close()

    return call, close


def bare(kind: str) -> Callable[[int, int], Awaitable[Client]]:
    """The bytes of one kind of server, on held connections."""

    async def make(port: int, limit: int) -> Client:
        loop = asyncio.get_running_loop()

        class Bare(asyncio.Protocol):
            def __init__(self) -> None:
                self.exchange: Exchange[asyncio.Future[None]] = Exchange(
                    kind, loop.create_future, lambda answer: answer.set_result(None)
                )
                self.data_received = self.exchange.came  # type: ignore[method-assign]

        held = [await loop.create_connection(Bare, "127.0.0.1", port) for _ in range(limit)]
        turns = cycle([(each.exchange.ask, transport.write) for transport, each in held])

        def call() -> asyncio.Future[None]:
            ask, write = next(turns)
            return ask(write)

        async def close() -> None:
            for transport, _ in held:
                transport.abort()

        return call, close

    return make


async def postgres_held(port: int, limit: int) -> Client:
    """psycopg's protocol on held connections."""
    psycopg: Any = import_module("psycopg")
    conninfo = f"host=127.0.0.1 port={port} user=postgres password=secret"
    connect = psycopg.AsyncConnection.connect
    held = [await connect(conninfo, autocommit=True) for _ in range(limit)]
    turns = cycle(held)

    async def call() -> object:
        return await (await next(turns).execute("select 1")).fetchone()

    async def close() -> None:
        for each in held:
            await each.close()

    return call, close


CALLS = {
    ("http", "aiohttp"): http_aiohttp,
    ("http", "httpx"): http_httpx,
    ("redis", "redis.asyncio"): redis_asyncio,
    ("postgres", "psycopg_pool"): postgres_psycopg,
    ("postgres", "asyncpg"): postgres_asyncpg,
    ("http", "no pool, aiohttp"): http_held,
    ("http", "no pool, asyncio"): bare("http"),
    ("redis", "no pool, asyncio"): bare("redis"),
    ("postgres", "no pool, asyncio"): postgres_held,
}

"""One call by each of asyncio's clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

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


CALLS = {
    ("http", "aiohttp"): http_aiohttp,
    ("http", "httpx"): http_httpx,
    ("redis", "redis.asyncio"): redis_asyncio,
    ("postgres", "psycopg_pool"): postgres_psycopg,
    ("postgres", "asyncpg"): postgres_asyncpg,
}

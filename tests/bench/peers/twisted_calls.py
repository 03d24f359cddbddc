"""One call by each of Twisted's clients: kolus, and what its users have without it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import cycle
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed

from tests.bench.peers.bare import Exchange

__all__ = ["CALLS", "Client"]

Client = tuple[Callable[[], Awaitable[object]], Callable[[], Deferred[Any]]]
"""A call, and what closes the client."""


def _policy(limit: int, **settings: Any) -> Any:
    """Requests wait while the server is away, which is the only one, and near."""
    from kolus import Policy
    from kolus.backoff import Backoff

    soon = Backoff(first=0.05, most=0.2)
    return Policy(limit=limit, acquire_timeout=30.0, fail_fast=False, backoff=soon, **settings)


def _http(agent: Any, port: int) -> Callable[[], Awaitable[object]]:
    from twisted.web.client import readBody

    url = b"http://127.0.0.1:%d/" % port

    async def call() -> bytes:
        return bytes(await readBody(await agent.request(b"GET", url)))

    return call


async def http_kolus(reactor: Any, port: int, limit: int) -> Client:
    from kolus.clients.http import HTTPPool

    pool = HTTPPool(reactor, policy=_policy(limit))
    return _http(pool.agent(), port), lambda: pool.close(0)


async def http_twisted(reactor: Any, port: int, limit: int) -> Client:
    from twisted.web.client import Agent, HTTPConnectionPool

    pool = HTTPConnectionPool(reactor)
    pool.maxPersistentPerHost = limit
    return _http(Agent(reactor, pool=pool), port), pool.closeCachedConnections


async def redis_kolus(reactor: Any, port: int, limit: int) -> Client:
    from kolus.clients.redis import RedisPool

    redis = RedisPool(reactor, ("127.0.0.1", port), policy=_policy(limit, slots=100))
    return lambda: redis.get("key"), lambda: redis.close(0)


async def redis_txredisapi(reactor: Any, port: int, limit: int) -> Client:
    import txredisapi

    redis = await txredisapi.ConnectionPool("127.0.0.1", port, poolsize=limit)
    return lambda: redis.get("key"), redis.disconnect


async def postgres_kolus(reactor: Any, port: int, limit: int) -> Client:
    from kolus.clients.postgres import PostgresPool

    conninfo = f"host=127.0.0.1 port={port} user=postgres password=secret"
    pool = PostgresPool(reactor, conninfo, policy=_policy(limit), autocommit=True)

    async def call() -> object:
        async with pool.connection() as connection:
            return await (await connection.execute("select 1")).fetchone()

    return call, lambda: pool.close(0)


async def postgres_adbapi(reactor: Any, port: int, limit: int) -> Client:
    from twisted.enterprise.adbapi import ConnectionPool

    pool = ConnectionPool(
        "psycopg2",
        f"host=127.0.0.1 port={port} user=postgres password=secret",
        cp_min=1,
        cp_max=limit,
        cp_reconnect=True,
    )

    def close() -> Deferred[None]:
        pool.close()
        return succeed(None)

    return lambda: pool.runQuery("select 1"), close


async def http_held(reactor: Any, port: int, limit: int) -> Client:
    """Twisted's protocol on held connections, each with an agent of its own."""
    from twisted.internet.defer import DeferredLock
    from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
    from twisted.web._newclient import HTTP11ClientProtocol
    from twisted.web.client import Agent
    from twisted.web.iweb import IAgentEndpointFactory
    from zope.interface import implementer

    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)

    @implementer(IAgentEndpointFactory)
    class Known:
        def endpointForURI(self, uri: object) -> object:
            return endpoint

    class Held:
        """Stands for a pool of one connection that is always ready."""

        persistent = True

        def __init__(self, protocol: Any) -> None:
            self._protocol = protocol

        def getConnection(self, key: object, endpoint: object) -> Deferred[Any]:
            return succeed(self._protocol)

    held = [await connectProtocol(endpoint, HTTP11ClientProtocol()) for _ in range(limit)]
    agents = [Agent.usingEndpointFactory(reactor, Known(), Held(each)) for each in held]
    turns = cycle([(DeferredLock(), _http(each, port)) for each in agents])

    async def call() -> object:
        lock, ask = next(turns)
        async with lock:
            return await ask()

    def close() -> Deferred[Any]:
        return gatherResults([each.abort() for each in held])

    return call, close


def bare(kind: str) -> Callable[[Any, int, int], Awaitable[Client]]:
    """The bytes of one kind of server, on held connections."""

    async def make(reactor: Any, port: int, limit: int) -> Client:
        from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
        from twisted.internet.protocol import Protocol

        class Bare(Protocol):
            def __init__(self) -> None:
                self.exchange: Exchange[Deferred[None]] = Exchange(
                    kind, Deferred, lambda answer: answer.callback(None)
                )
                self.dataReceived = self.exchange.came  # type: ignore[method-assign]

        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        held = [await connectProtocol(endpoint, Bare()) for _ in range(limit)]
        turns = cycle([(each.exchange.ask, each.transport.write) for each in held])

        def call() -> Deferred[None]:
            ask, write = next(turns)
            answer: Deferred[None] = ask(write)
            return answer

        def close() -> Deferred[None]:
            for each in held:
                each.transport.abortConnection()
            return succeed(None)

        return call, close

    return make


async def postgres_held(reactor: Any, port: int, limit: int) -> Client:
    """psycopg's protocol on held connections."""
    from kolus import Policy
    from kolus.clients.postgres import PostgresPool

    conninfo = f"host=127.0.0.1 port={port} user=postgres password=secret"
    pool = PostgresPool(reactor, conninfo, policy=Policy(limit=limit), autocommit=True)
    turns = cycle([await pool.connect() for _ in range(limit)])

    async def call() -> object:
        connection = next(turns).protocol.connection
        return await (await connection.execute("select 1")).fetchone()

    return call, lambda: pool.close(0)


CALLS = {
    ("http", "kolus"): http_kolus,
    ("http", "HTTPConnectionPool"): http_twisted,
    ("redis", "kolus"): redis_kolus,
    ("redis", "txredisapi"): redis_txredisapi,
    ("postgres", "kolus"): postgres_kolus,
    ("postgres", "adbapi"): postgres_adbapi,
    ("http", "no pool, Agent"): http_held,
    ("http", "no pool, Twisted"): bare("http"),
    ("redis", "no pool, Twisted"): bare("redis"),
    ("postgres", "no pool, Twisted"): postgres_held,
}

"""The peers: other pools and queues, each measured through its public API.

A peer that is not installed has no cases. Peers on asyncio run on their own loop, which is started
for each sample; the time is measured inside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.metadata import version
from random import Random
from types import SimpleNamespace
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.testing import StringTransport
from twisted.web.client import HTTPConnectionPool

from tests.bench.contention import CONNECTIONS, on_asyncio, on_twisted
from tests.bench.crowd import DEPTHS, crowd_cases
from tests.bench.idle import OPERATIONS, Source, awaited, called_back, queue
from tests.bench.measure import Case, Meter

T = TypeVar("T")

FEW = OPERATIONS // 5
"""Operations in a sample of who needs several F for each."""

AWAITED, CALLED_BACK = "idle, awaited", "idle, called back"

# Twisted's


def semaphore(things: int) -> Source:
    return Source("DeferredSemaphore", DeferredSemaphore(things).acquire, DeferredSemaphore.release)


class _Quiescent:
    """As far as its pool looks, a connection over which no request is under way."""

    state = "QUIESCENT"


def http_pool(reactor: Any) -> Source:
    """With connections that are ready and never used; a retry's wrapper is left out."""
    pool = HTTPConnectionPool(reactor)
    pool.retryAutomatically = False
    put = partial(pool._putConnection, "us")
    for _ in range(pool.maxPersistentPerHost):
        put(_Quiescent())
    nowhere: Any = None
    return Source("HTTPConnectionPool", partial(pool.getConnection, "us", nowhere), put)


def twisted_cases(reactor: Any, rng: Random) -> list[Case]:
    cases = []
    for make in (queue, semaphore):
        cases += [
            awaited(AWAITED, make(CONNECTIONS)),
            called_back(CALLED_BACK, make(CONNECTIONS)),
            on_twisted(reactor, make(CONNECTIONS)),
        ]
        for depth in DEPTHS:
            # They look for whom to cancel from the beginning of a list.
            cancels = 20 if depth > 10_000 else 1000
            cases += crowd_cases(make(1), depth, rng, cancels)
    http = http_pool(reactor)
    return [*cases, awaited(AWAITED, http, FEW), called_back(CALLED_BACK, http)]


# Others'


@dataclass(frozen=True, slots=True)
class OtherLoop:
    """The loop of those on asyncio: it runs while one of them is measured."""

    runner: asyncio.Runner
    closing: AsyncExitStack
    """What they leave open until the end."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def on(self, case: Case) -> Case:
        """The case, measured on this loop."""

        async def sample(meter: Meter) -> Mapping[str, float]:
            async def run() -> Mapping[str, float]:
                return await case.sample(meter)

            return self.run(run())

        return replace(case, sample=sample)


@contextmanager
def other_loop() -> Iterator[OtherLoop]:
    with asyncio.Runner() as runner:
        loop = OtherLoop(runner, AsyncExitStack())
        try:
            yield loop
        finally:
            loop.run(loop.closing.aclose())


async def txredisapi_cases(reactor: Any, loop: object) -> list[Case]:
    """What a blocking command or a transaction does around its use of the connection."""
    redis = import_module("txredisapi")
    factory = redis.RedisFactory("us", None, CONNECTIONS)
    for _ in range(CONNECTIONS):
        factory.buildProtocol(None).makeConnection(StringTransport())
    turned: Deferred[None] = Deferred()
    reactor.callLater(0, turned.callback, None)  # after those that bring the connections home
    await turned
    assert factory.size == CONNECTIONS
    source = Source("txredisapi", factory.getConnection, factory.connectionQueue.put)
    return [awaited(AWAITED, source, FEW), called_back(CALLED_BACK, source)]


async def sqlalchemy_cases(reactor: object, loop: object) -> list[Case]:
    """C{QueuePool}, which gives at once, over a DBAPI that does nothing."""
    pool_module = import_module("sqlalchemy.pool")
    connection = SimpleNamespace(rollback=lambda: None, close=lambda: None)
    pool = pool_module.QueuePool(lambda: connection, pool_size=CONNECTIONS)

    async def sample(meter: Meter) -> Mapping[str, float]:
        connect = pool.connect
        with meter.whole(FEW) as reading:
            for _ in range(FEW):
                connect().close()
        return {AWAITED: reading.in_f}

    return [Case("SQLAlchemy QueuePool", sample)]


async def aiohttp_cases(reactor: object, loop: OtherLoop) -> list[Case]:
    """C{TCPConnector}, whose new connections are to nowhere."""
    aiohttp = import_module("aiohttp")
    handler = import_module("aiohttp.client_proto").ResponseHandler

    class Nowhere(asyncio.Transport):
        def __init__(self, protocol: asyncio.Protocol) -> None:
            super().__init__()
            self._protocol = protocol

        def is_closing(self) -> bool:
            return False

        def close(self) -> None:
            self._protocol.connection_lost(None)

    class Connector(aiohttp.TCPConnector):  # type: ignore[misc, name-defined]
        async def _create_connection(self, *_: object) -> object:
            protocol = handler(asyncio.get_running_loop())
            protocol.connection_made(Nowhere(protocol))
            return protocol

    async def make() -> Source:
        here = asyncio.get_running_loop()
        connector = await loop.closing.enter_async_context(Connector(limit=CONNECTIONS))
        request = aiohttp.ClientRequest("GET", aiohttp.client.URL("http://127.0.0.1/"), loop=here)
        ask = partial(connector.connect, request, [], aiohttp.ClientTimeout())
        for connection in [await ask() for _ in range(CONNECTIONS)]:
            connection.release()
        return Source("aiohttp", ask, aiohttp.connector.Connection.release)

    source = loop.run(make())
    return [loop.on(awaited(AWAITED, source, FEW)), loop.on(on_asyncio(source))]


async def psycopg_cases(reactor: object, loop: OtherLoop) -> list[Case]:
    """C{AsyncConnectionPool} over a connection class that connects to nothing."""
    module = import_module("psycopg_pool")
    idle = import_module("psycopg.pq").TransactionStatus.IDLE

    class Connection:
        pgconn = SimpleNamespace(transaction_status=idle)

        @classmethod
        async def connect(cls, *_: object, **__: object) -> Connection:
            return cls()

        async def close(self) -> None:
            pass

    async def make() -> Source:
        pool = module.AsyncConnectionPool(
            connection_class=Connection, min_size=CONNECTIONS, max_size=CONNECTIONS, open=False
        )
        await loop.closing.enter_async_context(pool)
        await pool.wait()
        return Source("psycopg_pool", pool.getconn, pool.putconn)

    source = loop.run(make())
    return [loop.on(awaited(AWAITED, source, FEW)), loop.on(on_asyncio(source))]


OTHERS: dict[str, Callable[[Any, Any], Coroutine[Any, Any, list[Case]]]] = {
    "aiohttp": aiohttp_cases,
    "psycopg_pool": psycopg_cases,
    "SQLAlchemy": sqlalchemy_cases,
    "txredisapi": txredisapi_cases,
}
"""By the names of their distributions; the extra C{bench} brings them."""


async def other_cases(reactor: Any, loop: OtherLoop) -> tuple[list[Case], dict[str, str | None]]:
    """
    @return: the cases of those that are not Twisted's own, and their versions; C{None} for one
        that is not installed.
    """
    cases: list[Case] = []
    versions: dict[str, str | None] = {}
    for name, make in OTHERS.items():
        try:
            cases += await make(reactor, loop)
        except ImportError:
            versions[name] = None
        else:
            versions[name] = version(name)
    return cases, versions

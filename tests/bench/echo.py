"""An echo over TCP on loopback: the share of the pool in the client's CPU time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from time import thread_time
from typing import Any

from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from kolus import Backend, Pool
from tests.bench.measure import Case, Meter

BATCH, BATCHES = 20, 20
"""Echoes at a time, and how often each way takes its turn in a sample."""
ECHO_BY_HAND = "echo, with a DeferredQueue"
MESSAGE = b"hello" * 10


class Caller(Protocol):
    """Sends a message and waits for it to come back."""

    _answered: Deferred[None]
    _missing = 0

    def call(self) -> Deferred[None]:
        self._missing = len(MESSAGE)
        self._answered = Deferred()
        assert self.transport is not None
        self.transport.write(MESSAGE)
        return self._answered

    def dataReceived(self, data: bytes) -> None:
        self._missing -= len(data)
        if not self._missing:
            self._answered.callback(None)


async def echo_case(reactor: Any, port: int) -> Case:
    """The pool's share of an echo's CPU time in the client, and that of a C{DeferredQueue}."""
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    bare: Any = await endpoint.connect(Factory.forProtocol(Caller))
    pool, backend = Pool(reactor, Caller), Backend(f"tcp:127.0.0.1:{port}")
    (await pool.connect("us", backend)).release()
    manager = pool.manager(backend)
    assert manager is not None

    async def with_pool() -> None:
        for _ in range(BATCH):
            lease = await manager.connect("us")
            await lease.protocol.call()
            lease.release()

    lent: DeferredQueue[Any] = DeferredQueue()
    lent.put(bare)

    async def by_hand() -> None:
        for _ in range(BATCH):
            client = await lent.get()
            await client.call()
            lent.put(client)

    async def without() -> None:
        for _ in range(BATCH):
            await bare.call()

    async def sample(meter: Meter) -> Mapping[str, float]:
        # A share needs no unit, but both ways within milliseconds: what a system call costs
        # depends on which core the server is on just then. In this order a drift cancels out.
        await with_pool()
        await by_hand()  # now both are in the processor's caches
        await without()
        seconds: defaultdict[Callable[[], Awaitable[None]], float] = defaultdict(float)
        order = (with_pool, by_hand, without)
        for way in (*order, *reversed(order)) * (BATCHES // 2):
            start = thread_time()
            await way()
            seconds[way] += thread_time() - start
        return {
            "echo": 100 * (1 - seconds[without] / seconds[with_pool]),
            ECHO_BY_HAND: 100 * (1 - seconds[without] / seconds[by_hand]),
        }

    return Case("kolus", sample)

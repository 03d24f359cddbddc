"""A program on the asyncio reactor that asks a pool from tasks, and prints what came of it."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet import asyncioreactor

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
asyncioreactor.install(loop)

from twisted.internet import reactor  # noqa: E402
from twisted.internet.defer import Deferred, ensureDeferred  # noqa: E402
from twisted.internet.endpoints import TCP4ServerEndpoint  # noqa: E402
from twisted.internet.protocol import Factory, Protocol  # noqa: E402

from kolus import Policy, Pool  # noqa: E402


async def refused(awaitable: Any) -> str:
    try:
        await awaitable
    except RuntimeError as error:
        return "advised" if "kolus.aio.lease" in str(error) else repr(error)
    return "served"


async def tasks(pool: Pool[Any], where: tuple[str, int]) -> None:
    print("connecting:", await refused(pool.connect("u", where)))
    lease = await pool.connect("u", where).asFuture(loop)
    print("as a future:", lease.held)
    print("waiting:", await refused(pool.connect("u", where)))
    lease.release()
    print("idle:", await refused(pool.connect("u", where)))
    print(
        "by a coroutine of Twisted's:",
        await Deferred.fromCoroutine(use(pool, where)).asFuture(loop),
    )
    (status,) = pool.status([where])
    counters = pool.counters()
    print("left:", status.idle, status.leased, status.waiting, counters.forgotten)


async def use(pool: Pool[Any], where: tuple[str, int]) -> bool:
    async with pool.connect("u", where) as lease:
        return lease.held


async def main() -> None:
    its: Any = reactor
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
        Factory.forProtocol(Protocol)
    )
    pool: Pool[Any] = Pool(reactor, Protocol, policy=Policy(limit=1))
    await Deferred.fromFuture(
        asyncio.ensure_future(tasks(pool, ("127.0.0.1", port.getHost().port)))
    )
    await pool.close()
    await port.stopListening()
    its.stop()


def failed(failure: Any) -> None:
    failure.printTraceback()
    its: Any = reactor
    its.stop()


if __name__ == "__main__":
    its: Any = reactor
    its.callWhenRunning(lambda: ensureDeferred(main()).addErrback(failed))
    its.run()

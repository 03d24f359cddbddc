"""Tasks of asyncio share the connections of a pool, and one that is late is cancelled.

The example has its own server: python examples/asyncio_tasks.py
"""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet import asyncioreactor

LOOP = asyncio.new_event_loop()
asyncio.set_event_loop(LOOP)
asyncioreactor.install(LOOP)  # before anything else imports the reactor

from twisted.internet import reactor  # noqa: E402
from twisted.internet.defer import Deferred  # noqa: E402
from twisted.internet.protocol import Factory, Protocol  # noqa: E402

from kolus import Policy, Pool, aio  # noqa: E402

TASKS = 100


class Shout(Protocol):
    """The server: answers in capitals; to C{late}, never."""

    def dataReceived(self, data: bytes) -> None:
        if data != b"late" and self.transport is not None:
            self.transport.write(data.upper())


class Ask(Protocol):
    """The client: one question at a time."""

    answer: Deferred[bytes]

    def ask(self, question: bytes) -> Deferred[bytes]:
        self.answer = Deferred()
        assert self.transport is not None
        self.transport.write(question)
        return self.answer

    def dataReceived(self, data: bytes) -> None:
        self.answer.callback(data)


async def ask(pool: Pool[Ask], where: tuple[str, int], question: bytes) -> bytes:
    async with aio.lease(pool, "asking", where) as lease:
        return await aio.wait(lease.protocol.ask(question))


async def main() -> None:
    its: Any = reactor
    listening = its.listenTCP(0, Factory.forProtocol(Shout), interface="127.0.0.1")
    where = ("127.0.0.1", listening.getHost().port)
    pool = Pool(reactor, Ask, policy=Policy(limit=5))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(pool, where, b"hello")) for _ in range(TASKS)]
    assert {task.result() for task in tasks} == {b"HELLO"}
    try:
        async with asyncio.timeout(0.1):
            await ask(pool, where, b"late")
    except TimeoutError:
        print("the late one was cancelled")
    print(f"{TASKS} answers on {pool.counters().connects} connections")
    await aio.wait(pool.close())
    await aio.wait(listening.stopListening())


async def run() -> None:
    try:
        await main()
    finally:
        reactor.stop()


if __name__ == "__main__":
    tasks: list[Any] = []
    reactor.callWhenRunning(lambda: tasks.append(LOOP.create_task(run())))
    reactor.run()

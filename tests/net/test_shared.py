"""Shared connections on real sockets: AMP, and txredisapi's pipelining against redis-server."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.protocols.amp import AMP, Command, Integer
from txredisapi import ConnectionError as RedisConnectionError
from txredisapi import RedisProtocol

from kolus import Pool
from tests.net.asking import assert_whole, in_parallel, until
from tests.net.servers import Server

MakePool = Callable[..., Pool[Any]]
LATE = 0.05
"""Seconds that an answer takes at the most."""


class Square(Command):
    """Asks for the square of a number, and gets it late."""

    arguments = [(b"number", Integer())]  # noqa: RUF012
    response = [(b"square", Integer())]  # noqa: RUF012


class Answerer(AMP):
    """The backend's end: answers come late and out of order."""

    factory: Answerers

    @Square.responder
    def square(self, number: int) -> Deferred[dict[str, int]]:
        self.factory.asked += 1
        chance = self.factory.chance
        return deferLater(
            reactor, LATE * chance.random(), self.factory.answer, {"square": number * number}
        )

    def connectionMade(self) -> None:
        self.factory.open.add(self)
        self.factory.most = max(self.factory.most, len(self.factory.open))

    def connectionLost(self, reason: Any) -> None:
        self.factory.open.discard(self)
        super().connectionLost(reason)
        if not self.factory.open and self.factory.gone is not None:
            self.factory.gone.callback(None)


class Answerers(Factory):
    """An AMP server.

    @ivar open: its connections.
    @ivar most: the most that it has seen at a time.
    @ivar asked: how many questions have come.
    @ivar answered: how many answers were made.
    """

    noisy = False
    protocol = Answerer

    def __init__(self) -> None:
        self.open: set[Answerer] = set()
        self.most = self.asked = self.answered = 0
        self.gone: Deferred[None] | None = None
        self.chance = random.Random(3)
        self.endpoint = ""

    def answer(self, answer: dict[str, int]) -> dict[str, int]:
        self.answered += 1
        return answer


@pytest_twisted.async_yield_fixture
async def answerers() -> AsyncIterator[Answerers]:
    factory = Answerers()
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    factory.endpoint = f"tcp:127.0.0.1:{port.getHost().port}"
    yield factory
    await port.stopListening()
    await until(reactor, lambda: factory.answered == factory.asked)
    if factory.open:
        factory.gone = Deferred()
        for each in factory.open:
            each.transport.abortConnection()
        await factory.gone


async def square(pool: Pool[Any], endpoint: str, number: int) -> int:
    async with await pool.connect("test", endpoint) as lease:
        answer = await lease.protocol.callRemote(Square, number=number)
        result: int = answer["square"]
        return result


@pytest_twisted.ensureDeferred
async def test_fifty_callers_of_amp_share_two_connections(
    make_pool: MakePool, answerers: Answerers
) -> None:
    pool = make_pool(AMP, limit=2, slots=8, max_waiters=50)
    where = answerers.endpoint
    answers = await in_parallel(*(square(pool, where, number) for number in range(50)))
    assert answers == [number * number for number in range(50)]
    assert answerers.most == 2
    assert pool.counters().connects == 2
    await assert_whole(reactor, pool, where, slots=8)


@pytest_twisted.ensureDeferred
async def test_who_is_on_an_amp_connection_that_breaks_is_told_and_nobody_hangs(
    make_pool: MakePool, answerers: Answerers
) -> None:
    pool = make_pool(AMP, limit=2, slots=8, max_waiters=50)
    where = answerers.endpoint
    told: list[int] = []

    async def call(number: int) -> bool:
        try:
            assert await square(pool, where, number) == number * number
        except (ConnectionDone, ConnectionLost):
            told.append(number)
            return False
        return True

    async def kill() -> None:
        await until(reactor, lambda: answerers.answered > 10)
        next(iter(answerers.open)).transport.abortConnection()

    *well, _ = await in_parallel(*(call(number) for number in range(50)), kill())
    assert 1 <= len(told) <= 8
    assert sum(well) == 50 - len(told)
    assert answerers.most == 2
    await assert_whole(reactor, pool, where, slots=8)
    assert await in_parallel(*(square(pool, where, number) for number in range(16)))
    assert answerers.most == 2
    await assert_whole(reactor, pool, where, slots=8)


# Redis


class Tokens:
    """Callers that each write and read what is theirs alone, over a shared connection."""

    def __init__(self, pool: Pool[Any], server: Server) -> None:
        self.done = 0
        self.lost = 0
        self.ended = False
        self._pool = pool
        self._server = server

    async def call(self, caller: int, rounds: int) -> None:
        """Each command carries a token that its reply has to carry."""
        for number in range(rounds):
            token = f"token-{caller}-{number}"
            try:
                async with await self._pool.connect("test", self._server.endpoint) as lease:
                    run = lease.protocol.execute_command
                    sent = [f"{token}-{part}" for part in range(3)]
                    asked = [run("ECHO", each) for each in sent]
                    asked += [run("SET", f"key-{caller}", token), run("GET", f"key-{caller}")]
                    assert await gatherResults(asked, consumeErrors=True) == [*sent, "OK", token]
                self.done += 1
            except FirstError as error:
                error.subFailure.trap(RedisConnectionError)
                self.lost += 1

    async def all(self, callers: int, rounds: int) -> None:
        try:
            await in_parallel(*(self.call(caller, rounds) for caller in range(callers)))
        finally:
            self.ended = True


class Watch:
    """Looks at the server's list of clients, and kills some of them.

    @ivar most: the most connections of others than itself that it has seen.
    """

    def __init__(self, pool: Pool[Any], server: Server, tokens: Tokens, kills: int) -> None:
        self.most = 0
        self.killed = 0
        self._pool = pool
        self._server = server
        self._tokens = tokens
        self._kills = kills

    async def run(self) -> None:
        chance = random.Random(5)
        async with await self._pool.connect("watch", self._server.endpoint) as lease:
            own = str(await lease.protocol.execute_command("CLIENT", "ID"))
            while not self._tokens.ended:
                listed = await lease.protocol.execute_command("CLIENT", "LIST")
                clients = [line.split()[0].removeprefix("id=") for line in listed.splitlines()]
                others = [each for each in clients if each != own]
                self.most = max(self.most, len(others))
                if others and self.killed < self._kills and self._tokens.done > 100 * self.killed:
                    self.killed += 1
                    await lease.protocol.execute_command(
                        "CLIENT", "KILL", "ID", chance.choice(others)
                    )
                await deferLater(reactor, 0.002)


@pytest.mark.long
@pytest.mark.parametrize("kills", [0, 5])
@pytest_twisted.ensureDeferred
async def test_two_hundred_callers_pipeline_over_two_connections_and_no_reply_is_crossed(
    make_pool: MakePool, redis: Server, kills: int
) -> None:
    callers, rounds = 200, 8
    pool = make_pool(RedisProtocol, limit=2, slots=50, max_waiters=callers)
    tokens = Tokens(pool, redis)
    watch = Watch(make_pool(RedisProtocol, limit=1), redis, tokens, kills)
    await in_parallel(tokens.all(callers, rounds), watch.run())
    assert tokens.done + tokens.lost == callers * rounds
    assert watch.most == 2
    assert watch.killed == kills
    assert bool(tokens.lost) == bool(kills)
    assert tokens.lost <= kills * 50
    assert pool.counters().connects <= 2 + kills
    await assert_whole(reactor, pool, redis.endpoint, slots=50)

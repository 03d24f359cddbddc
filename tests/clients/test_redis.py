"""C{kolus.clients.redis} with a real redis-server."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import pytest
import pytest_twisted
import txredisapi
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.error import ConnectionClosed
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

from kolus import ConnectFailed, KolusError, LeaseTimeout, Policy
from kolus.clients.redis import RedisPool
from kolus.clients.redis.commands import READING
from tests.clients.ending import Ending
from tests.conftest import LoggedFailures
from tests.net.asking import until
from tests.net.conftest import PATIENT
from tests.net.servers import Server

MakePool = Callable[..., RedisPool]


def connections(pool: RedisPool) -> int:
    counters = pool.pool.counters()
    return counters.connects - counters.closes


async def connected(pool: RedisPool) -> None:
    """Wait until a pool whose requests have little time is connected."""
    while True:
        try:
            await pool.ping()
        except LeaseTimeout:
            continue
        return


def start(steps: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(steps)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_command_is_a_method(make_redis: MakePool) -> None:
    redis = make_redis()
    assert await redis.set("key", "value") == "OK"
    assert await redis.get("key") == "value"
    assert await redis.incr("count") == 1
    assert await redis.hmset("h", {"a": 1}) == "OK"
    assert await redis.hgetall("h") == {"a": 1}


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_many_commands_share_few_connections(make_redis: MakePool) -> None:
    redis = make_redis()
    replies = await gatherResults([redis.incr("count") for _ in range(500)])
    assert sorted(replies) == list(range(1, 501))
    assert connections(redis) <= 3


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_an_error_of_the_server_costs_no_connection(make_redis: MakePool) -> None:
    redis = make_redis(Policy(slots=10, limit=1))
    await redis.set("text", "no number")
    for _ in range(3):
        with pytest.raises(txredisapi.ResponseError):
            await redis.incr("text")
    with pytest.raises(Exception):  # noqa: B017, PT011 (txredisapi's own, before it sends)
        await redis.sort("key", start=1)
    assert redis.pool.counters().connects == 1
    assert redis.status()[0].leased == 0


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_cancelled_command_leaves_the_replies_in_step(make_redis: MakePool) -> None:
    redis = make_redis(Policy(slots=10, limit=1))
    await gatherResults([redis.set(f"key{number}", f"value{number}") for number in range(5)])
    for _ in range(50):
        asked = [redis.get(f"key{number}") for number in range(5)]
        asked[1].addErrback(lambda failure: failure.trap(CancelledError))
        asked[1].cancel()
        replies = await gatherResults(asked)
        assert [replies[each] for each in (0, 2, 3, 4)] == ["value0", "value2", "value3", "value4"]
    assert redis.pool.counters().connects == 1


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_what_waits_in_the_server_has_its_own_connection(make_redis: MakePool) -> None:
    redis = make_redis()
    waits = redis.blpop("list", timeout=0)
    assert await redis.ping() == "PONG"
    await redis.lpush("list", "item")
    assert await waits == ["list", "item"]
    await until(reactor, lambda: all(status.leased == 0 for status in redis.status()))


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_transaction_has_its_own_connection(make_redis: MakePool) -> None:
    redis = make_redis()
    async with redis.connection() as connection:
        transaction = await connection.multi()
        await transaction.set("a", 1)
        await transaction.set("b", 2)
        assert await redis.get("a") is None
        await transaction.commit()
    assert await redis.mget(["a", "b"]) == [1, 2]
    assert redis.pool.counters().closes == 0


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_transaction_that_lost_its_race_costs_no_connection(make_redis: MakePool) -> None:
    redis = make_redis()
    async with redis.connection() as connection:
        transaction = await connection.multi("a")
        await transaction.set("a", 1)
        await redis.set("a", 2)
        with pytest.raises(txredisapi.WatchError):
            await transaction.commit()
    assert await redis.get("a") == 2


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_transaction_left_open_costs_its_connection(make_redis: MakePool) -> None:
    redis = make_redis()
    async with redis.connection() as connection:
        transaction = await connection.multi()
        await transaction.set("a", 1)
    await until(reactor, lambda: redis.pool.counters().closes == 1)
    async with redis.connection() as connection:
        assert await connection.get("a") is None


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_database_chosen_by_a_lessee_is_not_the_next_ones(make_redis: MakePool) -> None:
    redis = make_redis(database=2)
    await redis.set("where", "two")
    async with redis.connection() as connection:
        await connection.select(5)
        assert await connection.get("where") is None
    for _ in range(3):
        async with redis.connection() as connection:
            assert await connection.get("where") == "two"


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_subscriber_hears_the_messages_of_its_channels(make_redis: MakePool) -> None:
    redis, heard = make_redis(), []
    async with redis.subscriber(lambda *message: heard.append(message)) as subscriber:
        await subscriber.subscribe("news")
        await redis.publish("news", "one")
        await redis.publish("news", "two")
        await until(reactor, lambda: len(heard) == 2)
    assert heard == [(None, "news", "one"), (None, "news", "two")]


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_subscriber_whose_function_fails_hears_on_and_learns_of_the_end(
    redis: Server, make_redis: MakePool, logged_failures: LoggedFailures
) -> None:
    pool, heard = make_redis(), []

    async def received(pattern: str | None, channel: str, message: Any) -> None:
        await deferLater(reactor, 0)
        heard.append(message)
        if message == "wrong":
            raise KeyError(message)

    async with pool.subscriber(received) as subscriber:
        await subscriber.subscribe("news")
        for message in ("wrong", "right"):
            await pool.publish("news", message)
        await until(reactor, lambda: len(heard) == 2)
        ended = subscriber.when_lost()
        await redis.kill()
        assert isinstance(await ended, ConnectionClosed)
    assert len(logged_failures.flush(KeyError)) == 1


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_wrong_command_or_one_that_binds_says_what_to_write(make_redis: MakePool) -> None:
    redis = make_redis()
    with pytest.raises(AttributeError, match="no command"):
        redis.gett("key")
    with pytest.raises(AttributeError, match=r"async with redis\.connection"):
        redis.multi()
    with pytest.raises(ValueError, match="slots=100"):
        RedisPool(reactor, policy=Policy())


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_the_password_is_sent_and_told_to_nobody(make_redis: MakePool) -> None:
    open_ = make_redis()
    async with open_.connection() as connection:
        await connection.execute_command("CONFIG", "SET", "requirepass", "opensesame")
    good = make_redis(password=partial(succeed, "opensesame"))
    assert await good.ping() == "PONG"
    bad = make_redis(password="wrongsesame")
    with pytest.raises(ConnectFailed) as caught:
        await bad.ping()
    assert "sesame" not in f"{caught.value!r} {bad.explain()} {bad.status()} {good.status()}"


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_callers_survive_a_restart_of_the_server(make_redis: MakePool, redis: Server) -> None:
    pool = make_redis(Policy(slots=50, limit=5, fail_fast=False))
    good = bad = 0
    over = False

    async def call() -> None:
        nonlocal good, bad
        while not over:
            try:
                await pool.ping()
                good += 1
            except (txredisapi.RedisError, KolusError):
                bad += 1
                await deferLater(reactor, 0.01)

    callers = [start(call()) for _ in range(200)]
    await until(reactor, lambda: good > 1000)
    await redis.kill()
    await redis.start()
    before = good
    await until(reactor, lambda: good > before + 1000)
    over = True
    await gatherResults(callers)
    assert bad <= 10


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_what_only_reads_is_sent_again_when_the_server_is_back(
    make_redis: MakePool, redis: Server
) -> None:
    pool = make_redis(Policy(slots=10, limit=3, fail_fast=False))
    await gatherResults([pool.ping() for _ in range(30)])
    redis.freeze()
    write = pool.incr("count")  # the first, so it is sent, whatever is connected so far
    reads = [pool.get("key") for _ in range(20)] + [pool.ping()]
    await deferLater(reactor, 0.05)
    await redis.kill()
    await redis.start()
    assert await gatherResults(reads) == [None] * 20 + ["PONG"]
    with pytest.raises(txredisapi.ConnectionError):
        await write
    assert await pool.get("count") is None
    assert pool.status()[0].leased == 0


class Ends(Protocol):
    """Answers a PING, and ends the connection at each other command."""

    asked: ClassVar[list[bytes]] = []

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        if b"PING" in data:
            transport.write(b"+PONG\r\n")
        else:
            self.asked.append(data)
            transport.abortConnection()


@pytest_twisted.ensureDeferred
async def test_a_command_is_sent_twice_at_most() -> None:
    Ends.asked.clear()
    port = reactor.listenTCP(0, Factory.forProtocol(Ends), interface="127.0.0.1")
    pool = RedisPool(reactor, ("127.0.0.1", port.getHost().port))
    with pytest.raises((txredisapi.ConnectionError, ConnectFailed)):
        await pool.get("key")
    assert len(Ends.asked) == 2
    await pool.close(0)
    await port.stopListening()


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_server_that_accepts_and_does_not_answer_is_not_there(redis: Server) -> None:
    await redis.kill()
    port = reactor.listenTCP(redis.port, Factory.forProtocol(Ending), interface="127.0.0.1")
    pool = RedisPool(reactor, redis.endpoint, policy=Policy(slots=100, fail_fast=False, **PATIENT))
    writes = [pool.incr("count") for _ in range(10)]  # each is sent once at most
    await deferLater(reactor, 0.3)
    await port.stopListening()
    await redis.start()
    assert sorted(await gatherResults(writes)) == list(range(1, 11))
    await pool.close(0)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_read_is_not_sent_again_after_its_deadline(
    make_redis: MakePool, redis: Server
) -> None:
    pool = make_redis(Policy(slots=10, limit=3, fail_fast=False, acquire_timeout=0.1))
    await connected(pool)
    redis.freeze()
    asked = pool.get("key")
    await deferLater(reactor, 0.2)
    await redis.kill()
    with pytest.raises(txredisapi.ConnectionError):
        await asked


def test_each_command_that_may_be_repeated_is_one_of_txredisapi() -> None:
    commands = txredisapi.BaseRedisProtocol
    assert [each for each in sorted(READING) if not callable(getattr(commands, each, None))] == []

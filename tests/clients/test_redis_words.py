"""Commands of Redis that are written word by word, and servers that are not ready, for real."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import txredisapi
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher

from kolus import ConnectFailed, Policy
from kolus.clients.redis import RedisPool
from tests.conftest import require
from tests.net import servers
from tests.net.asking import until
from tests.net.conftest import PATIENT
from tests.net.servers import Server

MakePool = Callable[..., RedisPool]


@pytest.fixture
def logged_warnings() -> Iterator[list[str]]:
    warnings: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_level"] is LogLevel.warn:
            warnings.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield warnings
    globalLogPublisher.removeObserver(observe)


@pytest_twisted.async_yield_fixture
async def redis_with(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Starts a redis-server with settings of its own, in the same folder each time."""
    started: list[Server] = []
    binary = require("redis-server", "redis-server")

    async def start(*settings: str, **options: Any) -> Server:
        server = servers.redis(reactor, binary, tmp_path, *settings, **options)
        await server.start()
        started.append(server)
        return server

    yield start
    for each in started:
        await each.kill()


@pytest.mark.parametrize(
    "words",
    [
        ("SELECT", 5),
        (b"multi",),
        ("WATCH", "key"),
        ("subscribe", "news"),
        ("CLIENT", "REPLY", "OFF"),
        ("HELLO", 3),
        ("AUTH", "secret"),
    ],
)
def test_a_word_that_would_change_a_shared_connection_is_refused(words: tuple[Any, ...]) -> None:
    redis = RedisPool(MemoryReactorClock())
    told = "binds a connection; write: async with redis.connection() as connection: await conn"
    with pytest.raises(ValueError, match=re.escape(told)):
        redis.execute_command(*words)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_commands_without_a_method_share_connections(make_redis: MakePool) -> None:
    redis = make_redis(Policy(slots=10, limit=1))
    added = [redis.execute_command("XADD", "log", "*", "what", number) for number in range(5)]
    assert len(set(await gatherResults(added))) == 5
    assert await redis.execute_command(b"xlen", "log") == 5
    assert int(await redis.execute_command("CLIENT", "ID")) > 0
    assert redis.pool.counters().connects == 1


@pytest.mark.long
@pytest.mark.parametrize(
    "words", [("BLPOP", "list", 0), ("XREAD", "block", 0, "STREAMS", "log", 0)]
)
@pytest_twisted.ensureDeferred
async def test_words_that_wait_in_the_server_hold_nobody_else_up(
    make_redis: MakePool, words: tuple[Any, ...]
) -> None:
    redis = make_redis()
    waits = redis.execute_command(*words)
    assert await redis.set("key", "value") == "OK"
    await redis.lpush("list", "item")
    await redis.execute_command("XADD", "log", "*", "what", "begun")
    entries = await redis.execute_command("XRANGE", "log", "-", "+")
    assert await waits in (["list", "item"], [["log", entries]])


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    [("SELECT", 7), ("select", 0), ("MULTI",), ("WATCH", "key"), ("CLIENT", "SETNAME", "mine")],
)
@pytest_twisted.ensureDeferred
async def test_what_a_word_changed_is_not_the_next_lessees(
    make_redis: MakePool, words: tuple[Any, ...]
) -> None:
    redis = make_redis()
    async with redis.connection() as first:
        await first.execute_command(*words)
    async with redis.connection() as second:
        assert second is not first
        assert await second.set("key", "value") == "OK"
    assert await redis.get("key") == "value"
    async with redis.connection() as third:
        assert third is second


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_connection_can_be_told_to_quit(make_redis: MakePool) -> None:
    redis = make_redis()
    async with redis.connection() as connection:
        assert await connection.quit() == "OK"
    assert await redis.ping() == "PONG"


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_server_with_too_many_clients_is_not_there_and_says_why(
    redis_with: Callable[..., Any],
) -> None:
    server = await redis_with("--maxclients", "1")
    first = RedisPool(reactor, server.endpoint, policy=Policy(slots=1, limit=1))
    await first.ping()
    second = RedisPool(reactor, server.endpoint, policy=Policy(slots=1))
    with pytest.raises(ConnectFailed, match="max number of clients reached"):
        await second.ping()
    assert second.pool.counters().connects == 0
    await first.close()
    await second.close()


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_server_that_loads_its_data_is_not_there_yet(
    redis_with: Callable[..., Any],
) -> None:
    server = await redis_with("--dbfilename", "some.rdb")
    writer = RedisPool(reactor, server.endpoint)
    await gatherResults([writer.set(f"key{number}", number) for number in range(300)])
    await writer.save()
    await writer.close()
    await server.kill()
    slowly = ("--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")
    loading = await redis_with("--dbfilename", "some.rdb", *slowly, ready=b"Server initialized")
    hasty = RedisPool(reactor, loading.endpoint)
    with pytest.raises(ConnectFailed, match="LOADING Redis is loading the dataset in memory"):
        await hasty.get("key7")
    await hasty.close()
    policy = Policy(slots=100, fail_fast=False, **PATIENT)
    waits = RedisPool(reactor, loading.endpoint, policy=policy)
    assert await waits.get("key7") == 7
    await waits.close()


@pytest.mark.long
@pytest.mark.parametrize("words", [("BLPOP", "list", 0), None])
@pytest_twisted.ensureDeferred
async def test_a_command_that_waits_in_the_server_can_be_cancelled_without_a_word(
    make_redis: MakePool, words: tuple[Any, ...] | None, logged_warnings: list[str]
) -> None:
    redis = make_redis()
    asked = redis.blpop("list") if words is None else redis.execute_command(*words)
    await until(reactor, lambda: any(each.leased for each in redis.status()))
    asked.cancel()
    with pytest.raises(CancelledError):
        await asked
    await until(reactor, lambda: redis.pool.counters().closes == 1)
    await redis.lpush("list", "item")
    assert await redis.lrange("list", 0, -1) == ["item"]
    assert logged_warnings == []


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_what_waits_for_long_is_no_leak(
    make_redis: MakePool, logged_warnings: list[str]
) -> None:
    redis = make_redis(Policy(slots=10, limit=3, leak_after=0.01))
    waits = redis.blpop("list")
    async with redis.subscriber(lambda *_: None) as subscriber:
        await subscriber.subscribe("news")
        async with redis.connection():
            await until(reactor, lambda: logged_warnings)
        assert "for 'alone' has been held" in logged_warnings[0]
        assert len(logged_warnings) == 1
    await redis.lpush("list", "item")
    assert await waits == ["list", "item"]


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_name_of_bytes_is_one_name(make_redis: MakePool) -> None:
    redis = make_redis(charset=None)
    await redis.rpush(b"list", b"one")
    await redis.rpush(b"list", b"two")
    assert await redis.blpop(b"list", timeout=1) == [b"list", b"one"]
    assert await redis.brpop(b"list", timeout=1) == [b"list", b"two"]
    await redis.hset(b"fruit", b"name", b"plum")
    assert await redis.hmget(b"fruit", b"name") == [b"plum"]
    async with redis.connection() as connection:
        await connection.watch(b"fruit")
        await redis.hset(b"fruit", b"name", b"pear")
        transaction = await connection.multi()
        await transaction.hset(b"fruit", b"name", b"fig")
        with pytest.raises(txredisapi.WatchError):
            await transaction.commit()
    heard: list[Any] = []
    async with redis.subscriber(lambda *its: heard.append(its)) as subscriber:
        await subscriber.subscribe(b"news")
        await subscriber.psubscribe(b"new*")
        await redis.publish(b"news", b"rain")
        await until(reactor, lambda: len(heard) == 2)
    assert heard == [(None, b"news", b"rain"), (b"new*", b"news", b"rain")]

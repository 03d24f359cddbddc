"""A pool of txredisapi's protocols over a real redis-server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from txredisapi import ResponseError

from kolus import ConnectFailed, Pool
from tests.net.asking import assert_whole, in_parallel, turn
from tests.net.redis_calls import DATABASE, answers, ask, build, choose_database
from tests.net.servers import Server

MakePool = Callable[..., Pool[Any]]


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_value_written_through_one_lease_is_read_through_another(
    make_pool: MakePool, redis: Server
) -> None:
    pool = make_pool(build(), prepare=choose_database)
    writer = await pool.connect("test", redis.endpoint)
    reader = await pool.connect("test", redis.endpoint)
    await writer.protocol.set("colour", "green")
    assert await reader.protocol.get("colour") == "green"
    assert writer.protocol is not reader.protocol
    writer.release()
    reader.release()


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_prepare_has_chosen_the_database_before_the_first_lessee(
    make_pool: MakePool, redis: Server
) -> None:
    prepared = make_pool(build(), prepare=choose_database)
    plain = make_pool(build())
    await ask(prepared, redis, "set", "colour", "green")
    assert await ask(plain, redis, "get", "colour") is None
    await ask(plain, redis, "select", DATABASE)
    assert await ask(plain, redis, "get", "colour") == "green"


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_prepare_that_the_server_refuses_is_why_the_connect_failed(
    make_pool: MakePool, redis: Server
) -> None:
    async def choose_absent(protocol: Any) -> None:
        await protocol.select(999)

    pool = make_pool(build(), prepare=choose_absent)
    with pytest.raises(ConnectFailed) as caught:
        await pool.connect("test", redis.endpoint)
    assert isinstance(caught.value.reason, ResponseError)
    await assert_whole(reactor, pool, redis.endpoint)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_every_lease_is_preceded_by_a_ping_when_no_time_idle_is_short_enough(
    make_pool: MakePool, redis: Server
) -> None:
    pool = make_pool(build(), check=answers, check_after=0.0)
    await ask(pool, redis, "set", "colour", "green")
    statistics = await ask(pool, redis, "info", "commandstats")
    assert statistics["cmdstat_ping"].startswith("calls=2,")
    assert pool.counters(redis.endpoint).connects == 1


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_server_never_sees_more_connections_than_the_limit(
    make_pool: MakePool, redis: Server
) -> None:
    limit, callers = 5, 300
    pool = make_pool(build(), limit=limit, max_waiters=callers)
    counting = make_pool(build(), limit=1)
    seen: list[int] = []

    async def count() -> None:
        while pool.counters().releases < callers:
            clients = await ask(counting, redis, "execute_command", "CLIENT", "LIST")
            seen.append(len(clients.splitlines()) - 1)

    async def call() -> None:
        async with await pool.connect("test", redis.endpoint) as lease:
            for _ in range(3):
                await lease.protocol.incr("calls")
                await turn(reactor)

    await in_parallel(count(), *(call() for _ in range(callers)))
    assert max(seen) == limit
    assert await ask(pool, redis, "get", "calls") == 3 * callers
    await assert_whole(reactor, pool, redis.endpoint)

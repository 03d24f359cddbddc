"""A redis-server that is killed, in every state of a connection, and started again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from txredisapi import ConnectionError as RedisConnectionError

from kolus import ConnectFailed, KolusError, Pool
from kolus.backoff import Backoff
from tests.net.asking import (
    Outcome,
    assert_in_time,
    assert_whole,
    in_parallel,
    outcome_of,
    turn,
    until,
)
from tests.net.redis_calls import answers, ask, build, choose_database
from tests.net.servers import Server
from tests.rigs.patience import PATIENCE

pytestmark = pytest.mark.long

MakePool = Callable[..., Pool[Any]]
SOON = Backoff(first=0.02, most=0.1)
"""So that the tests need not wait long for the next attempt."""


@pytest.fixture
def pool(make_pool: MakePool) -> Pool[Any]:
    """One whose waiters sit through the back-off."""
    return make_pool(
        build(), limit=4, prepare=choose_database, check=answers, backoff=SOON, fail_fast=False
    )


def failed(outcomes: list[Outcome]) -> list[type[KolusError]]:
    return [type(each.error) for each in outcomes if each.error is not None]


def ask_often(pool: Pool[Any], server: Server, times: int, timeout: float) -> list[Deferred[Any]]:
    """Ask for leases.

    @return: their outcomes, to be waited for.
    """
    return [
        Deferred.fromCoroutine(
            outcome_of(reactor, pool.connect("test", server.endpoint, timeout=timeout), timeout)
        )
        for _ in range(times)
    ]


async def all_of(asked: list[Deferred[Any]]) -> list[Any]:
    return [await each for each in asked]


@pytest_twisted.ensureDeferred
async def test_server_killed_while_all_are_idle_is_noticed_at_once(
    pool: Pool[Any], redis: Server
) -> None:
    leases = [await pool.connect("test", redis.endpoint) for _ in range(3)]
    for lease in leases:
        lease.release()
    await redis.kill()
    for _ in range(5):  # turns in which the reactor reads, whatever else the machine is doing
        await turn(reactor)
    assert pool.status([redis.endpoint])[0].idle == 0
    await assert_whole(reactor, pool, redis.endpoint)
    await redis.start()
    assert await ask(pool, redis, "ping") == "PONG"
    await assert_whole(reactor, pool, redis.endpoint)


@pytest_twisted.ensureDeferred
async def test_server_killed_while_leased_costs_only_the_lease(
    pool: Pool[Any], redis: Server
) -> None:
    lease = await pool.connect("test", redis.endpoint)
    reply = lease.protocol.blpop("never", timeout=0)
    await redis.kill()
    with pytest.raises(RedisConnectionError):
        await reply
    await redis.start()
    assert await ask(pool, redis, "ping") == "PONG"
    lease.release()
    await assert_whole(reactor, pool, redis.endpoint)


@pytest_twisted.ensureDeferred
async def test_server_killed_while_connections_are_made_fails_who_asked_for_them(
    make_pool: MakePool, redis: Server
) -> None:
    pool = make_pool(build(), limit=4, prepare=choose_database, backoff=SOON)
    redis.freeze()
    asked = ask_often(pool, redis, times=6, timeout=PATIENCE)
    assert pool.status([redis.endpoint])[0].connecting == 4
    await redis.kill()
    outcomes = await all_of(asked)
    assert failed(outcomes) == [ConnectFailed] * 6
    assert_in_time(outcomes)
    await assert_whole(reactor, pool, redis.endpoint)


@pytest_twisted.ensureDeferred
async def test_server_that_is_back_before_the_deadline_serves_who_asked_while_it_was_killed(
    pool: Pool[Any], redis: Server
) -> None:
    redis.freeze()
    asked = ask_often(pool, redis, times=4, timeout=PATIENCE)
    await redis.kill()
    await redis.start()
    outcomes = await all_of(asked)
    assert failed(outcomes) == []
    assert_in_time(outcomes)
    for each in outcomes:
        each.lease.release()
    await assert_whole(reactor, pool, redis.endpoint)


@pytest_twisted.ensureDeferred
async def test_server_killed_while_some_wait_fails_them_once_nothing_can_serve_them(
    make_pool: MakePool, redis: Server
) -> None:
    # A server that dies may close its connections a moment before it stops listening: only what
    # it has answered on is worth a lease.
    pool = make_pool(
        build(), limit=2, prepare=choose_database, backoff=Backoff(4 * PATIENCE, most=4 * PATIENCE)
    )
    held = [await pool.connect("test", redis.endpoint) for _ in range(2)]
    asked = ask_often(pool, redis, times=5, timeout=PATIENCE)
    assert pool.status([redis.endpoint])[0].waiting == 5
    await redis.kill()
    await until(reactor, lambda: not any(lease.protocol.connected for lease in held))
    for lease in held:
        lease.release()
    outcomes = await all_of(asked)
    assert failed(outcomes) == [ConnectFailed] * 5
    assert_in_time(outcomes)
    await assert_whole(reactor, pool, redis.endpoint)


@pytest_twisted.ensureDeferred
async def test_server_that_stays_away_costs_each_waiter_its_deadline_and_no_more(
    pool: Pool[Any], redis: Server
) -> None:
    await redis.kill()
    outcomes = await all_of(ask_often(pool, redis, times=10, timeout=0.3))
    assert len(failed(outcomes)) == 10
    assert all(isinstance(each.error.last_error, Exception) for each in outcomes)
    assert_in_time(outcomes)
    await assert_whole(reactor, pool, redis.endpoint)


@dataclass
class Load:
    """Callers that go on asking, whatever happens, until they are told to stop."""

    pool: Pool[Any]
    server: Server
    timeout: float
    stopped: bool = False
    served: int = 0
    lost: int = 0
    late: int = 0
    errors: Counter[type[KolusError]] = field(default_factory=Counter)

    async def call(self, number: int) -> None:
        """Ask and use; every third gives up its connection, so that new ones are always made."""
        while not self.stopped:
            asked = self.pool.connect("test", self.server.endpoint, timeout=self.timeout)
            outcome = await outcome_of(reactor, asked, self.timeout)
            self.late += outcome.is_late
            if outcome.lease is None:
                self.errors[type(outcome.error)] += 1
                await turn(reactor)
                continue
            try:
                await outcome.lease.protocol.incr("calls")
            except RedisConnectionError:
                self.lost += 1
                outcome.lease.release()
            else:
                self.served += 1
                outcome.lease.finished() if number % 3 == 0 else outcome.lease.release()

    async def until_served(self, more: int) -> None:
        wanted = self.served + more
        await until(reactor, lambda: self.served >= wanted)

    async def until_attempts_failed(self, more: int) -> None:
        wanted = self.pool.counters().connect_failures + more
        await until(reactor, lambda: self.pool.counters().connect_failures >= wanted)


@pytest.mark.parametrize("fail_fast", [True, False])
@pytest_twisted.ensureDeferred
async def test_server_killed_twice_under_load_costs_no_slot_and_no_deadline(
    make_pool: MakePool, redis: Server, fail_fast: bool
) -> None:
    pool = make_pool(
        build(),
        limit=6,
        prepare=choose_database,
        check=answers,
        backoff=SOON,
        fail_fast=fail_fast,
    )
    load = Load(pool, redis, timeout=PATIENCE)

    async def interfere() -> None:
        for _ in range(2):
            await load.until_served(300)
            await redis.kill()
            await load.until_attempts_failed(3)
            await redis.start()
        await load.until_served(300)
        load.stopped = True

    await in_parallel(interfere(), *(load.call(number) for number in range(40)))
    assert load.late == 0
    assert bool(load.errors) == fail_fast
    await assert_whole(reactor, pool, redis.endpoint)

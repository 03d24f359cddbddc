"""A pool of Twisted's own memcache protocols over a real memcached, killed and started again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.protocols.memcache import MemCacheProtocol
from twisted.python.failure import Failure

from kolus import ConnectFailed, Pool
from kolus.backoff import Backoff
from tests.net.asking import assert_in_time, assert_whole, in_parallel, outcome_of, turn, until
from tests.net.servers import Server
from tests.rigs.patience import PATIENCE

MakePool = Callable[..., Pool[Any]]
SOON = Backoff(first=0.02, most=0.1)


class Memcache(MemCacheProtocol):
    """Twisted's leaves its timer running when the connection is lost with a command under way."""

    def connectionLost(self, reason: Failure) -> None:
        self.setTimeout(None)
        super().connectionLost(reason)


async def answers(protocol: MemCacheProtocol) -> None:
    await protocol.version()


async def ask(pool: Pool[Any], server: Server, command: str, *arguments: Any) -> Any:
    """Run one command through a lease of its own."""
    async with await pool.connect("test", server.endpoint) as lease:
        return await getattr(lease.protocol, command)(*arguments)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_value_written_through_one_lease_is_read_through_another(
    make_pool: MakePool, memcached: Server
) -> None:
    pool = make_pool(Memcache)
    writer = await pool.connect("test", memcached.endpoint)
    reader = await pool.connect("test", memcached.endpoint)
    await writer.protocol.set(b"colour", b"green")
    assert await reader.protocol.get(b"colour") == (0, b"green")
    writer.release()
    reader.release()


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_many_callers_share_few_connections_and_lose_no_count(
    make_pool: MakePool, memcached: Server
) -> None:
    pool = make_pool(Memcache, limit=3, prepare=answers)
    await ask(pool, memcached, "set", b"calls", b"0")
    await in_parallel(*(ask(pool, memcached, "increment", b"calls") for _ in range(100)))
    assert await ask(pool, memcached, "get", b"calls") == (0, b"100")
    connections = (await ask(pool, memcached, "stats"))[b"total_connections"]
    assert pool.counters().connects == 3
    # Its own listening sockets are among them.
    assert int(connections) <= 3 + 2
    await assert_whole(reactor, pool, memcached.endpoint)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_server_killed_while_idle_is_noticed_at_once(
    make_pool: MakePool, memcached: Server
) -> None:
    pool = make_pool(Memcache, backoff=SOON, fail_fast=False)
    await ask(pool, memcached, "version")
    await memcached.kill()
    await until(reactor, lambda: pool.status([memcached.endpoint])[0].idle == 0)
    await memcached.start()
    assert await ask(pool, memcached, "set", b"colour", b"green")
    await assert_whole(reactor, pool, memcached.endpoint)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_server_killed_while_leased_made_and_waited_for_costs_no_slot(
    make_pool: MakePool, memcached: Server
) -> None:
    pool = make_pool(Memcache, limit=3, prepare=answers, backoff=SOON, fail_fast=False)
    lease = await pool.connect("test", memcached.endpoint)
    await turn(reactor)
    memcached.freeze()
    reply = lease.protocol.get(b"colour")
    asked = [
        Deferred.fromCoroutine(
            outcome_of(reactor, pool.connect("test", memcached.endpoint), PATIENCE)
        )
        for _ in range(5)
    ]
    (status,) = pool.status([memcached.endpoint])
    assert (status.leased, status.connecting, status.waiting) == (1, 2, 5)
    await memcached.kill()
    with pytest.raises((ConnectionDone, ConnectionLost)):
        await reply
    lease.release()
    await memcached.start()
    outcomes = []
    for each in asked:
        outcomes.append(await each)
        outcomes[-1].lease.release()
    assert_in_time(outcomes)
    await assert_whole(reactor, pool, memcached.endpoint)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_server_that_is_down_is_an_error_at_once_and_none_when_it_is_back(
    make_pool: MakePool, memcached: Server
) -> None:
    pool = make_pool(Memcache, backoff=SOON)
    await memcached.kill()
    outcome = await outcome_of(reactor, pool.connect("test", memcached.endpoint), PATIENCE)
    assert isinstance(outcome.error, ConnectFailed)
    due_at = reactor.seconds() + outcome.error.retry_in
    await memcached.start()
    await until(reactor, lambda: reactor.seconds() > due_at)
    assert await ask(pool, memcached, "set", b"colour", b"green")
    await assert_whole(reactor, pool, memcached.endpoint)

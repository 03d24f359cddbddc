"""C{kolus.clients.memcached} with real memcached servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.protocols.memcache import ClientError

from kolus import Policy
from kolus.clients.memcached import MemcachedPool
from tests.clients.ending import Ending
from tests.conftest import require
from tests.net import servers
from tests.net.asking import until
from tests.net.conftest import PATIENT
from tests.net.servers import Server


@pytest_twisted.async_yield_fixture
async def three(tmp_path: Path) -> AsyncIterator[list[Server]]:
    binary = require("memcached", "memcached")
    started = [servers.memcached(reactor, binary, tmp_path) for _ in range(3)]
    for each in started:
        await each.start()
    yield started
    for each in started:
        await each.kill()


@pytest_twisted.async_yield_fixture
async def cache(three: list[Server]) -> AsyncIterator[MemcachedPool]:
    endpoints = [each.endpoint for each in three]
    pool = MemcachedPool(reactor, endpoints, policy=Policy(slots=20, limit=2, **PATIENT))
    yield pool
    await pool.close(0)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_each_key_has_its_server(cache: MemcachedPool) -> None:
    keys = [b"key%d" % number for number in range(300)]
    await gatherResults([cache.set(key, b"value of " + key) for key in keys])
    for _, value in await gatherResults([cache.get(key) for key in keys]):
        assert value.startswith(b"value of key")
    found = await cache.getMultiple([b"key7", b"none", b"key8", b"key7"])
    assert found == {
        b"key7": (0, b"value of key7"),
        b"key8": (0, b"value of key8"),
        b"none": (0, None),
    }
    shares = [cache.pool.counters(backend).leases for backend in cache.group.backends]
    assert all(share > 30 for share in shares)
    for backend in cache.group.backends:
        async with await cache.pool.connect("memcached", backend) as lease:
            assert b"curr_items" in await lease.protocol.stats()
    assert cache.pool.counters().connects <= 6


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_an_error_of_the_server_costs_no_connection(cache: MemcachedPool) -> None:
    await cache.set(b"text", b"no number")
    for _ in range(3):
        with pytest.raises(ClientError):
            await cache.increment(b"text")
    assert cache.pool.counters().finishes == 0
    assert sum(status.leased for status in cache.status()) == 0


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_key_that_is_refused_costs_no_connection(cache: MemcachedPool) -> None:
    with pytest.raises(ClientError):
        await cache.get(b"x" * 300)
    assert cache.pool.counters().finishes == 0


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_the_keys_of_a_dead_server_move_to_the_others(
    cache: MemcachedPool, three: list[Server]
) -> None:
    keys = [b"key%d" % number for number in range(60)]
    await gatherResults([cache.set(key, b"1") for key in keys])
    await three[0].kill()
    await until(reactor, lambda: cache.status()[0].idle == 0)

    async def lost() -> int:
        found = await gatherResults([cache.get(key) for key in keys])
        return sum(value is None for _, value in found)

    assert 0 < await lost() < 60
    await gatherResults([cache.set(key, b"1") for key in keys])
    assert await lost() == 0


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_get_whose_server_dies_is_asked_of_the_next(three: list[Server]) -> None:
    endpoints = [each.endpoint for each in three]
    cache = MemcachedPool(reactor, endpoints, policy=Policy(slots=200, **PATIENT))
    keys = [b"key%d" % number for number in range(60)]
    await gatherResults([cache.set(key, b"1") for key in keys])
    three[0].freeze()
    gets = cache.getMultiple(keys)
    sets = [cache.set(key, b"2").addErrback(lambda failure: failure.type) for key in keys]
    await deferLater(reactor, 0.05)
    await three[0].kill()
    lost = {key for key, (_, value) in (await gets).items() if value is None}
    assert 0 < len(lost) < 60
    answers = dict(zip(keys, await gatherResults(sets), strict=True))
    # A set may have been executed, so it is not sent again.
    assert {key for key, answer in answers.items() if answer is not True} == lost
    assert sum(status.leased for status in cache.status()) == 0
    await cache.close(0)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_server_that_accepts_and_does_not_answer_is_not_there(three: list[Server]) -> None:
    server = three[0]
    await server.kill()
    port = reactor.listenTCP(server.port, Factory.forProtocol(Ending), interface="127.0.0.1")
    policy = Policy(slots=100, fail_fast=False, **PATIENT)
    alone = MemcachedPool(reactor, [server.endpoint], policy=policy)
    sets = [alone.set(b"key%d" % number, b"1") for number in range(10)]  # each is sent once
    await deferLater(reactor, 0.3)
    await port.stopListening()
    await server.start()
    assert await gatherResults(sets) == [True] * 10
    await alone.close(0)


def test_a_method_without_a_key_says_which_there_are() -> None:
    cache = MemcachedPool(reactor, ["tcp:127.0.0.1:1"])
    with pytest.raises(AttributeError, match="getMultiple"):
        cache.flushAll()
    with pytest.raises(AttributeError, match=r"for one server write: async with await cache\.pool"):
        cache.stats()


def test_one_string_for_the_list_of_servers_is_an_error_that_says_what_to_write() -> None:
    with pytest.raises(ValueError, match=r"write \['tcp:127\.0\.0\.1:1'\]"):
        MemcachedPool(reactor, "tcp:127.0.0.1:1")

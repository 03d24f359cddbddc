"""Pools and servers for one test each, ended when it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from kolus import Policy, Pool
from tests.conftest import require
from tests.net import servers
from tests.net.servers import Server
from tests.net.told import Told
from tests.rigs.patience import PATIENCE

MakePool = Callable[..., Pool[Any]]

PATIENT: dict[str, Any] = dict.fromkeys(
    ("acquire_timeout", "connect_timeout", "prepare_timeout"), PATIENCE
)
"""Of a policy: what a busy machine does slowly is no failure."""


def patient(policy: Policy) -> Policy:
    """The policy, with patience for each of these for which it has the default."""
    left = [name for name in PATIENT if getattr(policy, name) == getattr(Policy(), name)]
    return replace(policy, **dict.fromkeys(left, PATIENCE))


@pytest_twisted.async_yield_fixture
async def make_pool() -> AsyncIterator[MakePool]:
    """Makes pools: C{make_pool(protocol, limit=3, ...)}, with the policy's options."""
    from twisted.internet import reactor

    pools: list[Pool[Any]] = []

    def make(protocol: Callable[[], Any], **options: Any) -> Pool[Any]:
        pool = Pool(reactor, protocol, policy=Policy(**(PATIENT | options)))
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        await pool.close(0)


@pytest.fixture
def told() -> Iterator[Told]:
    """The reactor's resolver during the test."""
    from twisted.internet import reactor

    told, its = Told(), reactor
    before = its.installNameResolver(told)  # type: ignore[attr-defined]
    yield told
    its.installNameResolver(before)  # type: ignore[attr-defined]


# Skipping in an asynchronous fixture leaves that in pieces for every later test: hence these.


@pytest.fixture
def redis_binary() -> str:
    return require("redis-server", "redis-server")


@pytest.fixture
def memcached_binary() -> str:
    return require("memcached", "memcached")


@pytest.fixture
def dnsmasq_binary() -> str:
    return require("dnsmasq", "dnsmasq-base")


@pytest_twisted.async_yield_fixture
async def redis(redis_binary: str, tmp_path: Path) -> AsyncIterator[Server]:
    """A redis-server that accepts connections."""
    from twisted.internet import reactor

    server = servers.redis(reactor, redis_binary, tmp_path)
    await server.start()
    yield server
    await server.kill()


@pytest_twisted.async_yield_fixture
async def memcached(memcached_binary: str, tmp_path: Path) -> AsyncIterator[Server]:
    """A memcached that accepts connections."""
    from twisted.internet import reactor

    server = servers.memcached(reactor, memcached_binary, tmp_path)
    await server.start()
    yield server
    await server.kill()

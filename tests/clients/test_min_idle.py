"""A client whose servers are known keeps C{min_idle} connections ready from the start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import Clock

from kolus import Backend, Policy
from kolus.clients.amp import AMPPool
from kolus.clients.memcached import MemcachedPool
from kolus.clients.redis import RedisPool
from kolus.testing import FakeBackend
from tests.net.asking import until

MAKE: dict[str, Callable[..., Any]] = {
    "amp": lambda clock, backend, policy: AMPPool(clock, [backend], policy=policy),
    "memcached": lambda clock, backend, policy: MemcachedPool(clock, [backend], policy=policy),
    "redis": lambda clock, backend, policy: RedisPool(clock, backend, policy=policy),
}


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("min_idle", [0, 1])
def test_a_client_connects_from_the_start_if_its_policy_says_so(name: str, min_idle: int) -> None:
    clock = Clock()
    fake = FakeBackend(clock)
    MAKE[name](clock, Backend(fake), Policy(slots=10, min_idle=min_idle))
    assert fake.attempts == min_idle


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_postgres_is_connected_to_from_the_start(
    make_postgres_pool: Callable[..., Any],
) -> None:
    pool = make_postgres_pool(policy=Policy(limit=4, min_idle=2))
    await until(reactor, lambda: pool.status()[0].idle == 2)

"""A pool's limit on real sockets: what the backends see together, and who is served."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import deferLater

from kolus import Pool
from tests.net.peers import Asker, Host

MakePool = Callable[..., Pool[Any]]
LIMIT, BACKENDS, CALLERS = 3, 5, 100


@pytest_twisted.async_yield_fixture
async def hosts() -> AsyncIterator[list[Host]]:
    hosts = [Host() for _ in range(BACKENDS)]
    for host in hosts:
        await host.listen(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
    yield hosts
    for host in hosts:
        await host.stop()


@pytest.mark.parametrize("slots", [None, 2])
@pytest_twisted.ensureDeferred
async def test_the_limit_holds_over_all_backends_and_everybody_is_served(
    make_pool: MakePool, hosts: list[Host], slots: int | None
) -> None:
    pool = make_pool(Asker, limit=2, slots=slots)
    pool.resize_pool(LIMIT)
    group = pool.group([each.endpoint for each in hosts])
    most = 0

    async def call(at: int) -> None:
        nonlocal most
        ident = f"ident {at % 3}"
        if at % 4:
            lease = await pool.connect(ident, hosts[at % BACKENDS].endpoint)
        else:
            lease = await group.connect(ident)
        async with lease:
            most = max(most, pool.explain().connections)
            if slots is None:
                assert await lease.protocol.ask(b"hello") == b"hello"
            else:
                await deferLater(reactor, 0.001)

    await gatherResults([ensureDeferred(call(at)) for at in range(CALLERS)])
    assert 0 < most <= LIMIT
    assert pool.counters().leases == CALLERS

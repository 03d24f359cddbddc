"""What a pool does with real connections while they are held or idle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint

from kolus import LeaseError, Pool
from tests.net.asking import until
from tests.net.peers import Asker, Host

MakePool = Callable[..., Pool[Any]]


@pytest_twisted.async_yield_fixture
async def host() -> AsyncIterator[Host]:
    host = Host()
    await host.listen(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
    yield host
    await host.stop()


@pytest_twisted.ensureDeferred
async def test_a_peer_that_no_longer_answers_is_found_before_a_request_gets_its_connection(
    make_pool: MakePool, host: Host
) -> None:
    asked: list[Any] = []

    async def answers(protocol: Asker) -> bool:
        asked.append(protocol)
        return bool(await protocol.ask(b"there?") == b"there?")

    pool = make_pool(Asker, check=answers, check_after=30, keepalive=0.05, check_timeout=0.2)
    async with await pool.connect("us", host.endpoint) as lease:
        protocol = lease.protocol
    await until(reactor, lambda: len(asked) > 2)
    assert protocol.lost is None
    host.echoes = False
    await until(reactor, lambda: protocol.lost)
    host.echoes = True
    async with await pool.connect("us", host.endpoint) as lease:
        assert not lease.reused
        assert await lease.protocol.ask(b"hello") == b"hello"


@pytest_twisted.ensureDeferred
async def test_a_lease_that_is_held_too_long_is_taken_away(make_pool: MakePool, host: Host) -> None:
    pool = make_pool(Asker, limit=1, hold_limit=0.1)
    lease = await pool.connect("us", host.endpoint)
    protocol = lease.protocol
    host.echoes = False
    asked = protocol.ask(b"never answered")
    other = await pool.connect("us", host.endpoint)
    assert protocol.lost is not None
    assert not other.reused
    other.release()
    with pytest.raises(LeaseError, match="hold_limit"):
        lease.release()
    with pytest.raises(Exception, match="abort"):
        await asked

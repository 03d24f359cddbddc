"""Connecting by name over real sockets, to addresses from the test's own resolver."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.error import (
    CannotListenError,
    ConnectingCancelledError,
    ConnectionRefusedError,
    DNSLookupError,
    TimeoutError,
)
from twisted.internet.protocol import Factory, Protocol

from kolus import Backend, ConnectFailed, Lease, Pool
from tests.net.asking import assert_whole, in_parallel, turn, until
from tests.net.peers import Asker, Host
from tests.net.told import Told

MakePool = Callable[..., Pool[Any]]

REFUSING = "127.0.0.9"


@pytest.fixture
def silent(hosts: list[Host]) -> Iterator[str]:
    """An address that does not answer at the port of the others: its backlog is full."""
    with socket.socket() as listening, socket.socket() as first, socket.socket() as second:
        listening.bind(("127.0.0.4", hosts[0].port))
        listening.listen(0)
        first.connect(listening.getsockname())
        second.setblocking(False)
        second.connect_ex(listening.getsockname())
        yield "127.0.0.4"


@pytest_twisted.async_yield_fixture
async def hosts() -> AsyncIterator[list[Host]]:
    """What listens on 127.0.0.1, 127.0.0.2 and 127.0.0.3, on one port."""
    hosts = [Host(), Host(), Host()]
    port = 0
    for number, host in enumerate(hosts, 1):
        await host.listen(TCP4ServerEndpoint(reactor, port, interface=f"127.0.0.{number}"))
        port = host.port
    yield hosts
    for host in hosts:
        await host.stop()


async def connections(pool: Pool[Any], backend: str, count: int) -> None:
    """Lease that many connections at once, and give them back."""
    asked = [leased(pool, backend) for _ in range(count)]
    for lease in await in_parallel(*asked):
        assert await lease.protocol.ask(b"hello") == b"hello"
        lease.release()


async def leased(pool: Pool[Any], backend: str) -> Lease[Any]:
    return await pool.connect("test", backend)


@pytest_twisted.ensureDeferred
async def test_connections_of_a_pool_are_spread_over_the_addresses_that_listen(
    make_pool: MakePool, told: Told, hosts: list[Host]
) -> None:
    told.hosts = ["127.0.0.1", REFUSING, "127.0.0.2", "127.0.0.3"]
    backend = f"tcp:told.test:{hosts[0].port}"
    pool = make_pool(Asker, limit=9)
    await connections(pool, backend, 9)
    assert pool.counters().connects == 9
    assert pool.counters().connect_failures == 0
    await until(reactor, lambda: sum(len(host.accepted) for host in hosts) >= 9)
    assert min(len(host.accepted) for host in hosts) >= 2
    assert told.asked == 1
    await assert_whole(reactor, pool, backend)


@pytest_twisted.ensureDeferred
async def test_where_every_address_refuses_the_failure_names_each(
    make_pool: MakePool, told: Told, hosts: list[Host]
) -> None:
    told.hosts = [REFUSING, "127.0.0.8"]
    pool = make_pool(Asker)
    with pytest.raises(ConnectFailed) as failed:
        await pool.connect("test", f"tcp:told.test:{hosts[0].port}")
    assert isinstance(failed.value.reason, ConnectionRefusedError)
    assert f"{REFUSING}: ConnectionRefusedError" in str(failed.value)
    assert "127.0.0.8: ConnectionRefusedError" in str(failed.value)


@pytest_twisted.ensureDeferred
async def test_an_address_that_does_not_answer_is_overtaken(
    make_pool: MakePool, told: Told, hosts: list[Host], silent: str
) -> None:
    told.hosts = [silent, "127.0.0.2"]
    backend = f"tcp:told.test:{hosts[0].port}"
    pool = make_pool(Asker)
    lease = await pool.connect("test", backend)
    assert lease.protocol.transport.getPeer().host == "127.0.0.2"
    lease.release()
    await assert_whole(reactor, pool, backend)


@pytest_twisted.ensureDeferred
async def test_a_name_that_the_resolver_does_not_know_fails(
    make_pool: MakePool, told: Told
) -> None:
    with pytest.raises(ConnectFailed, match=r"nowhere.test: no address") as failed:
        await make_pool(Asker).connect("test", "tcp:nowhere.test:80")
    assert isinstance(failed.value.reason, DNSLookupError)


@pytest_twisted.ensureDeferred
async def test_a_name_that_has_only_an_ipv6_address_connects(
    make_pool: MakePool, told: Told
) -> None:
    host = Host()
    try:
        await host.listen(TCP6ServerEndpoint(reactor, 0, interface="::1"))
    except CannotListenError:
        pytest.skip("this machine has no ::1")
    told.hosts = ["::1"]
    pool = make_pool(Asker)
    async with await pool.connect("test", f"tcp:told.test:{host.port}") as lease:
        assert await lease.protocol.ask(b"hello") == b"hello"
        assert lease.protocol.transport.getPeer().host == "::1"
    await pool.close(0)
    await host.stop()


@pytest_twisted.ensureDeferred
async def test_localhost_connects_by_the_machines_own_resolver(
    make_pool: MakePool, hosts: list[Host]
) -> None:
    backend = f"tcp:localhost:{hosts[0].port}"
    pool = make_pool(Asker, limit=4)
    await connections(pool, backend, 4)
    assert len(hosts[0].accepted) == 4
    await assert_whole(reactor, pool, backend)


@pytest_twisted.ensureDeferred
async def test_a_name_that_does_not_exist_fails_by_the_machines_own_resolver(
    make_pool: MakePool,
) -> None:
    with pytest.raises(ConnectFailed) as failed:
        await make_pool(Asker).connect("test", "tcp:nowhere.invalid:80")
    assert isinstance(failed.value.reason, DNSLookupError)


@pytest_twisted.ensureDeferred
async def test_a_connect_timeout_names_the_addresses_that_were_tried(
    make_pool: MakePool, told: Told, hosts: list[Host], silent: str
) -> None:
    told.hosts = [REFUSING, silent]
    pool = make_pool(Asker, connect_timeout=0.5)
    with pytest.raises(ConnectFailed) as failed:
        await pool.connect("test", f"tcp:told.test:{hosts[0].port}")
    assert "connect took longer than 0.5 s (127.0.0.9: ConnectionRefused" in str(failed.value)
    assert "; 127.0.0.4: no answer)" in str(failed.value)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_cancelled_and_late_connects_leave_nothing_in_the_reactor(
    told: Told, hosts: list[Host], silent: str
) -> None:
    told.hosts = [silent]
    factory = Factory.forProtocol(Protocol)
    await turn(reactor)
    before = everything_in_the_reactor()
    string = f"tcp:told.test:{hosts[0].port}:timeout=1"
    endpoint = Backend(string).connector(reactor)
    cancelled, late = endpoint.connect(factory), endpoint.connect(factory)
    await turn(reactor)
    cancelled.cancel()
    with pytest.raises(ConnectingCancelledError):
        await cancelled
    with pytest.raises(TimeoutError, match=r"took longer than 1 s \(127.0.0.4: no answer\)"):
        await late
    await turn(reactor)
    assert everything_in_the_reactor() == before


def everything_in_the_reactor() -> tuple[int, int, int]:
    its: Any = reactor
    return len(its.getDelayedCalls()), len(its.getReaders()), len(its.getWriters())

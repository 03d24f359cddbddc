"""Events on real sockets reach the lessee and the pool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.error import CannotListenError, ConnectionAborted, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from zope.interface import implementer

from kolus import Pool
from tests.net.asking import assert_whole, turn, until
from tests.net.peers import Asker, Host

MakePool = Callable[..., Pool[Any]]


@implementer(IHalfCloseableProtocol)
class HalfAsker(Asker):
    """One that hears of each half."""

    def __init__(self) -> None:
        super().__init__()
        self.read_lost: Deferred[None] = Deferred()
        self.write_lost: Deferred[None] = Deferred()

    def readConnectionLost(self) -> None:
        self.read_lost.callback(None)

    def writeConnectionLost(self) -> None:
        self.write_lost.callback(None)


@pytest_twisted.async_yield_fixture
async def host() -> AsyncIterator[Host]:
    host = Host()
    await host.listen(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
    yield host
    await host.stop()


async def idle_connection(pool: Pool[Any], host: Host) -> None:
    """Have one connection, idle."""
    (await pool.connect("test", host.endpoint)).release()
    await until(reactor, lambda: host.accepted)


@pytest_twisted.ensureDeferred
async def test_lessee_hears_that_the_peer_closed_its_half(make_pool: MakePool, host: Host) -> None:
    pool = make_pool(HalfAsker)
    lease = await pool.connect("test", host.endpoint)
    await lease.protocol.ask(b"hello")
    host.accepted[0].half_close()
    await lease.protocol.read_lost
    lease.protocol.transport.write(b"still here")
    await until(reactor, lambda: host.accepted[0].received == b"hellostill here")
    lease.release()
    await until(reactor, lambda: pool.counters().closes == 1)
    await assert_whole(reactor, pool, host.endpoint)


@pytest_twisted.ensureDeferred
async def test_lessee_that_closed_its_half_hears_so_and_can_still_be_answered(
    make_pool: MakePool, host: Host
) -> None:
    pool = make_pool(HalfAsker)
    lease = await pool.connect("test", host.endpoint)
    answer = lease.protocol.ask(b"hello")
    lease.protocol.transport.loseWriteConnection()
    await lease.protocol.write_lost
    assert await answer == b"hello"
    lease.release()
    await until(reactor, lambda: pool.counters().closes == 1)
    await assert_whole(reactor, pool, host.endpoint)


@pytest_twisted.ensureDeferred
async def test_connection_closed_by_its_peer_while_leased_is_heard_by_the_lessee_first(
    make_pool: MakePool, host: Host
) -> None:
    pool = make_pool(Asker)
    lease = await pool.connect("test", host.endpoint)
    await lease.protocol.ask(b"hello")
    reply = lease.protocol.ask(b"?")
    host.accepted[0].reset()
    with pytest.raises(ConnectionLost):
        await reply
    assert pool.status([host.endpoint])[0].leased == 1
    await turn(reactor)
    assert pool.status([host.endpoint])[0].leased == 0
    lease.release()
    await assert_whole(reactor, pool, host.endpoint)


@pytest.mark.parametrize("protocol", [Asker, HalfAsker])
@pytest.mark.parametrize("how", ["close", "half_close", "reset"])
@pytest_twisted.ensureDeferred
async def test_idle_connection_that_its_peer_ends_is_removed_at_once(
    make_pool: MakePool, host: Host, how: str, protocol: type[Asker]
) -> None:
    pool = make_pool(protocol)
    await idle_connection(pool, host)
    getattr(host.accepted[0], how)()
    await until(reactor, lambda: pool.status([host.endpoint])[0].idle == 0)
    await assert_whole(reactor, pool, host.endpoint)


@pytest_twisted.ensureDeferred
async def test_bytes_that_come_while_it_is_idle_close_the_connection(
    make_pool: MakePool, host: Host
) -> None:
    pool = make_pool(Asker)
    await idle_connection(pool, host)
    host.accepted[0].speak(b"unasked")
    await until(reactor, lambda: host.accepted[0].saw_eof)
    await assert_whole(reactor, pool, host.endpoint)
    assert pool.counters().closes == 1


@pytest.mark.parametrize("how", ["abortConnection", "loseConnection"])
@pytest_twisted.ensureDeferred
async def test_connection_that_its_lessee_ended_is_never_leased_again(
    make_pool: MakePool, host: Host, how: str
) -> None:
    pool = make_pool(Asker, limit=1)
    lease = await pool.connect("test", host.endpoint)
    ended = lease.protocol
    getattr(ended.transport, how)()
    lease.release()
    again = await pool.connect("test", host.endpoint)
    assert again.protocol is not ended
    assert await again.protocol.ask(b"hello") == b"hello"
    again.release()
    await assert_whole(reactor, pool, host.endpoint)


@pytest_twisted.ensureDeferred
async def test_close_with_time_over_aborts_what_is_still_leased(
    make_pool: MakePool, host: Host
) -> None:
    pool = make_pool(Asker)
    lease = await pool.connect("test", host.endpoint)
    await pool.close(0)
    assert lease.protocol.lost.check(ConnectionAborted)
    lease.release()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
@pytest_twisted.ensureDeferred
async def test_pair_of_an_address_or_a_name_and_a_port_is_a_backend(
    make_pool: MakePool, host: Host, name: str
) -> None:
    pool = make_pool(Asker)
    async with await pool.connect("test", (name, host.port)) as lease:
        assert await lease.protocol.ask(b"hello") == b"hello"


@pytest_twisted.ensureDeferred
async def test_pair_of_an_ipv6_address_and_a_port_is_a_backend(make_pool: MakePool) -> None:
    host = Host()
    try:
        await host.listen(TCP6ServerEndpoint(reactor, 0, interface="::1"))
    except CannotListenError:
        pytest.skip("this machine has no ::1")
    pool = make_pool(Asker)
    async with await pool.connect("test", ("::1", host.port)) as lease:
        assert await lease.protocol.ask(b"hello") == b"hello"
    await pool.close(0)
    await host.stop()


@pytest_twisted.ensureDeferred
async def test_connection_that_its_lessee_left_paused_is_watched_all_the_same(
    make_pool: MakePool, host: Host
) -> None:
    pool = make_pool(Asker)
    lease = await pool.connect("test", host.endpoint)
    await lease.protocol.ask(b"hello")
    lease.protocol.transport.pauseProducing()
    lease.release()
    host.accepted[0].close()
    await until(reactor, lambda: pool.counters().closes == 1)
    await assert_whole(reactor, pool, host.endpoint)

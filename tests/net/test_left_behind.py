"""Rule 35, on real sockets: nobody is leased a connection in which bytes or an end lie unread, or
on which another's bytes are still to be sent."""

from __future__ import annotations

import contextlib
import socket
import ssl as plain_ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor, ssl
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.protocol import Protocol

from kolus import Backend, Lease, Pool
from kolus.events import Retired, Why
from kolus.testing import NotFired, result_of
from tests.net.asking import assert_whole, busy, turn, until, wait_for_news

MakePool = Callable[..., Pool[Any]]

pytestmark = pytest.mark.filterwarnings(
    "ignore:Passing pyOpenSSL (X509|PKey) objects is deprecated:DeprecationWarning"
)


class Hears(Protocol):
    """Records what it is given."""

    def __init__(self) -> None:
        self.heard = b""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data


class Server:
    """Accepts connections in a thread. The test has their blocking sockets in its hands, so it can
    send while the reactor does not run.

    @ivar peers: the server's ends, in the order in which they were accepted.
    """

    def __init__(self, *, tls: bool) -> None:
        self.peers: list[socket.socket] = []
        self._context: plain_ssl.SSLContext | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self._listener.getsockname()[1])
        if tls:
            authority = trustme.CA()
            self._context = plain_ssl.SSLContext(plain_ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("localhost").configure_cert(self._context)
            root = ssl.Certificate.loadPEM(authority.cert_pem.bytes())
            trusting = ssl.optionsForClientTLS("localhost", trustRoot=root)
            endpoint = wrapClientTLS(trusting, endpoint)
        self.backend = Backend(endpoint)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                accepted.settimeout(1.0)
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._shake_hands(accepted)

    def _shake_hands(self, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._context is not None:
                accepted = self._context.wrap_socket(accepted, server_side=True)
            self.peers.append(accepted)

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(2.0)
        self._listener.close()
        for each in self.peers:
            each.close()


@pytest.fixture(params=[False, True], ids=["tcp", "tls"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(tls=request.param)
    yield server
    server.stop()


async def lease_of(pool: Pool[Any], server: Server) -> tuple[Lease[Any], socket.socket]:
    """A lease of the first connection, and the server's end of it. What TLS says by itself has been
    read."""
    lease = await pool.connect("test", server.backend)
    await until(reactor, lambda: server.peers)
    for _ in range(5):
        await turn(reactor)
    return lease, server.peers[0]


def speaks(peer: socket.socket) -> None:
    peer.sendall(b"408 you are slow")


def ends(peer: socket.socket) -> None:
    peer.shutdown(socket.SHUT_WR)


def resets(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def busy_until_news(first: Hears) -> None:
    """The same, until something has come on the connection, and lies in it unread."""
    base: Any = first.transport
    base = getattr(base, "transport", base)  # below TLS
    wait_for_news(base.fileno())


NEWS = pytest.mark.parametrize("news", [speaks, ends, resets])
SLOTS = pytest.mark.parametrize("slots", [None, 2])


@NEWS
@SLOTS
@pytest_twisted.ensureDeferred
async def test_what_came_while_a_connection_was_idle_reaches_no_lessee(
    server: Server, make_pool: MakePool, slots: int | None, news: Any
) -> None:
    pool = make_pool(Hears, limit=1, slots=slots)
    lease, peer = await lease_of(pool, server)
    first = lease.protocol
    lease.release()
    news(peer)
    busy_until_news(first)
    assert pool.manager(server.backend).try_connect("test") is None  # type: ignore[union-attr]
    async with await pool.connect("test", server.backend) as lease:
        assert lease.protocol is not first
        assert lease.protocol.heard == b""
    assert first.heard == b""
    await assert_whole(reactor, pool, server.backend, slots or 1)


@NEWS
@SLOTS
@pytest_twisted.ensureDeferred
async def test_what_came_while_a_connection_was_leased_does_not_reach_the_next_lessee(
    server: Server, make_pool: MakePool, slots: int | None, news: Any
) -> None:
    pool = make_pool(Hears, limit=1, slots=slots)
    lease, peer = await lease_of(pool, server)
    first = lease.protocol
    news(peer)
    busy_until_news(first)
    lease.release()
    assert pool.manager(server.backend).try_connect("test") is None  # type: ignore[union-attr]
    async with await pool.connect("test", server.backend) as lease:
        assert lease.protocol is not first
        assert lease.protocol.heard == b""
    assert first.heard == b""


@NEWS
@pytest.mark.parametrize("slots", [None, 1])
@pytest_twisted.ensureDeferred
async def test_what_came_while_a_connection_was_leased_does_not_reach_who_waits_for_it(
    server: Server, make_pool: MakePool, slots: int | None, news: Any
) -> None:
    pool = make_pool(Hears, limit=1, slots=slots)
    lease, peer = await lease_of(pool, server)
    first = lease.protocol
    asked = [pool.connect("test", server.backend) for _ in range(2)]
    news(peer)
    busy_until_news(first)
    lease.release()
    with pytest.raises(NotFired):
        result_of(asked[0])
    for each in asked:
        async with await each as lease:
            assert lease.protocol is not first
            assert lease.protocol.heard == b""
    assert first.heard == b""


@NEWS
@pytest_twisted.ensureDeferred
async def test_a_check_is_given_no_bytes_from_before(
    server: Server, make_pool: MakePool, news: Any
) -> None:
    checked: list[Hears] = []
    pool = make_pool(Hears, limit=1, check=checked.append, check_after=0.001)
    lease, peer = await lease_of(pool, server)
    first = lease.protocol
    checked.clear()  # a busy machine has had it checked before its first lease
    lease.release()
    news(peer)
    busy_until_news(first)
    async with await pool.connect("test", server.backend) as lease:
        assert lease.protocol is not first
    assert first not in checked


@pytest_twisted.ensureDeferred
async def test_what_came_during_a_reset_reaches_no_lessee(
    server: Server, make_pool: MakePool
) -> None:
    def reset(protocol: Hears) -> None:
        if protocol is first:
            speaks(peer)
            busy_until_news(first)

    pool = make_pool(Hears, limit=1, reset=reset)
    lease, peer = await lease_of(pool, server)
    first = lease.protocol
    lease.release()
    async with await pool.connect("test", server.backend) as lease:
        assert lease.protocol is not first


@SLOTS
@pytest_twisted.ensureDeferred
async def test_a_quiet_connection_is_leased_again(
    server: Server, make_pool: MakePool, slots: int | None
) -> None:
    pool = make_pool(Hears, limit=1, slots=slots)
    lease, peer = await lease_of(pool, server)
    first = lease.protocol
    for _ in range(3):
        first.transport.write(b"a question")
        peer.sendall(b"an answer")
        await until(reactor, lambda: first.heard)
        for _ in range(5):
            await turn(reactor)
        assert peer.recv(100) == b"a question"
        first.heard = b""
        busy()
        lease.release()
        busy()
        lease = await pool.connect("test", server.backend)
        assert lease.protocol is first
    lease.release()


@pytest_twisted.ensureDeferred
async def test_what_tls_says_by_itself_costs_no_connection(make_pool: MakePool) -> None:
    server = Server(tls=True)
    try:
        pool = make_pool(Hears, limit=1)
        lease = await pool.connect("test", server.backend)
        await until(reactor, lambda: server.peers)  # its tickets come now
        first = lease.protocol
        busy()
        lease.release()
        lease = await pool.connect("test", server.backend)
        assert lease.protocol is first
        lease.release()
        context: Any = server.peers[0]
        assert context.version() == "TLSv1.3"
    finally:
        server.stop()


# Unsent

LOTS = b"x" * 20_000_000


@SLOTS
@pytest.mark.parametrize("at_once", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_connection_with_unsent_bytes_is_not_leased_again(
    server: Server, make_pool: MakePool, slots: int | None, at_once: bool
) -> None:
    pool = make_pool(Hears, limit=2, slots=slots, close_timeout=0.1)
    lease, _ = await lease_of(pool, server)
    first = lease.protocol
    first.transport.write(LOTS)
    if not at_once:
        await until(reactor, lambda: first.transport is not None)
        await turn(reactor)
    lease.release()
    async with await pool.connect("test", server.backend) as lease:
        assert lease.protocol is not first
    await until(reactor, lambda: pool.counters().closes == 1)


@pytest.mark.parametrize("slots", [None, 1])
@pytest_twisted.ensureDeferred
async def test_a_connection_with_unsent_bytes_does_not_go_to_who_waits(
    server: Server, make_pool: MakePool, slots: int | None
) -> None:
    pool = make_pool(Hears, limit=1, slots=slots, close_timeout=0.1)
    lease, _ = await lease_of(pool, server)
    first = lease.protocol
    asked = [pool.connect("test", server.backend) for _ in range(2)]
    first.transport.write(LOTS)
    lease.release()
    with pytest.raises(NotFired):
        result_of(asked[0])
    for each in asked:
        async with await each as lease:
            assert lease.protocol is not first


@SLOTS
@pytest_twisted.ensureDeferred
async def test_what_the_kernel_takes_is_sent_at_the_release(
    server: Server, make_pool: MakePool, slots: int | None
) -> None:
    pool = make_pool(Hears, limit=1, slots=slots)
    lease, peer = await lease_of(pool, server)
    first = lease.protocol
    for word in (b"one", b"two"):
        first.transport.write(word)
        lease.release()
        lease = pool.manager(server.backend).try_connect("test")  # type: ignore[union-attr,assignment]
        assert lease is not None
        assert lease.protocol is first
        assert peer.recv(100) == word
    lease.release()


@pytest_twisted.ensureDeferred
async def test_a_connection_out_of_step_is_told(server: Server) -> None:
    events: list[Any] = []
    pool: Pool[Any] = Pool(reactor, Hears, observers=[events.append])
    lease, peer = await lease_of(pool, server)
    speaks(peer)
    busy_until_news(lease.protocol)
    lease.release()
    await until(reactor, lambda: pool.counters().closes == 1)
    assert [each.why for each in events if isinstance(each, Retired)] == [Why.OUT_OF_STEP]
    await pool.close(0)


# 37: served nothing


@SLOTS
@pytest.mark.parametrize("news", [ends, resets])
@pytest_twisted.ensureDeferred
async def test_a_connection_that_has_served_nothing_counts_against_its_backend(
    server: Server, make_pool: MakePool, slots: int | None, news: Any
) -> None:
    pool = make_pool(Hears, limit=1, slots=slots)
    lease, peer = await lease_of(pool, server)
    lost = lease.when_lost()
    news(peer)
    await lost
    lease.finished()
    manager: Any = pool.manager(server.backend)
    assert manager.record.health.failures == 1

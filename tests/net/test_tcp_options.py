"""How a pooled socket sends, and C{Policy(tcp_timeout=...)}: how long its peer may be silent."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor, ssl
from twisted.internet.endpoints import TCP4ServerEndpoint, UNIXServerEndpoint, wrapServerTLS
from twisted.internet.error import ConnectionLost
from twisted.protocols.policies import ProtocolWrapper

from kolus import Policy, Pool
from kolus.connection.tcp_options import set_tcp_options
from tests.net.asking import until
from tests.net.peers import Asker, Host

MakePool = Callable[..., Pool[Any]]

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the names of the options differ"),
    # Twisted 26.10 passes pyOpenSSL 26 what it would rather not have.
    pytest.mark.filterwarnings(
        "ignore:Passing pyOpenSSL (X509|PKey) objects is deprecated:DeprecationWarning"
    ),
]


def handle_of(protocol: Any) -> socket.socket:
    transport = protocol.transport
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    handle: socket.socket = transport.getHandle()
    return handle


def sends_at_once(protocol: Any) -> bool:
    return handle_of(protocol).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def options(protocol: Any) -> tuple[int, int, int, int, int]:
    """Keep-alive, its idle time, interval and count, and the user time-out in milliseconds."""
    handle = handle_of(protocol)
    return (
        handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
        handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
    )


@pytest_twisted.async_yield_fixture
async def host() -> AsyncIterator[Host]:
    host = Host()
    await host.listen(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
    yield host
    await host.stop()


@pytest_twisted.ensureDeferred
async def test_a_tcp_peer_may_be_silent_for_two_minutes_by_default(
    make_pool: MakePool, host: Host
) -> None:
    lease = await make_pool(Asker).connect("us", host.endpoint)
    assert options(lease.protocol) == (1, 60, 20, 3, 120_000)
    lease.release()


@pytest_twisted.ensureDeferred
async def test_a_write_does_not_wait_until_another_is_acknowledged(
    make_pool: MakePool, host: Host
) -> None:
    lease = await make_pool(Asker).connect("us", host.endpoint)
    assert sends_at_once(lease.protocol)
    lease.release()


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (12.0, (1, 6, 2, 3, 12_000)),
        (0.5, (1, 1, 1, 3, 500)),
        (1e9, (1, 32767, 32767, 3, 2**31 - 1)),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_time_can_be_chosen(
    make_pool: MakePool, host: Host, seconds: float, expected: tuple[int, ...]
) -> None:
    lease = await make_pool(Asker, tcp_timeout=seconds).connect("us", host.endpoint)
    assert options(lease.protocol) == expected
    lease.release()


@pytest.mark.parametrize("off", [None, float("inf")])
@pytest_twisted.ensureDeferred
async def test_the_limit_of_silence_can_be_turned_off(
    make_pool: MakePool, host: Host, off: float | None
) -> None:
    lease = await make_pool(Asker, tcp_timeout=off).connect("us", host.endpoint)
    assert options(lease.protocol)[0] == 0
    assert options(lease.protocol)[4] == 0
    assert sends_at_once(lease.protocol)
    lease.release()


@pytest.mark.parametrize("kind", ["tls", "ssl"])
@pytest_twisted.ensureDeferred
async def test_the_socket_below_tls_sends_at_once_and_has_the_limit_of_silence(
    make_pool: MakePool, tmp_path: Path, kind: str
) -> None:
    host, authority = Host(), trustme.CA()
    certificate = authority.issue_cert("localhost")
    pem = certificate.private_key_pem.bytes() + certificate.cert_chain_pems[0].bytes()
    plain = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    await host.listen(wrapServerTLS(ssl.PrivateCertificate.loadPEM(pem).options(), plain))
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    endpoint = {
        "tls": f"tls:localhost:{host.port}:trustRoots={tmp_path}",
        "ssl": f"ssl:127.0.0.1:{host.port}:caCertsDir={tmp_path}:hostname=localhost",
    }[kind]
    async with await make_pool(Asker).connect("us", endpoint) as lease:
        assert options(lease.protocol) == (1, 60, 20, 3, 120_000)
        assert sends_at_once(lease.protocol)
    await host.stop()


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_is_left_alone(make_pool: MakePool, tmp_path: Path) -> None:
    host = Host()
    await host.listen(UNIXServerEndpoint(reactor, str(tmp_path / "socket")))
    async with await make_pool(Asker).connect("us", f"unix:{tmp_path}/socket") as lease:
        handle = lease.protocol.transport.getHandle()
        assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
    await host.stop()


class Chooses(Asker):
    """Sets its own options."""

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(False)
        self.transport.setTcpKeepAlive(False)
        self.transport.getHandle().setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 7000)


@pytest_twisted.ensureDeferred
async def test_what_a_protocol_sets_itself_prevails(make_pool: MakePool, host: Host) -> None:
    lease = await make_pool(Chooses).connect("us", host.endpoint)
    assert options(lease.protocol) == (0, 60, 20, 3, 7000)
    assert not sends_at_once(lease.protocol)
    lease.release()


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_peer_that_takes_nothing_for_so_long_is_given_up(
    make_pool: MakePool, host: Host
) -> None:
    pool = make_pool(Asker, tcp_timeout=0.3)
    lease = await pool.connect("us", host.endpoint)
    await until(reactor, lambda: host.accepted)
    host.accepted[0].transport.pauseProducing()
    lost = lease.when_lost()
    lease.protocol.transport.write(b"x" * 50_000_000)
    assert isinstance(await lost, ConnectionLost)
    lease.finished()


def test_what_has_no_socket_is_left_alone() -> None:
    class Odd:
        def getHandle(self) -> object:
            return self

    for each in (object(), Odd()):
        set_tcp_options(each, 60)


def test_a_socket_that_is_closed_already_is_no_error() -> None:
    class Gone:
        def getHandle(self) -> object:
            closed = socket.socket()
            closed.close()
            return closed

    set_tcp_options(Gone(), 60)


@pytest.mark.parametrize("wrong", [0, -1, "60"])
def test_the_time_is_a_number_of_seconds(wrong: Any) -> None:
    with pytest.raises(ValueError, match="tcp_timeout"):
        Policy(tcp_timeout=wrong)

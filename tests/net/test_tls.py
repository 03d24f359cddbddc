"""A pool over TLS: a connection counts as connected when its handshake is completed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from OpenSSL import SSL
from twisted.internet import reactor, ssl
from twisted.internet.defer import TimeoutError
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ServerEndpoint,
    wrapClientTLS,
    wrapServerTLS,
)
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IStreamClientEndpoint,
)
from zope.interface import implementer

from kolus import Backend, ConnectFailed, Lease, Pool
from kolus.support import steady_seconds
from tests.net.asking import assert_whole, in_parallel, outcome_of, until
from tests.net.peers import Asker, Host
from tests.net.told import Told

# Twisted 26.10 passes pyOpenSSL 26 what it would rather not have.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Passing pyOpenSSL (X509|PKey) objects is deprecated:DeprecationWarning"
)
MakePool = Callable[..., Pool[Any]]


@implementer(IHandshakeListener)
class Listener(Asker):
    """One that hears of its handshake."""

    shaken = False

    def handshakeCompleted(self) -> None:
        self.shaken = True


@implementer(IHalfCloseableProtocol)
class HalfListener(Listener):
    """One that would hear of halves, which TLS does not have."""

    def readConnectionLost(self) -> None:
        raise AssertionError("TLS has no halves")

    writeConnectionLost = readConnectionLost


@dataclass(frozen=True, slots=True)
class Secure:
    """A host that speaks TLS, and the authority that signed its certificate."""

    host: Host
    authority: trustme.CA

    def trusting(self, authority: trustme.CA) -> IStreamClientEndpoint:
        """An endpoint that trusts that authority alone."""
        root = ssl.Certificate.loadPEM(authority.cert_pem.bytes())
        options = ssl.optionsForClientTLS("localhost", trustRoot=root)
        return wrapClientTLS(options, HostnameEndpoint(reactor, "127.0.0.1", self.host.port))


@pytest_twisted.async_yield_fixture
async def secure() -> AsyncIterator[Secure]:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    pem = certificate.private_key_pem.bytes() + certificate.cert_chain_pems[0].bytes()
    options = ssl.PrivateCertificate.loadPEM(pem).options()
    host = Host()
    plain = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    await host.listen(wrapServerTLS(options, plain))
    yield Secure(host, authority)
    await host.stop()


@pytest_twisted.ensureDeferred
async def test_bytes_go_both_ways_over_tls(make_pool: MakePool, secure: Secure) -> None:
    pool, backend = make_pool(Asker), Backend(secure.trusting(secure.authority))
    for _ in range(3):
        async with await pool.connect("test", backend) as lease:
            assert await lease.protocol.ask(b"hello") == b"hello"
    assert pool.counters(backend).connects == 1
    await assert_whole(reactor, pool, backend)


@pytest_twisted.ensureDeferred
async def test_tls_endpoint_string_is_a_backend(
    make_pool: MakePool, secure: Secure, tmp_path: Path
) -> None:
    secure.authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    endpoint = f"tls:localhost:{secure.host.port}:trustRoots={tmp_path}"
    async with await make_pool(Asker).connect("test", endpoint) as lease:
        assert await lease.protocol.ask(b"hello") == b"hello"


@pytest_twisted.ensureDeferred
async def test_connections_of_a_tls_string_are_spread_over_the_addresses_of_its_name(
    make_pool: MakePool, told: Told, tmp_path: Path
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("told.test")
    pem = certificate.private_key_pem.bytes() + certificate.cert_chain_pems[0].bytes()
    options = ssl.PrivateCertificate.loadPEM(pem).options()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    hosts, port = [Host(), Host()], 0
    for number, host in enumerate(hosts, 1):
        plain = TCP4ServerEndpoint(reactor, port, interface=f"127.0.0.{number}")
        await host.listen(wrapServerTLS(options, plain))
        port = host.port
    told.hosts = ["127.0.0.1", "127.0.0.9", "127.0.0.2"]  # nobody listens at the second
    pool, endpoint = make_pool(Asker, limit=6), f"tls:told.test:{port}:trustRoots={tmp_path}"
    for lease in await in_parallel(*[connected(pool, endpoint) for _ in range(6)]):
        assert await lease.protocol.ask(b"hello") == b"hello"
        lease.release()
    assert pool.counters().connect_failures == 0
    assert min(len(host.accepted) for host in hosts) >= 2
    assert told.asked == 1
    await assert_whole(reactor, pool, endpoint)
    for host in hosts:
        await host.stop()


async def connected(pool: Pool[Any], backend: str) -> Lease[Any]:
    return await pool.connect("test", backend)


@pytest_twisted.ensureDeferred
async def test_ssl_endpoint_string_is_a_backend_for_a_protocol_that_hears_of_halves_too(
    make_pool: MakePool, secure: Secure, tmp_path: Path
) -> None:
    secure.authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    endpoint = f"ssl:127.0.0.1:{secure.host.port}:caCertsDir={tmp_path}:hostname=localhost"
    pool = make_pool(HalfListener)
    async with await pool.connect("test", endpoint) as lease:
        assert await lease.protocol.ask(b"hello") == b"hello"
        assert lease.protocol.shaken
    secure.host.accepted[0].close()
    await until(reactor, lambda: pool.counters(endpoint).closes == 1)
    await assert_whole(reactor, pool, endpoint)


@pytest_twisted.ensureDeferred
async def test_refused_certificate_is_why_the_connect_failed(
    make_pool: MakePool, secure: Secure
) -> None:
    pool, backend = make_pool(Asker), Backend(secure.trusting(trustme.CA()))
    with pytest.raises(ConnectFailed) as caught:
        await pool.connect("test", backend)
    assert isinstance(caught.value.reason, SSL.Error)
    message = str(caught.value)
    assert message.startswith(f"connected to {backend}, but its TLS handshake failed: ")
    assert "certificate verify failed" in message
    await assert_whole(reactor, pool, backend)
    assert pool.counters(backend).connects == 0


@pytest_twisted.ensureDeferred
async def test_handshake_that_never_completes_is_ended_by_the_connect_timeout(
    make_pool: MakePool, secure: Secure
) -> None:
    silent = Host(echoes=False)
    await silent.listen(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
    pool = make_pool(Asker, connect_timeout=0.2)
    backend = Backend(Secure(silent, secure.authority).trusting(secure.authority))
    began = steady_seconds()
    outcome = await outcome_of(reactor, pool.connect("test", backend), 0.2)
    took = steady_seconds() - began
    assert isinstance(outcome.error, ConnectFailed)
    assert isinstance(outcome.error.reason, TimeoutError)
    assert "but its TLS handshake failed: " in str(outcome.error)
    assert took >= 0.19
    assert not outcome.is_late
    await assert_whole(reactor, pool, backend)
    await silent.stop()


@pytest_twisted.ensureDeferred
async def test_what_fails_after_the_handshake_is_not_told_as_the_handshake(
    make_pool: MakePool, secure: Secure
) -> None:
    def log_in(asker: Asker) -> bool:
        return False

    pool, backend = make_pool(Asker, prepare=log_in), Backend(secure.trusting(secure.authority))
    with pytest.raises(ConnectFailed, match=", but prepare failed: "):
        await pool.connect("test", backend)
    closed = make_pool(Asker, prepare=lambda asker: asker.transport.loseConnection())
    with pytest.raises(ConnectFailed) as caught:
        await closed.connect("test", backend)
    assert "handshake" not in str(caught.value)


@pytest_twisted.ensureDeferred
async def test_protocol_that_listens_for_the_handshake_has_heard_it_before_the_first_lease(
    make_pool: MakePool, secure: Secure
) -> None:
    pool = make_pool(Listener)
    async with await pool.connect("test", Backend(secure.trusting(secure.authority))) as lease:
        assert lease.protocol.shaken


@pytest_twisted.ensureDeferred
async def test_idle_tls_connection_that_its_peer_closes_is_removed_at_once(
    make_pool: MakePool, secure: Secure
) -> None:
    pool, backend = make_pool(Asker), Backend(secure.trusting(secure.authority))
    async with await pool.connect("test", backend) as lease:
        await lease.protocol.ask(b"hello")
    secure.host.accepted[0].close()
    await until(reactor, lambda: pool.counters(backend).closes == 1)
    await assert_whole(reactor, pool, backend)

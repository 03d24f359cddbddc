"""A detached connection on real sockets: TCP, UNIX and TLS, also with another protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor, ssl
from twisted.internet.endpoints import TCP4ServerEndpoint, UNIXServerEndpoint, wrapServerTLS
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from kolus import Pool
from tests.net.asking import until
from tests.net.peers import Asker, Host

MakePool = Callable[..., Pool[Any]]
KEEPS = pytest.mark.parametrize("keep_slot", [False, True], ids=["slot free", "slot kept"])
ENDS = pytest.mark.parametrize("end", ["peer closes", "peer resets", "holder closes", "aborts"])

# Twisted 26.10 passes pyOpenSSL 26 what it would rather not have.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Passing pyOpenSSL (X509|PKey) objects is deprecated:DeprecationWarning"
)


class Upgraded(Protocol):
    """What the connection speaks after its upgrade."""

    def __init__(self) -> None:
        self.heard = b""
        self.losses: list[Failure] = []

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.losses.append(reason)


@pytest_twisted.async_yield_fixture(params=["tcp", "unix", "tls"])
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Host, str]]:
    """A host that echoes, and the endpoint string of it."""
    host = Host()
    plain = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    if request.param == "unix":
        await host.listen(UNIXServerEndpoint(reactor, str(tmp_path / "socket")))
        endpoint = f"unix:{tmp_path}/socket"
    elif request.param == "tcp":
        await host.listen(plain)
        endpoint = host.endpoint
    else:
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost")
        pem = certificate.private_key_pem.bytes() + certificate.cert_chain_pems[0].bytes()
        await host.listen(wrapServerTLS(ssl.PrivateCertificate.loadPEM(pem).options(), plain))
        authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
        endpoint = f"tls:localhost:{host.port}:trustRoots={tmp_path}"
    yield host, endpoint
    await host.stop()


@ENDS
@KEEPS
@pytest_twisted.ensureDeferred
async def test_a_detached_protocol_lives_on_without_the_pool(
    make_pool: MakePool, served: tuple[Host, str], keep_slot: bool, end: str
) -> None:
    host, endpoint = served
    pool = make_pool(Asker, limit=1)
    lease = await pool.connect("us", endpoint)
    assert await lease.protocol.ask(b"hello") == b"hello"
    protocol = lease.detach(keep_slot=keep_slot)
    assert await protocol.ask(b"you") == b"you"
    asked = pool.connect("us", endpoint)
    if not keep_slot:
        (await asked).release()
    assert asked.called is not keep_slot
    pool.invalidate()
    assert await protocol.ask(b"still there") == b"still there"
    {
        "peer closes": lambda: host.accepted[0].close(),
        "peer resets": lambda: host.accepted[0].transport.abortConnection(),
        "holder closes": lambda: protocol.transport.loseConnection(),
        "aborts": lambda: protocol.transport.abortConnection(),
    }[end]()
    await until(reactor, lambda: protocol.lost)
    if keep_slot:
        (await asked).release()


@ENDS
@pytest_twisted.ensureDeferred
async def test_a_slot_that_is_kept_is_free_even_if_the_transport_got_another_protocol(
    make_pool: MakePool, served: tuple[Host, str], end: str
) -> None:
    host, endpoint = served
    pool = make_pool(Asker, limit=1)
    lease = await pool.connect("us", endpoint)
    protocol = lease.detach(keep_slot=True)
    upgraded: Any = Upgraded()
    transport = protocol.transport
    if hasattr(transport, "wrappedProtocol"):  # as one replaces the protocol above TLS
        transport.wrappedProtocol = upgraded
    else:
        transport.protocol = upgraded
    upgraded.makeConnection(transport)
    transport.write(b"hello")
    await until(reactor, lambda: upgraded.heard == b"hello")
    asked = pool.connect("us", endpoint)
    assert not asked.called
    {
        "peer closes": lambda: host.accepted[0].close(),
        "peer resets": lambda: host.accepted[0].transport.abortConnection(),
        "holder closes": lambda: transport.loseConnection(),
        "aborts": lambda: transport.abortConnection(),
    }[end]()
    (await asked).release()
    assert len(upgraded.losses) == 1


@pytest_twisted.ensureDeferred
async def test_a_detached_connection_outlives_its_pool(
    make_pool: MakePool, served: tuple[Host, str]
) -> None:
    pool = make_pool(Asker)
    protocol = (await pool.connect("us", served[1])).detach()
    await pool.close()
    assert await protocol.ask(b"hello") == b"hello"
    protocol.transport.loseConnection()
    await until(reactor, lambda: protocol.lost)

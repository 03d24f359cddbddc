"""The tunnel over real sockets: TCP, UNIX and TLS, in one process with its peers."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from kolus import Ejection, Policy, Pool
from kolus.daemon.front_service import FrontService
from kolus.tunnel import End, Front, ListenerSettings, in_place_of, loop_of
from tests.net.conftest import PATIENT
from tests.net.tunnel_peers import LOOPBACK, Backend, Peer, backend, connected, until
from tests.rigs.patience import PATIENCE

# Twisted's own; it reaches only those who turn warnings into errors.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL")

MIB = 1024 * 1024
FOR_GOOD = Ejection(first=PATIENCE, most=PATIENCE)
HEADER = b"PROXY TCP4 10.1.1.1 10.1.1.2 1111 6380\r\n"
_fast: ContextVar[bool] = ContextVar("whether sockets are the front's own", default=True)


@pytest.fixture(autouse=True, params=["wires", "transports"])
def data_path(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every promise is kept over both data paths."""
    token = _fast.set(request.param == "wires")
    yield
    _fast.reset(token)


@asynccontextmanager
async def front(
    *endpoints: str,
    listen: str = LOOPBACK,
    limit: int = 5,
    grace: float = 10.0,
    settings: ListenerSettings | None = None,
) -> AsyncIterator[FrontService]:
    """A front over these backends, which has ended at the end of the block."""
    loop = loop_of(reactor) if _fast.get() else None
    pool = Pool(
        reactor,
        End,
        policy=Policy(limit=limit, ejection=FOR_GOOD, **PATIENT),
        make_endpoint=_fast_endpoint if loop else None,
    )
    service = FrontService(
        Front(reactor, lambda ident: pool.select(ident, endpoints), settings=settings, loop=loop),
        [(listen, serverFromString(reactor, listen))],
        grace=grace,
    )
    service.startService()
    try:
        yield service
    finally:
        await service.stopService()
        await pool.close(5.0)


def _fast_endpoint(reactor: Any, backend: Any) -> Any:
    return in_place_of(loop_of(reactor), backend.connector(reactor))


def port_of(service: FrontService) -> int:
    address: Any = service.ports[0].getHost()
    port: int = address.port
    return port


@asynccontextmanager
async def pair(limit: int = 5) -> AsyncIterator[tuple[Peer, Peer, Backend]]:
    """A client and the backend's end of its tunnel."""
    async with (
        backend(reactor, Peer) as far,
        front(far.endpoint, limit=limit) as service,
        connected(reactor, port_of(service)) as client,
    ):
        client.send(b"hello")
        await until(reactor, lambda: far.peers and far.peers[0].got == b"hello")
        yield client, far.peers[0], far


@pytest_twisted.ensureDeferred
async def test_a_client_that_half_closes_gets_its_answer() -> None:
    async with pair() as (client, far, _):
        client.send(b", world", end=True)
        await far.ended()
        assert far.got == b"hello, world"
        assert client.reason is None
        far.send(b"the answer", end=True)
        await client.ended()
        assert client.got == b"the answer"


@pytest_twisted.ensureDeferred
async def test_a_client_that_was_answered_has_its_own_time_and_not_the_longer_of_backends() -> None:
    settings = ListenerSettings(client_timeout=0.2, backend_timeout=60.0)
    async with (
        backend(reactor, Peer) as far,
        front(far.endpoint, settings=settings) as service,
        connected(reactor, port_of(service)) as client,
    ):
        client.send(b"hello")
        await until(reactor, lambda: far.peers and far.peers[0].got == b"hello")
        await deferLater(reactor, 0.5, lambda: None)
        assert client.reason is None
        far.peers[0].send(b"hello to you")
        await client.ended()
        assert client.got == b"hello to you"
        assert service.front.times_out == {"client_timeout": 1}


@pytest_twisted.ensureDeferred
async def test_a_backend_that_half_closes_hears_the_rest() -> None:
    async with pair() as (client, far, _):
        far.send(b"I have said all", end=True)
        await client.ended()
        assert client.got == b"I have said all"
        client.send(b", and I have not", end=True)
        await far.ended()
        assert far.got == b"hello, and I have not"


@pytest.mark.parametrize("side", [0, 1])
@pytest_twisted.ensureDeferred
async def test_a_reset_reaches_the_other_side_as_a_reset(side: int) -> None:
    async with pair() as (client, far, _):
        peers = (client, far)
        peers[side].transport.abortConnection()
        await peers[1 - side].lost()
        assert peers[1 - side].was_reset


@pytest_twisted.ensureDeferred
async def test_the_connection_of_a_client_that_is_gone_is_closed_and_its_slot_is_free() -> None:
    async with (
        backend(reactor) as echoes,
        front(echoes.endpoint, limit=1) as service,
    ):
        port = port_of(service)
        for number in range(5):
            async with connected(reactor, port) as client:
                client.send(b"%d" % number)
                await client.has(1)
                await client.close()
        await until(reactor, lambda: not echoes.connected)
        assert len(echoes.peers) == 5
        assert echoes.most == 1


class Closer(Peer):
    """Closes at once."""

    def connectionMade(self) -> None:
        self.transport.loseConnection()


@pytest_twisted.ensureDeferred
async def test_a_backend_that_accepts_and_closes_at_once_draws_not_all_clients() -> None:
    async with (
        backend(reactor, Closer) as closes,
        backend(reactor) as echoes,
        front(closes.endpoint, echoes.endpoint) as service,
    ):
        answered: list[bool] = []
        while answered[-30:] != [True] * 30:
            assert len(answered) < 100
            async with connected(reactor, port_of(service)) as client:
                client.send(b"x", end=True)
                await client.ended()
                answered.append(client.got == b"x")
        assert len(closes.peers) >= 5  # as many failures in a row eject it


@pytest_twisted.ensureDeferred
async def test_a_client_that_goes_away_in_the_queue_lets_the_next_one_go_ahead() -> None:
    async with (
        backend(reactor) as echoes,
        front(echoes.endpoint, limit=1) as service,
        connected(reactor, port_of(service)) as first,
    ):
        first.send(b"x")
        await first.has(1)
        async with (
            connected(reactor, port_of(service)) as gone,
            connected(reactor, port_of(service)) as patient,
        ):
            gone.send(b"never mind")
            patient.send(b"please", end=True)
            gone.transport.abortConnection()
            await gone.lost()
            await first.close()
            await patient.ended()
            assert patient.got == b"please"
            assert len(echoes.peers) == 2


@pytest_twisted.ensureDeferred
async def test_half_close_passes_through_unix_sockets(tmp_path: Path) -> None:
    async with (
        backend(reactor, listen=f"unix:{tmp_path}/far"),
        front(f"unix:{tmp_path}/far", listen=f"unix:{tmp_path}/near"),
        connected(reactor, f"unix:{tmp_path}/near") as client,
    ):
        client.send(b"x" * MIB, end=True)
        await client.ended()
        assert len(client.got) == MIB


# TLS


class Pki:
    """Endpoint strings of both kinds for one certificate."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost")
        self._trust = folder / "trust"
        self._trust.mkdir()
        authority.cert_pem.write_to_path(str(self._trust / "ca.pem"))
        chain, key = folder / "chain.pem", folder / "key.pem"
        certificate.private_key_pem.write_to_path(str(key))
        chain.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
        self.listen = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={chain}"

    def endpoint(self, port: int) -> str:
        return f"tls:localhost:{port}:trustRoots={self._trust}:endpoint=tcp\\:127.0.0.1\\:{port}"


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


QUESTION = random.Random(5).randbytes(4 * MIB)


@pytest_twisted.ensureDeferred
async def test_tls_on_both_sides_carries_every_byte(pki: Pki) -> None:
    async with (
        backend(reactor, TlsEcho, listen=pki.listen) as echoes,
        front(pki.endpoint(echoes.port.getHost().port), listen=pki.listen) as service,
        connected(reactor, pki.endpoint(port_of(service))) as client,
    ):
        client.send(QUESTION)
        await client.has(len(QUESTION))
        assert bytes(client.got) == QUESTION
        await client.close()
        await until(reactor, lambda: not echoes.connected)


class TlsEcho(Peer):
    """Sends back what comes."""

    def connectionMade(self) -> None:
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Talker(Peer):
    """Says much and closes."""

    def connectionMade(self) -> None:
        self.transport.write(QUESTION)
        self.transport.loseConnection()


@pytest.mark.parametrize("secured", ["client", "backend", "both"])
@pytest_twisted.ensureDeferred
async def test_a_backend_that_says_much_and_closes_is_heard_to_the_end(
    pki: Pki, secured: str
) -> None:
    near = LOOPBACK if secured == "backend" else pki.listen
    far = LOOPBACK if secured == "client" else pki.listen
    async with backend(reactor, Talker, listen=far) as talker:
        port = talker.port.getHost().port
        endpoint = talker.endpoint if secured == "client" else pki.endpoint(port)
        async with front(endpoint, listen=near) as service:
            port = port_of(service)
            target: str | int = port if secured == "backend" else pki.endpoint(port)
            async with connected(reactor, target) as client:
                await client.ended()
                assert bytes(client.got) == QUESTION
                client.transport.loseConnection()
                await client.lost()
            await until(reactor, lambda: not talker.connected)


@pytest_twisted.ensureDeferred
async def test_a_client_that_uploads_and_closes_over_tls_is_heard_to_the_end(pki: Pki) -> None:
    async with (
        backend(reactor, Peer) as far,
        front(far.endpoint, listen=pki.listen) as service,
        connected(reactor, pki.endpoint(port_of(service))) as client,
    ):
        client.send(QUESTION)
        client.transport.loseConnection()
        await until(reactor, lambda: far.peers)
        (peer,) = far.peers
        await peer.ended()
        assert bytes(peer.got) == QUESTION
        assert peer.reason is None


@pytest_twisted.ensureDeferred
async def test_a_tls_client_that_closes_while_it_is_not_reading_ends_its_tunnel(pki: Pki) -> None:
    async with (
        backend(reactor, Endless) as far,
        front(far.endpoint, listen=pki.listen) as service,
    ):
        port = port_of(service)
        raw: Any = await deferToThread(_say_goodbye_without_reading, port, far)
        with raw:
            await until(reactor, lambda: far.peers and far.peers[0].paused)
            # It takes what was on its way, and nothing more comes: the tunnel has to be over.
            await deferToThread(_drink, raw)
            await until(reactor, lambda: not far.connected)


class Endless(Peer):
    """Says more than any buffer holds, then waits.

    @ivar paused: whether it had to stop, because the other side does not read.
    """

    paused = False

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)
        for _ in range(64):
            self.transport.write(b"x" * MIB)

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        """It has said all."""

    def stopProducing(self) -> None:
        """It is over."""


def _say_goodbye_without_reading(port: int, far: Backend) -> socket.socket:
    raw = socket.create_connection(("127.0.0.1", port))
    raw.settimeout(20.0)
    raw.setblocking(True)
    tls = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), raw)
    tls.set_connect_state()
    tls.do_handshake()
    tls.shutdown()
    return raw


def _drink(raw: socket.socket) -> None:
    while raw.recv(MIB):
        pass


@pytest_twisted.ensureDeferred
async def test_a_client_that_half_closes_behind_a_proxy_header_gets_its_answer() -> None:
    settings = ListenerSettings(accept_proxy_from=("127.0.0.0/8",))
    async with backend(reactor) as echoes, front(echoes.endpoint, settings=settings) as service:
        port = service.ports[0].getHost().port
        for pieces in (
            [HEADER + b"question"],
            [HEADER, b"question"],
            [HEADER[:9], HEADER[9:], b"q"],
        ):
            async with connected(reactor, port) as client:
                for piece in pieces[:-1]:
                    client.send(piece)
                    await deferLater(reactor, 0.05)  # type: ignore[arg-type]
                client.send(pieces[-1], end=True)
                await client.ended()
                assert bytes(client.got) == b"".join(pieces).removeprefix(HEADER)

"""PROXY headers between the front and haproxy and nginx, in both directions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString

from kolus import Policy, Pool
from kolus.daemon.front_service import FrontService
from kolus.proxy_protocol import ProxyHeader, ProxyVersion, decode
from kolus.tunnel import End, Front, ListenerSettings, in_place_of, loop_of
from tests.conftest import require
from tests.net.balancers import KINDS, Balancer
from tests.net.conftest import PATIENT
from tests.net.tunnel_peers import LOOPBACK, Backend, Peer, backend, connected


class Told(Peer):
    """A server that is told its client, and answers when the client has asked.

    @ivar header: what the PROXY header said.
    @ivar asked: what came behind it.
    """

    header: ProxyHeader | None = None
    asked = b""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        decoded = decode(bytes(self.got))
        if decoded is not None:
            self.header, size = decoded
            self.asked = bytes(self.got[size:])
            if self.asked == b"question":
                self.transport.write(b"answer")


@asynccontextmanager
async def front(to: int, send: ProxyVersion, *, accept: bool) -> AsyncIterator[int]:
    """A front before a port, which sends headers.

    @return: its own port.
    """
    loop = loop_of(reactor)
    pool = Pool(
        reactor,
        End,
        policy=Policy(**PATIENT),
        make_endpoint=lambda _, backend: in_place_of(loop, backend.connector(reactor)),
    )
    its = Front(
        reactor,  # type: ignore[arg-type]
        lambda ident: pool.connect(ident, f"tcp:127.0.0.1:{to}"),
        settings=ListenerSettings(accept_proxy_from=("127.0.0.0/8",) if accept else ()),
        send_proxy=send,
        loop=loop,
    )
    service = FrontService(its, [(LOOPBACK, serverFromString(reactor, LOOPBACK))], grace=0)
    service.startService()
    try:
        yield service.ports[0].getHost().port
    finally:
        await service.stopService()
        await pool.close(0)


async def ask(port: int, told: Backend) -> Told:
    """Ask through all balancers; the server has been told whom."""
    async with connected(reactor, port) as client:
        client.send(b"question")
        await client.has(len(b"answer"))
        assert bytes(client.got) == b"answer"
        (server,) = told.peers
        assert isinstance(server, Told)
        host = client.transport.getHost()
        assert server.header is not None
        assert server.header.source == (host.host, host.port)
    return server


def binary_of(kind: str) -> str:
    if kind == "nginx":
        if not Path("/usr/lib/nginx/modules/ngx_stream_module.so").exists():
            require("nginx's stream module", "libnginx-mod-stream")
        return require("nginx", "nginx-light")
    return require("haproxy", "haproxy")


@pytest.fixture(params=KINDS)
def balancer(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The kind of a balancer, and its binary. A test that skips must not be asynchronous."""
    return request.param, binary_of(request.param)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_balancers_header_is_read_and_passed_on(
    balancer: tuple[str, str], tmp_path: Path
) -> None:
    async with (
        backend(reactor, Told) as told,
        front(told.port.getHost().port, "v2", accept=True) as port,
        Balancer(reactor, *balancer, tmp_path, port) as its,
    ):
        server = await ask(its.port, told)
        assert server.header is not None
        assert server.header.destination == ("127.0.0.1", its.port)


@pytest.mark.long
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest_twisted.ensureDeferred
async def test_a_balancer_reads_the_header_of_the_front(
    version: ProxyVersion, balancer: tuple[str, str], tmp_path: Path
) -> None:
    async with (
        backend(reactor, Told) as told,
        Balancer(reactor, *balancer, tmp_path, told.port.getHost().port, accepts=True) as its,
        front(its.port, version, accept=False) as port,
    ):
        await ask(port, told)

"""HTTP through proxies: each host has a tunnel of its own, by C{CONNECT}."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, PrivateCertificate, trustRootFromCertificates
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, readBody
from twisted.web.error import SchemeNotSupported

from kolus import ConnectFailed
from kolus.clients.http import HTTPPool, ProxyTunnels, TunnelRefused
from tests.clients.http_servers import Counting, start
from tests.net.asking import until

MakeServer = Callable[..., Any]
MakePool = Callable[..., HTTPPool]

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")  # Twisted


class Pipe(Protocol):
    """Writes what comes to another connection."""

    other: Any

    def dataReceived(self, data: bytes) -> None:
        self.other.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.other.transport.loseConnection()


class Proxy(Protocol):
    """Knows C{CONNECT}, to any port of this machine."""

    factory: Any

    def __init__(self) -> None:
        self._head = b""
        self._far: Pipe | None = None

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        if self._far is not None:
            self._far.transport.write(data)  # type: ignore[union-attr]
            return
        self._head += data
        if not self._head.endswith(b"\r\n\r\n"):
            return
        self.factory.asked.append(self._head)
        answer = self.factory.answer
        if not answer.startswith(b"HTTP/1.1 200"):
            transport.write(answer)
            if answer.endswith(b"\r\n\r\n") or not answer:
                transport.loseConnection()
            return
        port = int(self._head.split()[1].rpartition(b":")[2])
        self._far = Pipe()
        self._far.other = self
        connecting = connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), self._far)
        connecting.addCallback(lambda _: transport.write(answer))

    def connectionLost(self, reason: Any = None) -> None:
        if self._far is not None and self._far.transport is not None:
            self._far.transport.loseConnection()


@pytest.fixture
def proxy() -> Iterator[Any]:
    factory: Any = Factory.forProtocol(Proxy)
    factory.answer, factory.asked = b"HTTP/1.1 200 Connection established\r\n\r\n", []
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    factory.where = f"tcp:127.0.0.1:{port.getHost().port}"
    yield factory
    pytest_twisted.blockon(port.stopListening())


@pytest_twisted.ensureDeferred
async def test_https_through_a_proxy_is_verified_pooled_and_hidden_from_the_proxy(
    proxy: Any, make_http_pool: MakePool
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    certificate = issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes()
    server = Counting()
    options = PrivateCertificate.loadPEM(certificate).options()
    port = reactor.listenSSL(0, server, options, interface="127.0.0.1")
    root = trustRootFromCertificates([Certificate.loadPEM(authority.cert_pem.bytes())])
    tunnels = ProxyTunnels(
        reactor,
        proxy.where,
        credentials=("me", "secret"),
        contextFactory=BrowserLikePolicyForHTTPS(root),
    )
    pool = make_http_pool(limit=2)
    agent = Agent.usingEndpointFactory(reactor, tunnels, pool)
    number = port.getHost().port

    async def page() -> bytes:
        url = b"https://localhost:%d/page" % number
        return await readBody(await agent.request(b"GET", url))

    assert set(await gatherResults([start(page()) for _ in range(10)])) == {b"page of GET "}
    assert server.connections == len(proxy.asked) <= 2
    assert proxy.asked[0] == (
        b"CONNECT localhost:%d HTTP/1.1\r\nHost: localhost:%d\r\n"
        b"Proxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n" % (number, number)
    )
    distrusting = Agent.usingEndpointFactory(
        reactor, ProxyTunnels(reactor, proxy.where), make_http_pool()
    )
    with pytest.raises(ConnectFailed, match="certificate"):
        await distrusting.request(b"GET", b"https://localhost:%d/page" % number)
    await pool.close(0)
    await until(
        reactor, lambda: not any("TLSTransport" in repr(each) for each in reactor.getReaders())
    )
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_plain_http_through_a_tunnel_has_a_limit_for_each_host(
    proxy: Any, make_server: MakeServer, make_http_pool: MakePool
) -> None:
    one, two = make_server(), make_server()
    agent = Agent.usingEndpointFactory(
        reactor, ProxyTunnels(reactor, proxy.where), make_http_pool(limit=1)
    )
    for _ in range(3):
        for server in (one, two):
            response = await agent.request(b"GET", server.url + b"/page")
            assert await readBody(response) == b"page of GET "
    assert one.connections == two.connections == 1
    assert len(proxy.asked) == 2


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 Proxy"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "502 Bad"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "SSH-2.0"),
        (b"\r\n\r\n", "the proxy answered"),
        (b"x" * 20_000, "xxx"),
        (b"", "the proxy ended"),
    ],
)
async def test_a_proxy_that_opens_no_tunnel_is_told_with_its_answer(
    proxy: Any, make_http_pool: MakePool, answer: bytes, told: str
) -> None:
    proxy.answer = answer
    pool = make_http_pool()
    agent = Agent.usingEndpointFactory(reactor, ProxyTunnels(reactor, proxy.where), pool)
    with pytest.raises(ConnectFailed) as caught:
        await agent.request(b"GET", b"http://host.test/")
    assert isinstance(caught.value.__cause__, TunnelRefused)
    assert told in str(caught.value)
    assert "no tunnel to host.test:80" in str(caught.value)


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_does_not_answer_is_given_up_at_the_time_limit_of_a_connect(
    proxy: Any, make_http_pool: MakePool
) -> None:
    proxy.answer = b"HTTP/1.1 20"
    pool = make_http_pool(connect_timeout=0.2)
    agent = Agent.usingEndpointFactory(reactor, ProxyTunnels(reactor, proxy.where), pool)
    with pytest.raises(ConnectFailed, match=r"0\.2 s"):
        await agent.request(b"GET", b"https://host.test/")


def test_another_scheme_is_refused() -> None:
    from twisted.web.client import URI

    tunnels = ProxyTunnels(reactor, "tcp:127.0.0.1:1")
    with pytest.raises(SchemeNotSupported):
        tunnels.endpointForURI(URI.fromBytes(b"gopher://host.test/"))
    assert "[::1]:443" in repr(tunnels.endpointForURI(URI.fromBytes(b"http://[::1]:443/")))

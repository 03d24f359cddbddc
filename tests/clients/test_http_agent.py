"""What C{Agent} and its users expect of a pool, besides what C{HTTPPool} adds to that.

C{twisted.web.test.test_agent} has the promises of C{HTTPConnectionPool}. Those that make no sense
here: that what is put back is in order (only the pool puts back), that the oldest makes way when
more come home than may stay (the limit bounds how many there are), that what is cached is wrapped
(each request decides whether it is repeated), and what C{Agent} does before it asks its pool.
"""

from __future__ import annotations

import gzip
import socket
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.web.client import (
    Agent,
    ContentDecoderAgent,
    GzipDecoder,
    RedirectAgent,
    RequestGenerationFailed,
    ResponseFailed,
    ResponseNeverReceived,
    readBody,
)
from twisted.web.error import SchemeNotSupported
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from twisted.web.server import Site
from zope.interface import implementer

from kolus import ConnectFailed
from kolus.clients.http import HTTPPool
from tests.clients.http_servers import OK, Page, get, idle, nothing_is_leased, start
from tests.net.asking import until
from tests.net.servers import free_port

MakeServer = Callable[..., Any]
MakePool = Callable[..., HTTPPool]


@implementer(IAgentEndpointFactory)
class Endpoints:
    """Gives one endpoint for all."""

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint

    def endpointForURI(self, uri: Any) -> Any:
        return self._endpoint


@implementer(IStreamClientEndpoint)
class Never:
    """An endpoint that never connects."""

    def __init__(self) -> None:
        self.attempts: list[Deferred[Any]] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        self.attempts.append(Deferred())
        return self.attempts[-1]


@pytest_twisted.ensureDeferred
async def test_each_host_and_port_has_a_limit_of_its_own(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    one, two = make_server(), make_server()
    pool = make_http_pool(limit=1)
    await Agent(reactor, pool=pool).request(b"GET", one.url + b"/half")
    assert await get(pool, two.url + b"/page")
    assert one.connections == two.connections == 1


@pytest_twisted.ensureDeferred
async def test_a_pool_that_is_not_persistent_closes_after_each_response(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server([OK, OK]), make_http_pool(limit=1)
    pool.persistent = False
    for _ in range(2):
        assert await get(pool, server.url) == b"ok"
    assert all(b"\r\nConnection: close" in each for each in server.requests)
    assert pool.pool.counters().connects == 2


@pytest_twisted.ensureDeferred
async def test_to_close_what_is_idle_waits_until_it_is_closed(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server(), make_http_pool(limit=3)
    await gatherResults([start(get(pool, server.url + b"/page")) for _ in range(3)])
    await Agent(reactor, pool=pool).request(b"GET", server.url + b"/half")
    await pool.closeCachedConnections()
    assert len(pool._connected) == 1
    assert idle(pool) == [0]
    assert pool.status()[0].leased == 1
    next(iter(pool._connected)).transport.abortConnection()
    await until(reactor, lambda: nothing_is_leased(pool))
    await pool.closeCachedConnections()  # nothing is idle


@pytest_twisted.ensureDeferred
async def test_a_request_that_is_cancelled_while_it_connects_ends_at_once(
    make_http_pool: MakePool,
) -> None:
    never, pool = Never(), make_http_pool(limit=1, connect_timeout=None)
    agent = Agent.usingEndpointFactory(reactor, Endpoints(never), pool)
    asked = agent.request(b"GET", b"http://host.test/")
    asked.cancel()
    with pytest.raises(CancelledError):
        await asked
    assert pool.status()[0].waiting == 0
    await pool.close(0)
    assert all(each.called for each in never.attempts)  # they were cancelled


@pytest_twisted.ensureDeferred
async def test_endpoints_of_ones_own_are_used(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server(), make_http_pool()
    port = int(server.url.rpartition(b":")[2])
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    agent = Agent.usingEndpointFactory(reactor, Endpoints(endpoint), pool)
    response = await agent.request(b"GET", b"http://nowhere.test/page")
    assert await readBody(response) == b"page of GET "
    assert response.request.absoluteURI == b"http://nowhere.test/page"


@pytest_twisted.ensureDeferred
async def test_an_agent_of_the_pool_is_one_like_any_other(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    one, two = make_server(), make_server()
    pool = make_http_pool(limit=1)
    agent = pool.agent()
    for url in (one.url, two.url, one.url):
        response = await RedirectAgent(agent).request(b"GET", url + b"/to")
        assert await readBody(response) == b"page of GET "
    assert one.connections == two.connections == 1
    with pytest.raises(SchemeNotSupported):
        await agent.request(b"GET", b"gopher://host.test/")


@pytest_twisted.ensureDeferred
async def test_a_url_that_comes_again_is_parsed_once_and_asks_for_the_same(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server = make_server([OK] * 10)
    agent = make_http_pool(limit=1).agent()
    paths = (b"/a?b=c;d", b"/a?b=d", b"", b"/;x?y#z", b"/" + 2000 * b"l")
    for path in paths + paths:
        response = await agent.request(b"GET", server.url + path + b" ")
        await readBody(response)
        assert response.request.absoluteURI == server.url + path
    sent = [each.split()[1] for each in server.requests]
    assert sent == [b"/a?b=c;d", b"/a?b=d", b"/", b"/;x?y", b"/" + 2000 * b"l"] * 2
    assert agent._parse.cache_info()[:2] == (4, 4)  # the longest is not remembered
    for wrong in (b"http://host.test/ a", b"/no/host"):
        with pytest.raises((ValueError, SchemeNotSupported)):
            await agent.request(b"GET", wrong)


class Late(Protocol):
    """Redirects, and sends the body of that later."""

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        if data.startswith(b"GET /to "):
            transport.write(
                b"HTTP/1.1 302 Found\r\nLocation: /page\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            reactor.callLater(0.05, transport.write, b"5\r\nmoved\r\n0\r\n\r\n")
        else:
            transport.write(OK)


@pytest_twisted.ensureDeferred
async def test_the_body_of_a_redirect_that_nobody_reads_holds_no_connection(
    make_http_pool: MakePool,
) -> None:
    port = reactor.listenTCP(0, Factory.forProtocol(Late), interface="127.0.0.1")
    pool = make_http_pool(limit=1)
    url = b"http://127.0.0.1:%d/to" % port.getHost().port
    response = await RedirectAgent(pool.agent()).request(b"GET", url)
    assert await readBody(response) == b"ok"
    assert await readBody(response.previousResponse) == b"moved"
    assert pool.pool.counters().connects == 1
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_the_bind_address_of_the_agent_is_used(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server([OK]), make_http_pool()
    agent = Agent(reactor, pool=pool, bindAddress=("127.0.0.5", 0))
    response = await agent.request(b"GET", server.url)
    assert await readBody(response) == b"ok"
    assert server.connected[0].transport.getPeer().host == "127.0.0.5"


@pytest_twisted.ensureDeferred
async def test_addresses_of_ip_version_6_and_names_are_hosts(make_http_pool: MakePool) -> None:
    pool = make_http_pool()
    for interface, host in (("::1", b"[::1]"), ("127.0.0.1", b"localhost")):
        port = reactor.listenTCP(0, Site(Page()), interface=interface)
        url = b"http://%s:%d/page" % (host, port.getHost().port)
        assert await get(pool, url) == b"page of GET "
        await pool.closeCachedConnections()
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_asked_for_costs_no_lease(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server(), make_http_pool(limit=1)
    agent = Agent(reactor, pool=pool)
    two_hosts = Headers({b"Host": [b"one", b"two"]})
    for _ in range(3):
        with pytest.raises((ValueError, SchemeNotSupported)):
            await agent.request(b"GET", b"gopher://host.test/")
        with pytest.raises(ValueError, match="method"):
            await agent.request(b"G T", server.url)
        with pytest.raises(TypeError):
            agent.request("GET", server.url)
        with pytest.raises(RequestGenerationFailed):
            await agent.request(b"GET", server.url, two_hosts)
        assert await get(pool, server.url + b"/page")
    assert nothing_is_leased(pool)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE"])
async def test_each_method_that_may_be_repeated_is(
    make_server: MakeServer, make_http_pool: MakePool, method: bytes
) -> None:
    empty = b"HTTP/1.1 204 None\r\n\r\n"
    server, pool = make_server([empty, None, empty]), make_http_pool(limit=1)
    for _ in range(2):
        assert await get(pool, server.url, method) == b""
    assert [each.split()[0] for each in server.requests] == [method] * 3


@pytest_twisted.ensureDeferred
async def test_a_request_is_not_repeated_on_a_connection_that_was_new(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server([None, OK]), make_http_pool(limit=1)
    with pytest.raises(ResponseNeverReceived):
        await get(pool, server.url)
    assert len(server.requests) == 1


@pytest_twisted.ensureDeferred
async def test_a_request_is_not_repeated_after_the_first_byte_of_a_response(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    half = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Le"
    server, pool = make_server([OK, half, OK]), make_http_pool(limit=1)
    assert await get(pool, server.url) == b"ok"
    with pytest.raises(ResponseFailed):
        await get(pool, server.url)
    assert len(server.requests) == 2
    assert await get(pool, server.url) == b"ok"


@pytest_twisted.ensureDeferred
async def test_the_reason_of_a_refused_connect_is_told(make_http_pool: MakePool) -> None:
    pool = make_http_pool()
    with pytest.raises(ConnectFailed) as caught:
        await get(pool, b"http://127.0.0.1:%d/" % free_port())
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


@pytest_twisted.ensureDeferred
async def test_a_redirect_to_another_host_under_a_limit_of_one_over_all_is_followed(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    there = make_server()
    to = b"HTTP/1.1 302 There\r\nLocation: %s/page\r\nContent-Length: 2\r\n\r\nto" % there.url
    here, pool = make_server([to]), make_http_pool(over_all=1)
    response = await RedirectAgent(Agent(reactor, pool=pool)).request(b"GET", here.url)
    assert await readBody(response) == b"page of GET "
    assert response.previousResponse.code == 302


@pytest_twisted.ensureDeferred
async def test_a_decoded_body_brings_its_connection_home(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    packed = gzip.compress(b"unpacked" * 1000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    server, pool = make_server([head % len(packed) + packed] * 3), make_http_pool(limit=1)
    agent = ContentDecoderAgent(Agent(reactor, pool=pool), [(b"gzip", GzipDecoder)])
    for _ in range(3):
        response = await agent.request(b"GET", server.url)
        assert await readBody(response) == b"unpacked" * 1000
    assert pool.pool.counters().connects == 1


@pytest_twisted.ensureDeferred
async def test_no_socket_is_left_when_the_pool_is_closed(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server([OK]), make_http_pool()
    assert await get(pool, server.url) == b"ok"
    its: socket.socket = next(iter(pool._connected)).transport.getHandle()
    await pool.close()
    assert its.fileno() == -1
    assert not pool._connected

"""Bodies of requests and of responses, and where a response ends."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web._newclient import Request
from twisted.web.client import Agent, ResponseDone, ResponseFailed, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from kolus.clients.http import HTTPPool
from kolus.clients.http.exchange import Exchange
from kolus.testing import result_of
from tests.clients.http_servers import OK, get, idle, nothing_is_leased, start
from tests.net.asking import until
from tests.rigs.patience import PATIENCE

MakeServer = Callable[..., Any]
MakePool = Callable[..., HTTPPool]

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n"
    b"5;note=x\r\nhello\r\n1\r\n!\r\n0\r\nSum: 6\r\nMore: x\r\n\r\n"
)
UNCHANGED = b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 1000\r\n\r\n'
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
OLD = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n%b\r\nok"

ENDS = {
    "chunks, extensions and trailers": (CHUNKED, b"hello!"),
    "304 with the length of what is not sent": (UNCHANGED, b""),
    "204": (EMPTY, b""),
    "a length of 0": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    "hints before": (b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Hints\r\n\r\n" + OK, b"ok"),
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("what", ENDS)
@pytest.mark.parametrize("in_pieces", [False, True])
async def test_a_response_ends_where_it_says_and_the_connection_serves_on(
    make_server: MakeServer, make_http_pool: MakePool, what: str, in_pieces: bool
) -> None:
    answer, body = ENDS[what]
    server, pool = make_server([b"" if in_pieces else answer, OK]), make_http_pool(limit=1)
    asked = start(get(pool, server.url))
    if in_pieces:
        await until(reactor, lambda: server.requests)
        for at in range(0, len(answer), 7):
            server.connected[0].transport.write(answer[at : at + 7])
            await deferLater(reactor, 0)
    assert await asked == body
    assert await get(pool, server.url) == b"ok"
    assert pool.pool.counters().connects == 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("answer", "connects"),
    [
        (OLD % b"Connection: keep-alive\r\n", 1),
        (OLD % b"Connection: Keep-Alive\r\n", 1),
        (OLD % b"", 2),
        (OK.replace(b"\r\n\r\n", b"\r\nConnection: Close\r\n\r\n"), 2),
        (OK.replace(b"\r\n\r\n", b"\r\nConnection: TE, close\r\n\r\n"), 2),
        (OK.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"), 1),
    ],
)
async def test_a_connection_that_the_server_is_about_to_close_is_not_used_again(
    make_http_pool: MakePool, answer: bytes, connects: int
) -> None:
    class Server(Protocol):
        """Never closes: only what it says tells the client."""

        def dataReceived(self, data: bytes) -> None:
            transport: Any = self.transport
            transport.write(answer)

    port = reactor.listenTCP(0, Factory.forProtocol(Server), interface="127.0.0.1")
    pool = make_http_pool(limit=1)
    for _ in range(2):
        assert await get(pool, b"http://127.0.0.1:%d/" % port.getHost().port) == b"ok"
    assert pool.pool.counters().connects == connects
    assert idle(pool) == [2 - connects]
    await pool.close(0)
    await port.stopListening()


class Endless(Protocol):
    """Answers with a body of a size, as fast as it is taken."""

    size = 100_000_000

    def connectionMade(self) -> None:
        self.sent = 0
        self.factory.connected.append(self)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.size)
        transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        transport: Any = self.transport
        transport.write(b"x" * 100_000)
        self.sent += 100_000
        if self.sent == self.size:
            transport.unregisterProducer()

    def stopProducing(self) -> None: ...


class Slow(Protocol):
    """Reads a body, and stops in between."""

    def __init__(self) -> None:
        self.came = 0
        self.ended: Deferred[list[Any]] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        first, self.came = self.came == 0, self.came + len(data)
        if first:
            transport: Any = self.transport
            transport.pauseProducing()

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback([reason])


class Watched(StringTransport):
    """Notes each time when it is paused or resumed."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []

    def pauseProducing(self) -> None:
        self.noted.append("paused")
        super().pauseProducing()

    def resumeProducing(self) -> None:
        if self.producerState == "paused":
            self.noted.append("resumed")
        super().resumeProducing()


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class InMemory:
    """Connects all to one transport in memory."""

    def __init__(self) -> None:
        self.transport = Watched()

    def endpointForURI(self, uri: Any) -> Any:
        return self

    def connect(self, factory: Any) -> Any:
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        return succeed(self.protocol)


@pytest_twisted.ensureDeferred
async def test_the_server_is_paused_only_while_a_part_of_a_body_has_no_reader(
    make_http_pool: MakePool,
) -> None:
    there, pool = InMemory(), make_http_pool(limit=1)
    agent, noted = Agent.usingEndpointFactory(reactor, there, pool), there.transport.noted
    head, many = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", b"m" * 70_000
    long_head = head.replace(b"4", b"70001")

    asked = agent.request(b"GET", b"http://host.test/")
    there.protocol.dataReceived(head + b"body")  # the whole, before anybody reads
    assert await readBody(await asked) == b"body"
    assert noted == []

    asked = agent.request(b"GET", b"http://host.test/").addCallback(readBody)
    there.protocol.dataReceived(head + b"bo")  # a part, which somebody reads at once
    assert noted == []
    there.protocol.dataReceived(b"dy")
    assert await asked == b"body"

    asked = agent.request(b"GET", b"http://host.test/")
    there.protocol.dataReceived(head + b"bo")  # a part, which nobody reads, but it is small
    there.protocol.dataReceived(b"dy")
    assert idle(pool) == [1]
    assert await readBody(await asked) == b"body"
    assert noted == []

    asked = agent.request(b"GET", b"http://host.test/")
    there.protocol.dataReceived(long_head + many)
    assert noted == ["paused"]
    body = readBody(await asked)
    assert noted == ["paused", "resumed"]
    there.protocol.dataReceived(b"m")
    assert await body == many + b"m"
    assert idle(pool) == [1]

    asked, reader = agent.request(b"GET", b"http://host.test/"), Slow()
    there.protocol.dataReceived(head)
    (await asked).deliverBody(reader)  # it pauses at the first byte
    there.protocol.dataReceived(b"b")
    assert noted[2:] == ["paused"]
    reader.transport.resumeProducing()
    there.protocol.dataReceived(b"ody")
    assert (await reader.ended)[0].check(ResponseDone)
    assert noted[2:] == ["paused", "resumed"]
    there.protocol.connectionLost(Failure(ConnectionDone()))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("resumes", [True, False])
async def test_a_body_larger_than_memory_waits_for_its_reader(
    make_http_pool: MakePool, resumes: bool
) -> None:
    factory: Any = Factory.forProtocol(Endless)
    factory.connected = []
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    pool = make_http_pool(limit=1, body_timeout=PATIENCE if resumes else 0.3)
    response = await Agent(reactor, pool=pool).request(
        b"GET", b"http://127.0.0.1:%d/" % port.getHost().port
    )
    reader = Slow()
    response.deliverBody(reader)
    await until(reactor, lambda: reader.came)
    (server,) = factory.connected
    sent = -1
    while sent < server.sent:  # until the buffers on the way are full
        sent = server.sent
        await deferLater(reactor, 0.05)
    assert reader.came < 1_000_000
    assert server.sent < 50_000_000
    if resumes:
        reader.transport.resumeProducing()  # type: ignore[union-attr]
        assert (await reader.ended)[0].check(ResponseDone)
        assert reader.came == server.size
        assert idle(pool) == [1]
    else:
        assert (await reader.ended)[0].check(ResponseFailed)
        await until(reactor, lambda: nothing_is_leased(pool))
    await pool.close(0)
    await port.stopListening()
    await until(reactor, lambda: server.transport is None or not server.transport.connected)


class Upload:
    """A body that the test writes."""

    length = 1000

    def __init__(self) -> None:
        self.stopped = False
        self.ended: Deferred[None] = Deferred()

    def startProducing(self, consumer: Any) -> Deferred[None]:
        self.write = consumer.write
        return self.ended

    def pauseProducing(self) -> None: ...
    def resumeProducing(self) -> None: ...
    def stopProducing(self) -> None:
        self.stopped = True


@pytest_twisted.ensureDeferred
async def test_a_body_that_fails_midway_costs_its_connection_and_tells_why(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool, upload = make_server([b"", OK]), make_http_pool(limit=1), Upload()
    asked = start(get(pool, server.url, b"PUT", upload))
    await until(reactor, lambda: server.requests)
    upload.write(b"x" * 500)
    upload.ended.errback(OSError("the disk is gone"))
    with pytest.raises(Exception, match="disk is gone"):
        await asked
    assert await get(pool, server.url) == b"ok"
    assert nothing_is_leased(pool)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", ["finishes", "fails", "cancelled"])
async def test_an_answer_before_the_end_of_the_upload_is_an_answer(
    make_server: MakeServer, make_http_pool: MakePool, how: str, logged_failures: Any
) -> None:
    refused = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"
    server, pool, upload = make_server([refused, OK]), make_http_pool(limit=1), Upload()
    assert await get(pool, server.url, b"PUT", upload) == b"no"
    if how == "finishes":
        upload.write(b"x" * 1000)
        upload.ended.callback(None)
    elif how == "fails":
        upload.ended.errback(OSError("nobody takes it"))
    assert await get(pool, server.url) == b"ok"
    assert pool.pool.counters().connects == 2
    logged_failures.flush(OSError)  # Twisted logs it


def exchange_for(clock: Clock, upload: Any = None) -> tuple[Exchange, StringTransport, Any]:
    """A request on a connection, and what it is answered with; its body has 10 s."""
    exchange, transport = Exchange(clock, 10.0, set()), StringTransport()
    exchange.makeConnection(transport)
    headers = Headers({b"Host": [b"host.test"]})
    request: Any = Request(b"PUT", b"/", headers, upload)  # type: ignore[no-untyped-call]
    lease: Any = SimpleNamespace(held=False)
    return exchange, transport, exchange.exchange(lease, request)


def test_a_body_that_nobody_reads_ends_after_the_time_however_slowly_it_comes() -> None:
    clock = Clock()
    exchange, transport, _ = exchange_for(clock)
    exchange.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(9):
        clock.advance(1)
        exchange.dataReceived(b"x")
    assert not transport.disconnecting
    clock.advance(1)
    assert transport.disconnecting


def test_a_body_that_is_read_may_come_as_slowly_as_it_will() -> None:
    clock = Clock()
    exchange, transport, asked = exchange_for(clock)
    exchange.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
    clock.advance(9)
    body = readBody(result_of(asked))  # the time begins with its reader anew
    for _ in range(4):
        clock.advance(9)
        assert not transport.disconnecting
        exchange.dataReceived(b"x")
    assert result_of(body) == b"xxxx"


def test_the_time_for_a_body_does_not_run_while_the_request_is_sent() -> None:
    clock, upload = Clock(), Upload()
    exchange, transport, asked = exchange_for(clock, upload)
    exchange.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    for _ in range(5):
        clock.advance(5.5)
    upload.write(b"x" * 1000)
    upload.ended.callback(None)
    clock.advance(5.5)  # the time that had begun is over
    assert not transport.disconnecting
    exchange.dataReceived(b"ok")
    assert result_of(readBody(result_of(asked))) == b"ok"


def test_the_time_for_a_body_is_whole_when_the_request_has_been_sent() -> None:
    clock, upload = Clock(), Upload()
    exchange, transport, asked = exchange_for(clock, upload)
    exchange.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    clock.advance(9.9)
    upload.write(b"x" * 1000)
    upload.ended.callback(None)
    clock.advance(9.9)
    assert not transport.disconnecting
    assert result_of(asked).code == 200
    clock.advance(10)
    assert transport.disconnecting


@pytest_twisted.ensureDeferred
async def test_the_time_for_a_body_runs_when_the_request_has_been_sent(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    server, upload = make_server([begun]), Upload()
    pool = make_http_pool(limit=1, body_timeout=0.1)
    asked = start(get(pool, server.url, b"PUT", upload))
    await until(reactor, lambda: server.requests)
    await deferLater(reactor, 0.15)
    upload.write(b"x" * 1000)
    upload.ended.callback(None)
    with pytest.raises(Exception, match=r"BodyTimeout|nothing of the body"):
        await asked
    await until(reactor, lambda: nothing_is_leased(pool))


@pytest_twisted.ensureDeferred
async def test_an_answer_that_needs_no_upload_is_given_although_one_was_expected(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    from twisted.web.http_headers import Headers

    failed = b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
    server, pool, upload = make_server([failed, OK]), make_http_pool(limit=1), Upload()
    expects = Headers({b"Expect": [b"100-continue"]})
    response = await Agent(reactor, pool=pool).request(b"PUT", server.url, expects, upload)
    assert response.code == 417
    assert await readBody(response) == b"no"
    assert await get(pool, server.url) == b"ok"
    assert nothing_is_leased(pool)

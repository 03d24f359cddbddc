"""Requests with C{Expect: 100-continue}: their body waits until the server wants it."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, formatEvent
from twisted.web._newclient import RequestTransmissionFailed
from twisted.web.client import FileBodyProducer, RequestGenerationFailed, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH

from kolus.clients.http import HTTPPool
from kolus.clients.http.held_body import HeldBody
from tests.clients.conftest import Nginx
from tests.clients.http_servers import OK, idle, nothing_is_leased
from tests.net.asking import until

MakePool = Callable[..., HTTPPool]

EXPECT = Headers({"Expect": ["100-Continue"]})
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
FAILED = b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 4\r\n\r\n"
BODY = b"b" * 50_000


class Server(Protocol):
    """Says what its factory C{says} when the headers have come, and OK when the body has."""

    factory: Any
    transport: Any

    def connectionMade(self) -> None:
        self.factory.connections.append(self)
        self.came = b""
        self.lost = False

    @property
    def body(self) -> bytes:
        return self.came.partition(b"\r\n\r\n")[2]

    def dataReceived(self, data: bytes) -> None:
        is_first = not self.came
        self.came += data
        if is_first and b"Expect" in self.came:
            self.transport.write(self.factory.says)
        if self.body == BODY or self.body.endswith(b"\r\n0\r\n\r\n"):
            self.factory.bodies.append(self.body)
            self.came = b""
            self.transport.write(OK)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True


@pytest_twisted.async_yield_fixture
async def server() -> Any:
    factory: Any = Factory.forProtocol(Server)
    factory.connections, factory.bodies, factory.says = [], [], b""
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    factory.url = b"http://127.0.0.1:%d/" % port.getHost().port
    yield factory
    await port.stopListening()


def body(length: Any = None) -> Any:
    made: Any = FileBodyProducer(BytesIO(BODY))
    if length is not None:
        made.length = length
    return made


def post(pool: HTTPPool, url: bytes, sent: Any, headers: Any = EXPECT) -> Deferred[Any]:
    return pool.agent().request(b"POST", url, headers, sent)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("length", [None, UNKNOWN_LENGTH])
async def test_a_body_is_sent_when_the_server_says_that_it_wants_it(
    server: Any, make_http_pool: MakePool, length: Any, log_events: list[LogEvent]
) -> None:
    pool = make_http_pool(limit=1)
    server.says = EARLY_HINTS
    asked = post(pool, server.url, body(length))
    await until(reactor, lambda: server.connections and server.connections[0].came)
    await deferLater(reactor, 0.05)
    (connection,) = server.connections
    assert connection.body == b""
    connection.transport.write(CONTINUE)
    assert await readBody(await asked) == b"ok"
    server.says = CONTINUE
    assert await readBody(await post(pool, server.url, body(length))) == b"ok"
    assert len(server.bodies) == 2
    assert len(server.connections) == 1, "the connection goes on"
    told = [formatEvent(each) for each in log_events]
    assert not [each for each in told if "100" in each], "it is no news that the server wants it"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("length", [None, UNKNOWN_LENGTH])
@pytest.mark.parametrize(("answer", "code"), [(FAILED, 417), (OK[:-2], 200)])
async def test_an_answer_instead_of_100_spares_the_body(
    server: Any, make_http_pool: MakePool, answer: bytes, code: int, length: Any
) -> None:
    pool, sent = make_http_pool(limit=1), body(length)
    server.says = answer
    response = await post(pool, server.url, sent)
    assert response.code == code
    (first,) = server.connections
    first.transport.write(b"fail" if code == 417 else b"ok")
    assert await readBody(response) in (b"fail", b"ok")
    await until(reactor, lambda: first.lost)
    assert first.body == b""
    # Not begun, it can be sent by another request, on another connection.
    assert await readBody(await post(pool, server.url, sent, None)) == b"ok"
    assert len(server.connections) == 2
    assert nothing_is_leased(pool)


@pytest_twisted.ensureDeferred
async def test_a_whole_answer_instead_of_100_spares_the_body(
    server: Any, make_http_pool: MakePool
) -> None:
    pool = make_http_pool(limit=1)
    server.says = FAILED + b"fail"
    response = await post(pool, server.url, body())
    assert (response.code, await readBody(response)) == (417, b"fail")
    await until(reactor, lambda: server.connections[0].lost)
    assert server.bodies == []


@pytest_twisted.ensureDeferred
@pytest.mark.long
async def test_a_body_is_sent_in_the_end_to_a_server_that_says_nothing(
    server: Any, make_http_pool: MakePool
) -> None:
    pool = make_http_pool(limit=1)
    assert await readBody(await post(pool, server.url, body())) == b"ok"
    assert server.bodies == [BODY]
    assert idle(pool) == [1]


class Noting:
    """A body that notes what it is told."""

    length = 4

    def __init__(self) -> None:
        self.told: list[str] = []

    def startProducing(self, consumer: Any) -> Deferred[None]:
        self.told.append("start")
        return succeed(consumer.write(b"body"))

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


def test_a_held_body_goes_after_a_second_and_is_told_everything_from_then_on() -> None:
    clock, there, inner = Clock(), StringTransport(), Noting()
    held = HeldBody(clock, inner)
    done = held.startProducing(there)
    for tell in (held.pauseProducing, held.resumeProducing):
        tell()
    clock.advance(0.9)
    assert (there.value(), held.is_held, inner.told) == (b"", True, [])
    clock.advance(0.1)
    assert (there.value(), held.is_held, done.called) == (b"body", False, True)
    for tell in (held.pauseProducing, held.resumeProducing, held.stopProducing):
        tell()
    assert inner.told == ["start", "pause", "resume", "stop"]
    assert not clock.getDelayedCalls()


def test_a_held_body_that_is_stopped_is_never_begun() -> None:
    clock, there, inner = Clock(), StringTransport(), Noting()
    held = HeldBody(clock, inner)
    held.startProducing(there)
    held.stopProducing()
    clock.advance(2.0)
    assert (there.value(), held.is_held, inner.told) == (b"", False, [])
    assert not clock.getDelayedCalls()


@pytest_twisted.ensureDeferred
async def test_a_request_whose_body_is_held_can_be_cancelled_or_lose_its_connection(
    server: Any, make_http_pool: MakePool
) -> None:
    pool = make_http_pool(limit=1)
    asked = post(pool, server.url, body())
    await until(reactor, lambda: server.connections and server.connections[0].came)
    asked.cancel()
    with pytest.raises(RequestGenerationFailed) as caught:
        await asked
    assert caught.value.reasons[0].check(CancelledError)
    asked = post(pool, server.url, body())
    await until(reactor, lambda: len(server.connections) == 2 and server.connections[1].came)
    server.connections[1].transport.abortConnection()
    with pytest.raises(RequestTransmissionFailed):
        await asked
    await until(reactor, lambda: nothing_is_leased(pool))  # and no timer is left


@pytest_twisted.ensureDeferred
@pytest.mark.long
async def test_nginx_is_sent_a_body_that_it_wants_and_none_that_is_too_long(
    nginx: Nginx, make_http_pool: MakePool
) -> None:
    pool = make_http_pool(limit=1)
    for _ in range(2):
        assert await readBody(await post(pool, nginx.url, body())) == b"a page"
    assert len(set(nginx.connections())) == 1
    sent = body()
    response = await post(pool, nginx.url + b"short", sent)
    assert response.code == 413
    await readBody(response)
    assert sent._inputFile.tell() == 0
    assert await readBody(await post(pool, nginx.url, body())) == b"a page"

"""HTTP servers that misbehave in every way, and callers that change their minds."""

from __future__ import annotations

import random
from collections.abc import Callable
from io import BytesIO
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, fail, gatherResults, succeed
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.web._newclient import ParseError, ResponseFailed
from twisted.web.client import Agent, FileBodyProducer, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH

from kolus.clients.http import HTTPPool
from tests.clients.http_servers import OK, get, nothing_is_leased, start
from tests.net.asking import until

MakeServer = Callable[..., Any]
MakePool = Callable[..., HTTPPool]

MALFORMED = {
    "a header without an end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 3000 + b"Connection: close\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "a length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
    "a chunk of no size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "nothing but an end": b"\r\n\r\n\r\nConnection: close",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nok",
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("what", MALFORMED)
async def test_a_malformed_response_costs_its_connection_and_nothing_else(
    make_server: MakeServer, make_http_pool: MakePool, what: str
) -> None:
    server = make_server([OK, MALFORMED[what], OK, OK])
    pool = make_http_pool(limit=1, body_timeout=0.5)
    assert await get(pool, server.url) == b"ok"
    with pytest.raises(Exception):  # noqa: B017, PT011 (each has its own, of Twisted)
        await get(pool, server.url)
    assert await get(pool, server.url) == b"ok"
    assert nothing_is_leased(pool)


@pytest_twisted.ensureDeferred
async def test_hints_before_a_response_are_skipped(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3
    server, pool = make_server([hints + OK, OK]), make_http_pool(limit=1)
    for _ in range(2):
        assert await get(pool, server.url) == b"ok"
    assert pool.pool.counters().connects == 1


@pytest_twisted.ensureDeferred
async def test_a_byte_that_comes_while_idle_costs_the_connection(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server([OK, OK]), make_http_pool(limit=1)
    assert await get(pool, server.url) == b"ok"
    server.connected[0].transport.write(b"HTTP/1.1 408 Request Time-out\r\n\r\n")
    await until(reactor, lambda: pool.pool.counters().closes == 1)
    assert await get(pool, server.url) == b"ok"


@pytest_twisted.ensureDeferred
async def test_a_reader_that_raises_harms_nobody_else(
    make_server: MakeServer, make_http_pool: MakePool, logged_failures: Any
) -> None:
    class Raises(Protocol):
        def dataReceived(self, data: bytes) -> None:
            raise ZeroDivisionError

    class RaisesAtTheEnd(Protocol):
        def connectionLost(self, reason: Any = None) -> None:
            raise ZeroDivisionError

    server, pool = make_server(), make_http_pool(limit=1)
    for reader in (Raises(), RaisesAtTheEnd()):
        response = await Agent(reactor, pool=pool).request(b"GET", server.url + b"/page")
        response.deliverBody(reader)
        assert await get(pool, server.url + b"/page") == b"page of GET "
    assert nothing_is_leased(pool)
    assert logged_failures.flush(ZeroDivisionError)


@pytest_twisted.ensureDeferred
async def test_a_request_whose_body_fails_costs_its_connection(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    class Fails:
        length = 1000

        def startProducing(self, consumer: Any) -> Deferred[None]:
            consumer.write(b"x" * 10)
            return fail(OSError("the disk is gone"))

        def pauseProducing(self) -> None: ...
        def resumeProducing(self) -> None: ...
        def stopProducing(self) -> None: ...

    class TooShort(Fails):
        def startProducing(self, consumer: Any) -> Deferred[None]:
            consumer.write(b"x" * 10)
            return succeed(None)

    server, pool = make_server(), make_http_pool(limit=1)
    for body in (Fails(), TooShort()):
        with pytest.raises(Exception):  # noqa: B017, PT011 (Twisted's own)
            await get(pool, server.url + b"/page", b"POST", body)
        assert await get(pool, server.url + b"/page") == b"page of GET "
    assert nothing_is_leased(pool)


@pytest_twisted.ensureDeferred
async def test_a_body_whose_reading_is_cancelled_closes_its_connection_at_once(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server(), make_http_pool(limit=1)
    for _ in range(3):
        response = await Agent(reactor, pool=pool).request(b"GET", server.url + b"/half")
        reading = readBody(response)
        reading.cancel()
        with pytest.raises(CancelledError):
            await reading
        assert await get(pool, server.url + b"/page") == b"page of GET "
    assert nothing_is_leased(pool)


class Moody(Protocol):
    """Answers each request with its path, or does one of many things wrong."""

    chance: random.Random

    def __init__(self) -> None:
        self._seen = b""

    def dataReceived(self, data: bytes) -> None:
        self._seen += data
        while b"\r\n\r\n" in self._seen:
            head, _, self._seen = self._seen.partition(b"\r\n\r\n")
            if head.startswith(b"POST"):
                self._seen = self._seen[4:]
            path = head.split()[1]
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path)
            self._answer(answer)

    def _answer(self, answer: bytes) -> None:
        transport: Any = self.transport
        mood = self.chance.random()
        if mood < 0.5:
            transport.write(answer)
        elif mood < 0.65:
            at = self.chance.randrange(len(answer))
            transport.write(answer[:at])
            reactor.callLater(0.001 * self.chance.random(), transport.write, answer[at:])
        elif mood < 0.7:
            transport.write(answer + b"!")
        elif mood < 0.75:
            transport.write(answer[: self.chance.randrange(len(answer))])
            transport.loseConnection()
        elif mood < 0.8:
            transport.write(answer)
            transport.loseConnection()
        elif mood < 0.85:
            transport.abortConnection()
        elif mood < 0.9:
            transport.write(answer.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"))
        elif mood < 0.95:
            transport.write(answer.replace(b"1.1", b"1.0"))
            transport.loseConnection()
        # else it never answers


async def one_call(pool: HTTPPool, url: bytes, chance: random.Random) -> bool:
    """Ask in one of many ways.

    @return: whether the right answer came.
    """
    method = chance.choice([b"GET", b"GET", b"POST"])
    body = FileBodyProducer(BytesIO(b"body")) if method == b"POST" else None
    agent = Agent(reactor, pool=pool)
    headers = Headers({b"Connection": [b"close"]}) if chance.random() < 0.1 else None

    async def ask() -> bytes:
        response = await agent.request(method, url, headers, body)
        if chance.random() < 0.1:
            return b""  # and the body is read by nobody
        return await readBody(response)

    asked = start(ask())
    asked.addTimeout(0.002 + chance.random() ** 2, reactor)
    try:
        answer: bytes = await asked
    except Exception:
        return False
    path = b"/" + url.rpartition(b"/")[2]
    assert answer in (b"", path), "it got the answer of another"
    return answer == path


@pytest.mark.long
@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("seed", range(3))
async def test_no_answer_is_anothers_and_no_lease_is_lost_whatever_happens(
    make_http_pool: MakePool, seed: int
) -> None:
    Moody.chance = chance = random.Random(seed)
    port = reactor.listenTCP(0, Factory.forProtocol(Moody), interface="127.0.0.1")
    address = port.getHost()
    pool = make_http_pool(limit=5, body_timeout=0.2, fail_fast=False)
    right: list[bool] = []

    async def caller(number: int) -> None:
        for turn in count():
            if turn >= 40 and sum(right) > 200:  # on a slow machine more calls take too long
                break
            url = b"http://127.0.0.1:%d/%d-%d" % (address.port, number, turn)
            right.append(await one_call(pool, url, chance))
            assert len(pool._connected) <= 5

    await gatherResults([start(caller(number)) for number in range(20)])
    await until(reactor, lambda: nothing_is_leased(pool))
    await pool.close(0)
    await until(reactor, lambda: not pool._connected)
    await port.stopListening()
    await deferLater(reactor, 0.01)  # for what the server still meant to write


@pytest_twisted.ensureDeferred
async def test_nonsense_that_comes_while_a_body_is_sent_fails_the_request(
    make_server: MakeServer, make_http_pool: MakePool
) -> None:
    server, pool = make_server([b"SSH-2.0-OpenSSH\r\n\r\n"]), make_http_pool(limit=1)
    endless: Any = SimpleNamespace(length=UNKNOWN_LENGTH, stops=0)
    endless.startProducing = lambda consumer: Deferred()
    endless.pauseProducing = endless.resumeProducing = lambda: None
    endless.stopProducing = lambda: setattr(endless, "stops", endless.stops + 1)
    with pytest.raises(ResponseFailed) as caught:
        await get(pool, server.url, b"POST", endless)
    assert caught.value.reasons[0].check(ParseError)
    assert endless.stops == 1
    assert nothing_is_leased(pool)

"""HTTP servers that do what they should, or not, and how the tests ask them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.web.client import Agent, readBody
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from kolus.clients.http import HTTPPool

__all__ = [
    *("OK", "Counting", "Heard", "Page", "Scripted"),
    *("get", "idle", "nothing_is_leased", "start"),
]


class Page(Resource):
    """Answers at once, later, by a redirect, or never to the end."""

    isLeaf = True

    def render(self, request: Any) -> Any:
        if request.path == b"/to":
            request.setResponseCode(302)
            request.setHeader(b"Location", b"/page")
            return b""
        if request.path == b"/close":
            request.setHeader(b"Connection", b"close")
        if request.path == b"/slow":
            from twisted.internet import reactor

            ending = reactor.callLater(0.05, self._end, request)
            request.notifyFinish().addErrback(lambda _: ending.cancel())
            return NOT_DONE_YET
        if request.path == b"/half":
            request.setHeader(b"Content-Length", b"100")
            request.write(b"half")
            return NOT_DONE_YET
        return b"page of " + request.method + b" " + request.content.read()

    def _end(self, request: Any) -> None:
        request.write(b"slow")
        request.finish()


class Counting(Site):
    """Counts the connections that clients make."""

    def __init__(self) -> None:
        super().__init__(Page())
        self.connections = 0

    def buildProtocol(self, addr: Any) -> Any:
        self.connections += 1
        return super().buildProtocol(addr)


class Scripted(Protocol):
    """Answers the nth request of all connections with the nth answer of a script.

    An answer is what is sent; C{None} closes instead, a Deferred waits.
    """

    factory: Any

    def __init__(self) -> None:
        self._seen = b""

    def connectionMade(self) -> None:
        self.factory.connected.append(self)

    def dataReceived(self, data: bytes) -> None:
        self._seen += data
        while b"\r\n\r\n" in self._seen:
            request, _, self._seen = self._seen.partition(b"\r\n\r\n")
            self.factory.requests.append(request)
            answer = self.factory.script.pop(0) if self.factory.script else b""
            transport: Any = self.transport
            if answer is None:
                transport.abortConnection()
            else:
                transport.write(answer)
                if b"onnection: close" in answer or answer.startswith(b"HTTP/1.0"):
                    transport.loseConnection()


class Heard(Protocol):
    """Keeps what it hears."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def get(pool: HTTPPool, url: bytes, method: bytes = b"GET", body: Any = None) -> bytes:
    from twisted.internet import reactor

    response = await Agent(reactor, pool=pool).request(method, url, None, body)
    return await readBody(response)


def start(steps: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(steps)


def idle(pool: HTTPPool) -> list[int]:
    return [status.idle for status in pool.status()]


def nothing_is_leased(pool: HTTPPool) -> bool:
    return all(status.leased == 0 for status in pool.status())

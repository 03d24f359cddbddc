"""A backend of the demo, which can die and be slow, and the protocol that asks it.

The state is in C{DemoBackend}: its port while it lives, its open connections, and its delay. The
demo's story changes them.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from kolus.backend import Backend

__all__ = ["ANSWER_TIMEOUT", "DemoBackend", "DemoClient"]

ANSWER_TIMEOUT = 30.0


class DemoClient(Protocol):
    """The client's side: sends bytes, and expects the same bytes back."""

    _question: bytes = b""
    _answer = b""
    _waiter: Deferred[None] | None = None

    def ask(self, question: bytes, clock: Any) -> Deferred[None]:
        """
        @return: fires when the same bytes have come back. Fails with C{ValueError} if other bytes
            have, with C{TimeoutError}, or with the reason of a lost connection.
        """
        if self._waiter is not None:
            return fail(RuntimeError("the last request has not been answered"))
        self._question = question
        self._answer = b""
        self._waiter = waiter = Deferred[None]()
        waiter.addTimeout(ANSWER_TIMEOUT, clock)
        assert self.transport is not None
        self.transport.write(question)
        return waiter

    def dataReceived(self, data: bytes) -> None:
        waiter = self._waiter
        if waiter is None:
            return
        self._answer += data
        if self._answer == self._question:
            self._waiter = None
            waiter.callback(None)
        elif not self._question.startswith(self._answer):
            self._waiter = None
            waiter.errback(ValueError("the answer differs from the request"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.errback(reason)


class _Echo(Protocol):
    """The backend's side: sends all bytes back after a delay."""

    def __init__(self, its: DemoBackend) -> None:
        self._its = its
        self._waiting: deque[bytes] = deque()
        self._calls: deque[IDelayedCall] = deque()

    def connectionMade(self) -> None:
        self._its.connected.add(self)

    def dataReceived(self, data: bytes) -> None:
        self._waiting.append(data)
        self._calls.append(self._its.clock.callLater(self._its.delay, self._answer))

    def _answer(self) -> None:
        self._calls.popleft()
        assert self.transport is not None
        self.transport.write(self._waiting.popleft())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._its.connected.discard(self)
        while self._calls:
            self._calls.pop().cancel()


class DemoBackend(Factory):
    """Listens on a port of its own, and answers each request with its own bytes.

    @ivar backend: what a pool connects to, once C{start} has fired.
    @ivar clock: the reactor.
    @ivar delay: seconds until it answers.
    @ivar connected: its open connections.
    """

    noisy = False
    backend: Backend

    def __init__(self, reactor: Any, name: str, delay: float) -> None:
        self.clock = reactor
        self.delay = delay
        self.connected: set[_Echo] = set()
        self._name = name
        self._number = 0
        self._port: IListeningPort | None = None

    def buildProtocol(self, addr: object) -> _Echo:
        return _Echo(self)

    async def start(self) -> None:
        """Listen, after C{die} on the same port."""
        endpoint = TCP4ServerEndpoint(self.clock, self._number, interface="127.0.0.1")
        self._port = await endpoint.listen(self)
        address: Any = self._port.getHost()
        if not self._number:
            self._number = address.port
            self.backend = Backend(f"tcp:{address.host}:{address.port}", name=self._name)

    async def stop(self) -> None:
        """Listen no longer."""
        port, self._port = self._port, None
        closed = None if port is None else port.stopListening()
        if closed is not None:
            await closed

    async def die(self) -> None:
        """End as a process does that is killed: with all connections, whatever they carry."""
        stopped = Deferred.fromCoroutine(self.stop())
        for each in list(self.connected):
            transport: Any = each.transport
            transport.abortConnection()
        await stopped

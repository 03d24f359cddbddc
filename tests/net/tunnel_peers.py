"""The peers of a tunnel: clients, and the backends that they reach through it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.rigs.patience import PATIENCE

__all__ = ["LOOPBACK", "Backend", "Echo", "Peer", "backend", "connected", "until"]

LOOPBACK = "tcp:0:interface=127.0.0.1"


async def until(reactor: Any, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for a condition that nothing announces.

    @raise AssertionError: it does not come true in time.
    """
    deadline = reactor.seconds() + seconds
    while not condition():
        assert reactor.seconds() < deadline, "the condition never came true"
        await deferLater(reactor, 0.01)


@implementer(IHalfCloseableProtocol)
class Peer(Protocol):
    """A connection that keeps what it gets.

    @ivar got: what has come.
    @ivar has_read: the other side sends no more.
    @ivar reason: why the connection is lost; C{None} while it is not.
    """

    transport: Any

    def __init__(self) -> None:
        self.got = bytearray()
        self.has_read = False
        self.reason: BaseException | None = None
        self._waiting: list[tuple[Callable[[], object], Deferred[None]]] = []

    def send(self, data: bytes, *, end: bool = False) -> None:
        self.transport.write(data)
        if end:
            self.transport.loseWriteConnection()

    def has(self, size: int) -> Deferred[None]:
        """
        @return: fires when so many bytes have come.
        """
        return self._when(lambda: len(self.got) >= size)

    def ended(self) -> Deferred[None]:
        """
        @return: fires when the other side sends no more, or the connection is lost.
        """
        return self._when(lambda: self.has_read or self.reason is not None)

    def lost(self) -> Deferred[None]:
        """
        @return: fires when the connection is lost.
        """
        return self._when(lambda: self.reason is not None)

    async def close(self) -> None:
        """Close, and wait until it is closed."""
        self.transport.loseConnection()
        await self.lost()

    @property
    def was_reset(self) -> bool:
        return self.reason is not None and not isinstance(self.reason, ConnectionDone)

    def _when(self, condition: Callable[[], object]) -> Deferred[None]:
        fires: Deferred[None] = Deferred()
        self._waiting.append((condition, fires))
        self._look()
        return fires

    def _look(self) -> None:
        waiting, self._waiting = self._waiting, []
        for condition, fires in waiting:
            if condition():
                fires.callback(None)
            else:
                self._waiting.append((condition, fires))

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        self._look()

    def readConnectionLost(self) -> None:
        self.has_read = True
        self._look()

    def writeConnectionLost(self) -> None:
        """All is sent."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason.value
        self._look()


class Echo(Peer):
    """Sends back what comes, with back-pressure, until the other side sends no more."""

    def connectionMade(self) -> None:
        self.transport.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def readConnectionLost(self) -> None:
        super().readConnectionLost()
        self.transport.unregisterProducer()
        self.transport.loseConnection()


class Backend(Factory):
    """Accepts connections.

    @ivar port: where.
    @ivar peers: every connection so far.
    @ivar most: how many were connected at the same time.
    """

    noisy = False

    def __init__(self, make: Callable[[], Peer]) -> None:
        self._make = make
        self.peers: list[Peer] = []
        self.most = 0
        self.port: Any = None

    @property
    def endpoint(self) -> str:
        """The client endpoint string that leads here."""
        return f"tcp:127.0.0.1:{self.port.getHost().port}"

    @property
    def connected(self) -> list[Peer]:
        return [each for each in self.peers if each.reason is None]

    def buildProtocol(self, addr: object) -> Peer:
        peer = self._make()
        self.peers.append(peer)
        self.most = max(self.most, len(self.connected))
        return peer


@asynccontextmanager
async def backend(
    reactor: Any, make: Callable[[], Peer] = Echo, listen: str = LOOPBACK
) -> AsyncIterator[Backend]:
    """A backend that is gone, with its connections, at the end of the block."""
    factory = Backend(make)
    factory.port = await serverFromString(reactor, listen).listen(factory)
    try:
        yield factory
    finally:
        await factory.port.stopListening()
        for peer in factory.connected:
            peer.transport.abortConnection()
        await gatherResults([peer.lost() for peer in factory.peers])


@asynccontextmanager
async def connected(
    reactor: Any, endpoint: str | int, make: Callable[[], Peer] = Peer
) -> AsyncIterator[Peer]:
    """A client that is gone at the end of the block.

    @param endpoint: a client endpoint string, or a port of this machine.
    """
    if isinstance(endpoint, int):
        endpoint = f"tcp:127.0.0.1:{endpoint}"
    made: Any = clientFromString(reactor, endpoint)
    peer = await made.connect(Factory.forProtocol(make))
    try:
        yield peer
    finally:
        if peer.reason is None:
            peer.transport.abortConnection()
        await peer.lost()

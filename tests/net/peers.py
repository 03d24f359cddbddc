"""Listening ports inside the process: a test plays the backend's end of real connections."""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["Asker", "Host", "Peer"]


@implementer(IHalfCloseableProtocol)
class Peer(Protocol):
    """The backend's end of one connection.

    @ivar received: what has come from the client.
    @ivar saw_eof: whether the client sends no more.
    @ivar gone: fires when the connection has ended.
    """

    transport: Any

    def __init__(self, host: Host) -> None:
        self.received = b""
        self.saw_eof = False
        self.gone: Deferred[None] = Deferred()
        self._host = host

    def connectionMade(self) -> None:
        self._host.accepted.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self._host.echoes:
            self.transport.write(data)

    def speak(self, data: bytes) -> None:
        self.transport.write(data)

    def close(self) -> None:
        self.transport.loseConnection()

    def half_close(self) -> None:
        self.transport.loseWriteConnection()

    def reset(self) -> None:
        """Break the connection: what the client then gets is a RST, no FIN."""
        handle: socket.socket = self.transport.getHandle()
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abortConnection()

    def readConnectionLost(self) -> None:
        self.saw_eof = True

    def writeConnectionLost(self) -> None:
        """It was told to; there is nothing to do."""

    def connectionLost(self, reason: Failure) -> None:
        self.gone.callback(None)


class Host(Factory):
    """A listening port, and the connections that it accepted.

    @ivar accepted: the backend's ends of all connections so far.
    @ivar endpoint: what a client connects to, if it listens on TCP.
    """

    noisy = False

    def __init__(self, *, echoes: bool = True) -> None:
        self.accepted: list[Peer] = []
        self.echoes = echoes
        self._port: Any = None

    def buildProtocol(self, addr: object) -> Peer:
        return Peer(self)

    async def listen(self, endpoint: IStreamServerEndpoint) -> None:
        """Accept connections."""
        self._port = await endpoint.listen(self)

    @property
    def port(self) -> int:
        return int(self._port.getHost().port)

    @property
    def endpoint(self) -> str:
        return f"tcp:127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Accept no more, and break the connections that there are."""
        await self._port.stopListening()
        for peer in self.accepted:
            if not peer.gone.called:
                peer.transport.abortConnection()
            await peer.gone


class Asker(Protocol):
    """A client that waits for as many bytes as it sent."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None
        self._wanted = 0
        self._answered: Deferred[bytes] | None = None

    def ask(self, data: bytes) -> Deferred[bytes]:
        """Send bytes.

        @return: fires with their echo; fails with why the connection was lost.
        """
        self._answered = answered = Deferred()
        self._wanted = len(data)
        self.transport.write(data)
        return answered

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self._answered is not None and len(self.received) >= self._wanted:
            answered, self._answered = self._answered, None
            answer, self.received = self.received, b""
            answered.callback(answer)

    def connectionLost(self, reason: Failure) -> None:
        self.lost = reason
        if self._answered is not None:
            answered, self._answered = self._answered, None
            answered.errback(reason)

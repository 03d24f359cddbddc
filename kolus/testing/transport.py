"""C{FakeTransport}: the transport of a connection to a C{FakeBackend}."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    ITCPTransport,
)
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from kolus.testing.backend import FakeConnection

__all__ = ["ADDRESS", "END", "RESET", "FakeTransport"]

_log = Logger()
ADDRESS = IPv4Address("TCP", "192.0.2.1", 1)
END = ConnectionDone()
"""The end of the stream, as it arrives."""
RESET = ConnectionLost()
"""A reset of the connection, as it arrives."""


@implementer(ITCPTransport)
class FakeTransport:
    """The client's end of a fake connection: the transport of its protocol.

    @ivar connected: whether C{connectionLost} is yet to come.
    @ivar disconnecting: whether the client has called C{loseConnection}.
    @ivar peer_gone: whether the backend has closed and no longer reads.
    """

    TLS = False

    def __init__(self, clock: Clock, peer: FakeConnection, protocol: Any) -> None:
        self.connected = True
        self.disconnecting = False
        self.peer_gone = False
        self._clock = clock
        self._peer = peer
        self._protocol = protocol
        self._half_closeable = IHalfCloseableProtocol.providedBy(protocol)
        self._inbox: deque[bytes | Exception] = deque()
        self._reading = True
        self._aborting = False
        self._write_closed = False
        self._writeDisconnecting = False
        self._refused = False
        self.producer: Any = None

    # The backend's side

    def arrive(self, what: bytes | Exception) -> None:
        """Receive bytes, or the reason why there are no more."""
        last = self._inbox[-1] if self._inbox else None
        if isinstance(last, bytes) and isinstance(what, bytes):
            self._inbox[-1] = last + what
        else:
            self._inbox.append(what)
        self._read()

    def _read(self) -> None:
        while self._inbox and self._reading and self.connected:
            what = self._inbox.popleft()
            if isinstance(what, bytes):
                self._call(self._protocol.dataReceived, what)
            elif what is END and self._half_closeable:
                self._reading = False
                self._call(self._protocol.readConnectionLost)
            else:
                self._lose(Failure(what))

    def _call(self, method: Callable[..., object], *arguments: object) -> None:
        try:
            method(*arguments)
        except Exception:
            failure = Failure()
            _log.failure("{protocol!r} raised", failure, protocol=self._protocol)
            self._lose(failure)

    def _lose(self, reason: Failure) -> None:
        if self.connected:
            self.connected = self._reading = False
            producer, self.producer = self.producer, None
            if producer is not None:
                producer.stopProducing()
            self._call(self._protocol.connectionLost, reason)

    # The effects of the client's calls, in a later turn

    def _close(self) -> None:
        if not self._aborting:
            self._peer.saw_eof = True
            self._lose(Failure(ConnectionDone()))

    def _close_half(self) -> None:
        if self.connected and not self.disconnecting and not self._aborting:
            self._write_closed = True
            self._peer.saw_eof = True
            if self._half_closeable:
                self._call(self._protocol.writeConnectionLost)

    def _write_to_closed_peer(self, refused_before: bool) -> None:
        # The first write provokes a reset; a client that does not read sees it at the next write.
        self._refused = True
        if refused_before:
            self._lose(Failure(ConnectionLost()))

    # ITCPTransport

    def write(self, data: bytes) -> None:
        if not self.connected or self._aborting or self._write_closed:
            return
        if self.peer_gone:
            self._clock.callLater(0, self._write_to_closed_peer, self._refused)
        else:
            self._peer.hear(data)

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if not self.connected or self.disconnecting:
            return
        self._reading = False
        if self._write_closed:
            self._close()
        else:
            self.disconnecting = True
            self._clock.callLater(0, self._close)

    def abortConnection(self) -> None:
        if self.connected and not self._aborting:
            self._aborting = True
            self._reading = False
            self._clock.callLater(0, self._lose, Failure(ConnectionAborted()))

    def loseWriteConnection(self) -> None:
        self._writeDisconnecting = True
        self._clock.callLater(0, self._close_half)

    def pauseProducing(self) -> None:
        self._reading = False

    def resumeProducing(self) -> None:
        ending = self.disconnecting or self._aborting
        if self.connected and not ending and not self._reading:
            self._reading = True
            self._clock.callLater(0, self._read)

    def stopProducing(self) -> None:
        self.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError(f"{self.producer!r} is still registered")
        if not self.connected:
            producer.stopProducing()
            return
        self.producer = producer
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None

    def getPeer(self) -> IPv4Address:
        return ADDRESS

    def getHost(self) -> IPv4Address:
        return ADDRESS

    def getTcpNoDelay(self) -> bool:
        return False

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass

"""C{Wire}: one connected socket of the front, without a transport of Twisted.

It is a transport, as a pool and C{End} need one: a pool's connection to a backend sits on it, and
so may TLS. When it is joined to another wire (see C{Pair}) it only owns the socket: the pair reads
and writes.

Its state is the protocol; the pair, while it is joined; whether it reads; what is to be sent, and
what is to happen after that; the producer; and why it is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    IReadDescriptor,
    ISystemHandle,
    ITransport,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.tunnel.wires.epoll_events import BROKEN, IN, OUT
from kolus.tunnel.wires.watched_socket import WatchedSocket

if TYPE_CHECKING:
    from kolus.tunnel.wires.pair import Pair

__all__ = ["Wire"]

_READ = 64 * 1024
_MOST_UNSENT = 64 * 1024
"""Bytes still to be sent beyond which a producer is paused."""
_BUSY = (BlockingIOError, InterruptedError)


@implementer(ITransport, IReadDescriptor, IHalfCloseableDescriptor, ISystemHandle)
class Wire(WatchedSocket):
    """A connected socket that serves a protocol.

    The attributes with names of Twisted's are what the pool looks at, see C{is_sound} there.

    @ivar protocol: what reads from it, once there is one.
    @ivar pair: the tunnel that it is joined to, if it is.
    @ivar has_read: whether its peer has ended its direction.
    """

    TLS = False
    disconnecting = False
    producer: Any = None
    protocol: Any = None
    pair: Pair | None = None
    has_read = False
    _aborting = False
    _writeDisconnecting = False
    _writeDisconnected = False
    _tempDataBuffer = ()
    _is_paused = True
    _is_streaming = True
    _producer_paused = False
    _reason: Failure | None = None
    dataBuffer: bytes | bytearray = b""

    def start(self, protocol: Any) -> None:
        """Serve a protocol: it is connected now, and hears what comes."""
        self.protocol = protocol
        protocol.makeConnection(self)
        if self.pair is None and not self.disconnecting:
            self._is_paused = False
            self.watch_as_needed()

    # What the loop tells

    def ready(self, events: int) -> None:
        if events & OUT:
            self.doWrite()
        if events & ~OUT and self.is_watched:
            if self._events & IN:
                self.doRead()
            elif events & BROKEN:
                self.unwatch()  # or it would be told again and again; what came can still be read

    def crashed(self, failure: Failure) -> None:
        self._lose(failure, reset=True)

    def watch_as_needed(self) -> None:
        """Have the loop watch for what there is to be done without a pair."""
        wants = 0 if self._is_paused or self.has_read else IN
        self.watch(wants | (OUT if self.dataBuffer else 0))

    # Reading

    def doRead(self) -> Failure | None:
        """Read once.

        @return: why it is lost now, if it is.
        """
        try:
            data = self.socket.recv(_READ)
        except _BUSY:
            return None
        except OSError as error:
            self._lose(Failure(ConnectionLost(str(error))), reset=True)
            return self._reason
        if data:
            self.protocol.dataReceived(data)
        elif IHalfCloseableProtocol.providedBy(self.protocol):
            self.has_read = True
            self.watch_as_needed()
            self.protocol.readConnectionLost()
        else:
            self._lose(connectionDone)
        return self._reason

    def pauseProducing(self) -> None:
        """Read no more until C{resumeProducing}."""
        if not self._is_paused:
            self._is_paused = True
            self.watch_as_needed()

    stopReading = pauseProducing

    def resumeProducing(self) -> None:
        """Read again."""
        if self._is_paused and not self.disconnecting:
            self._is_paused = False
            self.watch_as_needed()

    startReading = resumeProducing

    def stopProducing(self) -> None:
        """Close it."""
        self.loseConnection()

    # Writing

    def write(self, data: bytes) -> None:
        """Send bytes after those that are still to be sent."""
        if self.disconnecting or self._writeDisconnecting or not (data and self.connected):
            return
        if self.dataBuffer:
            self.dataBuffer += data
        else:
            try:
                sent = self.socket.send(data)
            except _BUSY:
                sent = 0
            except OSError:
                sent = 0  # the reader hears of it, after what came before
            if sent == len(data):
                return
            self.dataBuffer = bytearray(memoryview(data)[sent:])
            self.watch_as_needed()
        if self.producer is not None and len(self.dataBuffer) > _MOST_UNSENT:
            self._pause_producer()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """As C{write}."""
        self.write(b"".join(data))

    def doWrite(self) -> None:
        """Send what is still to be sent, as far as the kernel takes it."""
        if self.dataBuffer:
            try:
                sent = self.socket.send(self.dataBuffer)
            except _BUSY:
                return
            except OSError as error:
                self._cannot_write(error)
                return
            del self.dataBuffer[:sent]  # type: ignore[union-attr]
        if not self.dataBuffer:
            self.watch_as_needed()
            self._is_sent()

    def _cannot_write(self, error: OSError) -> None:
        """Its peer takes nothing any more: read what it sent before, then it is lost."""
        self.dataBuffer = b""
        self._writeDisconnecting = True
        if self.has_read or self.disconnecting:
            self._lose(Failure(ConnectionLost(str(error))), reset=True)
        else:
            self.watch_as_needed()

    def _is_sent(self) -> None:
        if self.disconnecting:
            self._lose(connectionDone)
        elif self._writeDisconnecting:
            self._end_writing()
        elif self.producer is not None and (self._producer_paused or not self._is_streaming):
            self._producer_paused = False
            self.producer.resumeProducing()

    def _pause_producer(self) -> None:
        if self._is_streaming and not self._producer_paused:
            self._producer_paused = True
            self.producer.pauseProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """As C{IConsumer}."""
        if self.producer is not None:
            raise RuntimeError(f"{producer!r} cannot follow {self.producer!r} before that is gone")
        if not self.connected:
            producer.stopProducing()
            return
        self.producer, self._is_streaming, self._producer_paused = producer, streaming, False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """As C{IConsumer}."""
        self.producer = None

    def take_unsent(self) -> bytes:
        """Take the bytes that are still to be sent, to send them."""
        unsent, self.dataBuffer = bytes(self.dataBuffer), b""
        return unsent

    # Ending

    def is_half_closed(self, has_read: bool) -> None:
        """A pair that it was in has ended one direction at least: this one if not C{has_read}."""
        self.has_read = has_read
        self._writeDisconnecting = self._writeDisconnected = True

    def loseWriteConnection(self) -> None:
        """Send the rest, then the end of this direction."""
        if not self._writeDisconnecting:
            self._writeDisconnecting = True
            if not self.dataBuffer:
                self.loop.soon(self._end_writing)

    def _end_writing(self) -> None:
        if self._writeDisconnected or not self.connected:
            return
        self._writeDisconnected = True
        self.end_writing()
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.writeConnectionLost()

    def loseConnection(self) -> None:
        """Send the rest, then close. A pair that it is in ends at once."""
        if self.pair is not None:
            self.pair.stop()
        if not self.disconnecting:
            self.disconnecting = True
            self._is_paused = True
            if self.dataBuffer:
                self.watch_as_needed()
            else:
                self._lose(connectionDone)

    def abortConnection(self) -> None:
        """Close now, with a reset. A pair that it is in ends with it."""
        if self.pair is not None:
            self.pair.abort()
        self._aborting = True
        self._lose(Failure(ConnectionAborted()), reset=True)

    def _lose(self, reason: Failure, *, reset: bool = False) -> None:
        if not self.connected:
            return
        self.disconnecting = True
        self._reason = reason
        self.dataBuffer = b""
        self.shut(reset=reset)
        if self.protocol is not None:
            self.loop.soon(self._tell)

    def _tell(self) -> None:
        protocol, self.protocol = self.protocol, None
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        protocol.connectionLost(self._reason)

    # What others ask

    def logPrefix(self) -> str:
        return "Wire"

    def connectionLost(self, reason: Failure) -> None:
        self._lose(reason)

    def readConnectionLost(self, reason: Failure) -> None:
        """As Twisted's transports have it; nobody calls it."""

    def writeConnectionLost(self, reason: Failure) -> None:
        """As Twisted's transports have it; nobody calls it."""

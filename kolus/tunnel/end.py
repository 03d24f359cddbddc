"""One end of a tunnel: a connection whose bytes go wherever its listener sends them."""

from __future__ import annotations

from typing import Any
from typing import Protocol as Structure

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    INegotiated,
    IProducer,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["EARLY_LIMIT", "End", "Listener"]

EARLY_LIMIT = 64 * 1024
"""Bytes after which an end that nobody listens to is not read any more. What one read brought
is kept whole, so up to one read more may be held."""


class Listener(Structure):
    """What an end tells of its connection."""

    def received(self, data: bytes) -> None:
        """Bytes came."""

    def read_ended(self) -> None:
        """The peer will send no more; it may still be written to."""

    def write_ended(self) -> None:
        """All that was written has been sent, and after it the end of the bytes."""

    def lost(self, reason: Failure) -> None:
        """The connection is gone."""


@implementer(IHalfCloseableProtocol)
class End(Protocol):
    """A connection at one side of a tunnel.

    Until somebody listens it keeps what comes, up to C{EARLY_LIMIT}; being read, it notices a
    reset. It does not know which side it stands on.

    @ivar half_closes: whether each direction can end by itself, as on TCP and UNIX sockets. TLS
        has no half close: there C{end_writing} closes the connection when all is sent.
    @ivar has_read: the peer will send no more.
    @ivar has_written: C{end_writing} has taken effect.
    """

    transport: Any
    half_closes = False
    has_read = False
    has_written = False
    _listener: Listener | None = None
    _lost: Failure | None = None

    def __init__(self) -> None:
        self._early: list[bytes] = []
        self._early_size = 0

    @property
    def gone(self) -> bool:
        """Whether the connection is lost."""
        return self._lost is not None

    def listen(self, listener: Listener) -> None:
        """Tell C{listener} from now on, beginning with the bytes that came before.

        An end of the bytes, or a loss, that came before is told as well.
        """
        self._listener = listener
        if self._early_size >= EARLY_LIMIT:
            self.resume()  # first, so that too much for the listener can pause it again
        early, self._early = self._early, []
        for data in early:
            listener.received(data)
        if self.has_read:
            listener.read_ended()
        if self._lost is not None:
            listener.lost(self._lost)

    # What a listener does with it

    def feed_from(self, producer: IProducer) -> None:
        """Let C{producer}, a push producer, be paused while too much waits to be sent."""
        self.transport.registerProducer(producer, True)

    def write(self, data: bytes) -> None:
        """Send bytes, after those still waiting."""
        self.transport.write(data)

    def pause(self) -> None:
        """Read no more for now."""
        if not self.gone:
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Read again."""
        # A transport that has read the end would read, and tell, it again.
        if not (self.has_read or self.gone):
            self.transport.resumeProducing()

    def end_writing(self) -> None:
        """Send what waits, then the end of the bytes."""
        # A transport whose producer is paused and never resumed would never get that far.
        self.transport.unregisterProducer()
        if self.half_closes:
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()

    def close(self) -> None:
        """Send what waits, then close."""
        if not self.gone:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abort(self) -> None:
        """Close now, with a reset where there is such a thing."""
        if not self.gone:
            self.transport.unregisterProducer()
            getattr(self.transport, "abortConnection", self.transport.loseConnection)()

    # What the transport tells it: IProtocol and IHalfCloseableProtocol

    def connectionMade(self) -> None:
        transport = self.transport
        # The transport of TLS passes unknown calls on to the one below it, and names some of
        # that one's interfaces as its own; a half close of it would cut TLS short.
        secured = INegotiated.providedBy(transport)
        self.half_closes = IHalfCloseableDescriptor.providedBy(transport) and not secured
        # The address tells, for the transport of a UNIX socket says that it is TCP too.
        tcp = isinstance(transport.getPeer(), IPv4Address | IPv6Address)
        if tcp and hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)

    def dataReceived(self, data: bytes) -> None:
        if self._listener is not None:
            self._listener.received(data)
            return
        self._early.append(data)
        self._early_size += len(data)
        if self._early_size >= EARLY_LIMIT:
            self.transport.pauseProducing()

    def readConnectionLost(self) -> None:
        self.has_read = True
        if self._listener is not None:
            self._listener.read_ended()

    def writeConnectionLost(self) -> None:
        self.has_written = True
        if self._listener is not None:
            self._listener.write_ended()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = reason
        if self._listener is not None:
            self._listener.lost(reason)

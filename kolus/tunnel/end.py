"""C{End}: one connection of a tunnel; a listener receives its bytes and events."""

from __future__ import annotations

import socket
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
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.support import abort, steady
from kolus.tunnel.last_bytes import read_before_loss
from kolus.tunnel.silence_limits import SilenceLimits, set_silence_limits
from kolus.tunnel.wires.unsent import LOOK_AGAIN, MOST_LOOKS, unsent

__all__ = ["EARLY_LIMIT", "End", "Listener"]

EARLY_LIMIT = 64 * 1024
"""An end without a listener pauses reading when it holds so many bytes. It never cuts a read, so it
may hold up to one read more."""

_BUFFERS = ("dataBuffer", "_tempDataBuffer", "_appSendBuffer")


class Listener(Structure):
    """Receives the bytes and events of an end."""

    def received(self, data: bytes) -> None:
        """Bytes arrived."""

    def read_ended(self) -> None:
        """The peer will send no more. Writing is still possible."""

    def write_ended(self) -> None:
        """All written bytes and the end of the stream (FIN) have been sent."""

    def lost(self, reason: Failure) -> None:
        """The connection is lost."""


@implementer(IHalfCloseableProtocol)
class End(Protocol):
    """A connection at the client's or the backend's side of a tunnel.

    Until it has a listener it reads, to notice a reset, and buffers up to C{EARLY_LIMIT} bytes.

    @ivar half_closes: whether each direction can end by itself, as on TCP and UNIX sockets. TLS
        has no half close: C{end_writing} then closes the connection when all is sent.
    @ivar is_secured: whether it speaks TLS.
    @ivar has_read: whether the peer has ended its direction: it will send no more.
    @ivar has_written: whether C{end_writing} has taken effect.
    """

    transport: Any
    half_closes = False
    is_secured = False
    has_read = False
    has_written = False
    _listener: Listener | None = None
    _lost: Failure | None = None

    def __init__(self, silence: SilenceLimits | None = None) -> None:
        """
        @param silence: how long the peer of a TCP connection may be silent; C{None}: its socket is
            as it should be.
        """
        self._silence = silence
        self._early: list[bytes] = []
        self._early_size = 0

    @property
    def gone(self) -> bool:
        """Whether the connection is lost."""
        return self._lost is not None

    @property
    def has_unsent(self) -> bool:
        """Whether bytes wait to be taken by the peer, or to be encrypted first."""
        its = self.transport  # one of TLS has the buffers of that below, too
        small = getattr(its, "_aggregator", None)
        buffers = [getattr(its, each, None) for each in _BUFFERS]
        return any(buffers) or bool(getattr(small, "_buffer", None))

    def listen(self, listener: Listener) -> None:
        """Set the listener, and give it at once the bytes and events that came before."""
        self._listener = listener
        if self._early_size >= EARLY_LIMIT:
            self.resume()  # first: the listener may pause again
        early, self._early = self._early, []
        for data in early:
            listener.received(data)
        if self.has_read:
            listener.read_ended()
        if self._lost is not None:
            listener.lost(self._lost)

    def hold(self, data: bytes) -> None:
        """Bytes came before it was connected."""
        self._early.append(data)
        self._early_size += len(data)

    @property
    def has_bytes(self) -> bool:
        """Whether bytes have come that no listener has yet."""
        return bool(self._early)

    @property
    def has_early(self) -> bool:
        """Whether bytes or an end have come that no listener has yet."""
        return bool(self._early or self.has_read)

    def take_early(self) -> bytes:
        """Take the bytes that came before there was a listener, to pass them on."""
        early, self._early = self._early, []
        return b"".join(early)

    # Called by the listener

    def feed_from(self, producer: IProducer) -> None:
        """Register C{producer}, a push producer: it is paused while too much waits to be sent."""
        self.transport.registerProducer(producer, True)

    def write(self, data: bytes) -> None:
        """Send bytes after those already buffered."""
        self.transport.write(data)

    def pause(self) -> None:
        """Pause reading."""
        if not self.gone:
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Resume reading."""
        # A transport that has read the end of the stream would read and report it again.
        if not (self.has_read or self.gone):
            self.transport.resumeProducing()

    def end_writing(self) -> None:
        """Send what is buffered, then end this direction."""
        # Otherwise a paused producer that never resumes would hold the end back for ever.
        self.transport.unregisterProducer()
        if self.half_closes:
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()

    def close(self) -> None:
        """Send what is buffered, then close."""
        if not self.gone:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def reset(self, looks: int = MOST_LOOKS) -> None:
        """Close with a reset as soon as the peer has what was written: a reset overtakes it."""
        if self.gone:
            return
        base = self._base()
        its = _socket_of(base)
        is_sent = not (self.has_unsent or (its is not None and unsent(its)))
        if is_sent or not looks:
            self.abort()
        else:
            self.pause()
            wait = 0 if looks == MOST_LOOKS else LOOK_AGAIN
            steady(base.reactor).callLater(wait, self.reset, looks - 1)

    def abort(self) -> None:
        """Close now, with a reset if the transport supports it."""
        if not self.gone:
            self.transport.unregisterProducer()
            abort(self.transport)

    # IProtocol and IHalfCloseableProtocol: called by the transport

    def connectionMade(self) -> None:
        transport = self.transport
        is_bare = not isinstance(transport, ProtocolWrapper)
        if is_bare and getattr(transport, "sends_at_once", False):  # a wire: all is as it should be
            self.half_closes = True
            if self._silence is not None:
                set_silence_limits(transport.socket, self._silence, transport.family)
            return
        # A TLS transport forwards unknown calls to the TCP transport below and claims some of its
        # interfaces. A half close of that TCP transport would break TLS.
        self.is_secured = INegotiated.providedBy(transport)
        has_halves = IHalfCloseableDescriptor.providedBy(transport)
        self.half_closes = has_halves and not self.is_secured
        base = self._base()
        read_before_loss(base)
        # The transport of a UNIX socket claims to be TCP as well, so look at the address.
        if (
            not getattr(base, "sends_at_once", False)
            and hasattr(transport, "setTcpNoDelay")
            and isinstance(transport.getPeer(), IPv4Address | IPv6Address)
        ):
            transport.setTcpNoDelay(True)
        if self._silence is not None:
            its = _socket_of(base)
            if its is not None:
                set_silence_limits(its, self._silence, getattr(base, "family", None))

    def _base(self) -> Any:
        """The transport below TLS."""
        base = self.transport
        while isinstance(base, ProtocolWrapper):
            base = base.transport
        return base

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


def _socket_of(transport: Any) -> socket.socket | None:
    found = getattr(transport, "socket", None)
    return found if isinstance(found, socket.socket) else None

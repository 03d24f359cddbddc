"""Twisted's own TCP transports on a clock and sockets without a network.

A tunnel depends on how Twisted buffers, pauses and closes. So its tests use the real
C{tcp.Connection}; only the socket and the reactor below it are fakes.
"""

from __future__ import annotations

import errno
import itertools
import socket
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.posixbase import _DisconnectSelectableMixin
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from zope.interface import implementer

_descriptors = itertools.count(1000)


@implementer(IReactorFDSet)
class WireReactor(_DisconnectSelectableMixin, Clock):
    """A clock that also reads and writes sockets when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()

    def addReader(self, reader: Any) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.discard(reader)

    def addWriter(self, writer: Any) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)

    def removeAll(self) -> list[Any]:
        raise AssertionError("a tunnel leaves the other descriptors of its reactor alone")

    getReaders = getWriters = removeAll

    def settle(self, most: int = 1000) -> None:
        """Read and write until nothing moves any more."""
        for _ in range(most):
            if not self._turn():
                return
        raise AssertionError(f"something still moves after {most} turns")

    def _turn(self) -> bool:
        self.advance(0)
        ready = [(each, each.doRead) for each in self.readers if each.socket.readable]
        ready += [(each, each.doWrite) for each in self.writers if each.socket.writable]
        for transport, act in ready:
            if transport in self.readers | self.writers:
                reading = act == transport.doRead
                why = act()
                if why:
                    self._disconnectSelectable(transport, why, reading)
        return bool(ready) or any(call.getTime() <= self.seconds() for call in self.calls)


class WireSocket:
    """A connected socket whose peer is the test.

    @ivar sent: what the peer has got.
    @ivar room: how many bytes more the peer takes.
    @ivar ended: whether the peer has got the end of the bytes.
    @ivar closed: C{None}, C{"closed"} or C{"reset"}.
    """

    def __init__(self) -> None:
        self.sent = b""
        self.room = 1 << 40
        self.ended = False
        self.closed: str | None = None
        self._inbox = b""
        self._eof = False
        self._broken = False
        self._lingers = True
        self._fileno = next(_descriptors)

    # The test's side

    def arrive(self, data: bytes) -> None:
        self._inbox += data

    def finish(self) -> None:
        """Send no more, as C{shutdown(SHUT_WR)} does."""
        self._eof = True

    def reset(self) -> None:
        self._broken = True

    @property
    def unread(self) -> int:
        return len(self._inbox)

    @property
    def readable(self) -> bool:
        return bool(self._inbox) or self._eof or self._broken

    @property
    def writable(self) -> bool:
        return self.room > 0 or self._broken

    # What tcp.Connection uses of a socket

    def recv(self, size: int) -> bytes:
        if self._inbox:
            data, self._inbox = self._inbox[:size], self._inbox[size:]
            return data
        if self._broken:
            raise OSError(errno.ECONNRESET, "reset")
        if self._eof:
            return b""
        raise OSError(errno.EWOULDBLOCK, "nothing to read")

    def send(self, data: memoryview) -> int:
        if self._broken:
            raise OSError(errno.ECONNRESET, "reset")
        size = min(len(data), self.room)
        if not size and len(data):
            raise OSError(errno.EWOULDBLOCK, "no room")
        self.sent += bytes(data[:size])
        self.room -= size
        return size

    def shutdown(self, how: int) -> None:
        self.ended = True

    def setsockopt(self, level: int, option: int, value: object) -> None:
        if option == socket.SO_LINGER:
            self._lingers = False

    def close(self) -> None:
        self.closed = "closed" if self._lingers else "reset"

    def fileno(self) -> int:
        return self._fileno

    def setblocking(self, blocking: bool) -> None:
        pass


class WireTransport(Connection):
    """A C{tcp.Connection} over a C{WireSocket}, which is C{wire}."""

    def __init__(self, reactor: WireReactor, protocol: Any) -> None:
        self.wire = WireSocket()
        super().__init__(self.wire, protocol, reactor)  # type: ignore[arg-type]
        self.connected = 1
        protocol.makeConnection(self)
        self.startReading()

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.1", 1)

    getHost = getPeer


def connect(reactor: WireReactor, protocol: Any) -> WireSocket:
    """Connect a protocol.

    @return: its socket, for the test to be the peer.
    """
    return WireTransport(reactor, protocol).wire

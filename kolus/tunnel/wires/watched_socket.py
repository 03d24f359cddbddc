"""C{WatchedSocket}: a connected socket, and the events of it that the loop watches.

Its state is the socket, the events, the object that gets them, and the address of its peer.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kolus.support import socket_address

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

    from kolus.tunnel.wires.loop import Loop, Watched

__all__ = ["WatchedSocket"]

_RESET = struct.pack("ii", 1, 0)
_UNWATCHED = -1


class WatchedSocket:
    """A connected TCP or UNIX socket that does not block.

    @ivar loop: the loop that watches it.
    @ivar socket: the socket.
    @ivar sends_at_once: whether it does (C{TCP_NODELAY}), if it is one of TCP.
    @ivar family: that of the socket.
    @ivar fd: the number of its descriptor.
    @ivar connected: whether it is not closed.
    """

    connected = True
    sends_at_once = True
    _events = _UNWATCHED
    _owner: Any

    def __init__(self, loop: Loop, sock: socket.socket, family: int, peer: Any = None) -> None:
        """
        @param sock: if it is one of TCP, it sends at once (C{TCP_NODELAY}).
        @param family: that of the socket, which would take long to tell it.
        @param peer: the address of the peer as the socket module has it; C{None}: to be asked for.
        """
        self.loop = loop
        self.socket = sock
        self.fd = sock.fileno()
        self.family = family
        self._peer = peer
        self._owner = self

    @property
    def reactor(self) -> Any:
        """As that of Twisted's transports."""
        return self.loop.reactor

    # What the loop watches

    def watch(self, events: int) -> None:
        """Have the loop watch for these events."""
        if events == self._events or not self.connected:
            return
        if self._events == _UNWATCHED:
            self.loop.add(self.fd, events, self._owner)
        else:
            self.loop.change(self.fd, events)
        self._events = events

    def unwatch(self) -> None:
        """Have the loop forget it, until C{watch}."""
        if self._events != _UNWATCHED:
            self._events = _UNWATCHED
            self.loop.remove(self.fd)

    @property
    def is_watched(self) -> bool:
        """Whether the loop watches it."""
        return self._events != _UNWATCHED

    def pass_to(self, owner: Watched) -> None:
        """Another owner gets its events from now on."""
        if self.connected:
            self._owner = owner
        if self._events != _UNWATCHED:
            self.loop.pass_on(self.fd, owner)

    # Ending

    def end_writing(self) -> bool:
        """Send the end of this direction now.

        @return: whether that was possible.
        """
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True

    def shut(self, *, reset: bool) -> None:
        """Close it now.

        @param reset: whether its peer gets a reset.
        """
        self.connected = False
        if self._events != _UNWATCHED:
            self._events = _UNWATCHED
            self.loop.remove(self.fd)
        if reset and self.family != socket.AF_UNIX:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.loop.close(self.socket)
        del self._owner  # it may be itself

    # What others ask

    def getPeer(self) -> IAddress:
        if self._peer is None:
            self._peer = _name(self.socket.getpeername)
        return socket_address(self.family, self._peer)

    def getHost(self) -> IAddress:
        return socket_address(self.family, _name(self.socket.getsockname))

    def getHandle(self) -> socket.socket:
        return self.socket

    def fileno(self) -> int:
        return self.fd if self.connected else -1


def _name(ask: Callable[[], Any]) -> Any:
    """What a socket's method tells; C{None} if the socket is reset already."""
    try:
        return ask()
    except OSError:
        return None

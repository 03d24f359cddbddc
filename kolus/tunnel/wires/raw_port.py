"""C{RawPort}: accepts the clients of a listening port of Twisted's, as wires where it is possible.

Its state is whether it accepts, whether it was told to, whether it has said why it does not, and
the timer of its next look at the descriptors.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IProtocolFactory,
    IReadDescriptor,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.tunnel.wires.descriptors import Descriptors
from kolus.tunnel.wires.epoll_events import IN
from kolus.tunnel.wires.loop import Loop
from kolus.tunnel.wires.plain_socket import PlainSocket
from kolus.tunnel.wires.wire import Wire

__all__ = ["RawPort", "raw_port"]

_log = Logger()

_AT_ONCE = 32
"""So many clients are accepted until others have their turn."""
_LOOK_AGAIN = 0.1
_NEEDED = "needed for the connections of the clients that are here"
_LACKING = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@implementer(IListeningPort, IReadDescriptor)
class RawPort:
    """A listening TCP or UNIX port.

    It accepts a client only while descriptors are left for it, for a connection to a backend, and
    for some other things. Otherwise clients wait in the kernel's queue; it says so once, and goes
    on when some come free.
    """

    def __init__(self, loop: Loop, port: Any, factory: Any, descriptors: Descriptors) -> None:
        """
        @param port: a port of Twisted's. It must not read any more.
        @param factory: makes the protocol of each client: it has C{protocol_for} of C{Front}.
            C{None}: the port makes Twisted's transports, as there is a wrapper around its
            connections.
        """
        self._loop = loop
        self._port = port
        self._factory = factory
        self._descriptors = descriptors
        self.socket: socket.socket = port.socket
        self._is_wanted = self._is_reading = self._has_said = False
        self._timer: IDelayedCall | None = None
        self._family = self.socket.family  # Python takes long to tell it
        if self._family != socket.AF_UNIX:  # clients inherit it
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.startReading()

    def serve(self, factory: Any) -> None:
        """Accept clients for another factory from now on."""
        self._factory = factory

    def startReading(self) -> None:
        """Accept clients."""
        self._is_wanted = True
        self._look()

    def stopReading(self) -> None:
        """Accept none until C{startReading}."""
        self._is_wanted = False
        self._look()

    def _look(self) -> None:
        reads = self._is_wanted and self._timer is None
        if reads != self._is_reading:
            self._is_reading = reads
            if reads:
                self._loop.add(self.socket.fileno(), IN, self)
            else:
                self._loop.remove(self.socket.fileno())

    # What the loop tells

    def ready(self, events: int) -> None:
        self.doRead()

    def crashed(self, failure: Failure) -> None:
        """A client's protocol has raised; others are accepted."""

    def doRead(self) -> None:
        """Accept the clients that wait, as long as there is room."""
        if self._factory is None:
            self._let_port_accept()
            return
        protocol_for, loop, room = self._factory.protocol_for, self._loop, self._descriptors
        family = self._family
        is_local = family == socket.AF_UNIX
        accept = self.socket._accept  # type: ignore[attr-defined]  # Python's own looks up enums
        for _ in range(_AT_ONCE):
            if not self._is_reading:  # the last one was the most that may be here
                return
            if not room.take():
                self._pause(_NEEDED)
                return
            try:
                descriptor, name = accept()
            except (BlockingIOError, ConnectionAbortedError):
                room.give_back()
                return
            except OSError as error:
                room.give_back()
                if error.errno in _LACKING:
                    self._pause(str(error))
                return
            sock = PlainSocket(family, socket.SOCK_STREAM, 0, descriptor)
            sock.setblocking(False)
            wire = Wire(loop, sock, family, name)
            try:
                protocol = protocol_for(None if is_local else name[0] if name else "")
                if protocol is not None:
                    wire.start(protocol)
                    continue
            except Exception:
                _log.failure("a client could not be accepted")
            wire.abortConnection()

    def _let_port_accept(self) -> None:
        """The same, but Twisted's port accepts them."""
        port, most = self._port, self._descriptors.take_some(_AT_ONCE)
        if not most:
            self._pause(_NEEDED)
            return
        port.numberAccepts, before = most, port.sessionno
        port.doRead()
        self._descriptors.give_back(before + most - port.sessionno)

    def _pause(self, why: str) -> None:
        if not self._has_said:
            self._has_said = True
            _log.warn(
                "no more clients are accepted until file descriptors come free, they wait in the "
                "kernel's queue ({why}): raise the limit, such as with ulimit -n",
                why=why,
            )
        self._timer = self._loop.clock.callLater(_LOOK_AGAIN, self._look_again)
        self._look()

    def _look_again(self) -> None:
        self._timer = None
        self._descriptors.look()
        self._look()

    # IListeningPort

    def startListening(self) -> None:
        """It listens already."""

    def stopListening(self) -> Any:
        """Close the port."""
        self._is_wanted = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._look()
        return self._port.stopListening()

    def getHost(self) -> IAddress:
        return self._port.getHost()  # type: ignore[no-any-return]

    def fileno(self) -> int:
        return self.socket.fileno()

    def connectionLost(self, reason: Failure) -> None:
        self.stopListening()

    def logPrefix(self) -> str:
        return "RawPort"


def raw_port(loop: Loop, port: Any, factory: IProtocolFactory) -> Any:
    """Accept the clients of a port of Twisted's, as wires unless there is a wrapper around its
    connections, such as TLS.

    @return: what accepts them now; C{port} itself if it is of another kind.
    """
    kinds: tuple[type, ...] = (tcp.Port, unix.Port) if hasattr(socket, "AF_UNIX") else (tcp.Port,)
    if type(port) not in kinds or not Loop.suits(loop.reactor):
        return port
    port.stopReading()
    is_plain = port.factory is factory
    return RawPort(loop, port, factory if is_plain else None, loop.descriptors)

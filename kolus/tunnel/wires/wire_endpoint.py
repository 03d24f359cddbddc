"""C{WireEndpoint}: connects to an address, and makes a wire.

Its state is that of each attempt: the socket, and the timer of the next try.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.internet.abstract import isIPv6Address
from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.error import (
    ConnectingCancelledError,
    NoProtocol,
    getConnectError,
)
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.connection import telling
from kolus.endpoints import NamedEndpoint
from kolus.support import socket_address
from kolus.tunnel.wires.epoll_events import OUT
from kolus.tunnel.wires.loop import Loop
from kolus.tunnel.wires.plain_socket import PlainSocket
from kolus.tunnel.wires.wire import Wire

__all__ = ["WireEndpoint", "in_place_of"]

_PooledWire = telling(Wire)

_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK)
_KIND = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK)  # Python takes long to join them
_TRY_AGAIN = 0.01
"""Seconds until a UNIX socket is tried again whose backend has too many waiting."""


@implementer(IStreamClientEndpoint)
class WireEndpoint:
    """An address of a TCP or UNIX socket."""

    def __init__(self, loop: Loop, family: int, address: Any, bind: Any = None) -> None:
        """
        @param address: as the socket module has it, with no host name in it.
        @param bind: the local address of connections; C{None}: the system chooses one.
        """
        self._loop = loop
        self._family = family
        self._address = address
        self._bind = bind
        self._peer = socket_address(family, address)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect, without a time limit.

        @return: as that of Twisted's endpoints. It has fired already if that took no time.
        """
        try:
            sock = PlainSocket(self._family, _KIND)
        except OSError as error:
            return fail(getConnectError(error))
        number = 0
        try:
            if self._bind is not None:
                sock.bind(self._bind)
            number = sock.connect_ex(self._address)
            if number == errno.EINPROGRESS:  # on this machine, it mostly is connected by now
                number = sock.connect_ex(self._address)
        except OSError as error:
            number = error.errno or errno.EINVAL
        if number in (0, errno.EISCONN):
            return self.connected(sock, protocolFactory)
        if number not in _UNDER_WAY:
            sock.close()
            return fail(getConnectError((number, os.strerror(number))))
        return _Attempt(self, self._loop, sock, protocolFactory).outcome

    def try_again(self, sock: socket.socket) -> int:
        """Go on with a connect.

        @return: the number of its error; 0 if it is connected.
        """
        number = sock.connect_ex(self._address)
        return 0 if number == errno.EISCONN else number

    def connected(self, sock: socket.socket, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Make the wire of a connected socket."""
        wire: Wire = _PooledWire(self._loop, sock, self._family, self._address)
        try:
            if self._family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            protocol = factory.buildProtocol(self._peer)
            if protocol is None:
                raise NoProtocol
            wire.start(protocol)
        except Exception:
            wire.abortConnection()
            return fail(Failure())
        return succeed(protocol)

    def __str__(self) -> str:
        return str(self._address)


class _Attempt:
    """A connect that is under way."""

    def __init__(
        self, endpoint: WireEndpoint, loop: Loop, sock: socket.socket, factory: IProtocolFactory
    ) -> None:
        self.outcome: Deferred[IProtocol] = Deferred(self._cancelled)
        self._endpoint = endpoint
        self._loop = loop
        self._socket = sock
        self._factory = factory
        self._timer: IDelayedCall | None = None
        if sock.family == socket.AF_UNIX:  # it cannot be watched before it has a peer
            self._wait()
        else:
            loop.add(sock.fileno(), OUT, self)

    def _wait(self) -> None:
        self._timer = self._loop.clock.callLater(_TRY_AGAIN, self.ready, 0)

    def ready(self, events: int) -> None:
        self._timer = None
        number = self._endpoint.try_again(self._socket)
        if number in _UNDER_WAY:
            if self._socket.family == socket.AF_UNIX:
                self._wait()
            return
        self._stop_waiting()
        if number:
            self._loop.close(self._socket)
            self.outcome.errback(getConnectError((number, os.strerror(number))))
        else:
            self._endpoint.connected(self._socket, self._factory).chainDeferred(self.outcome)

    def crashed(self, failure: Failure) -> None:
        if not self.outcome.called:
            self.outcome.errback(failure)

    def _stop_waiting(self) -> None:
        if self._socket.family != socket.AF_UNIX:
            self._loop.remove(self._socket.fileno())
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cancelled(self, outcome: Deferred[IProtocol]) -> None:
        self._stop_waiting()
        self._loop.close(self._socket)
        outcome.errback(ConnectingCancelledError(HostnameAddress(b"", 0)))


class _NamedWireEndpoint(NamedEndpoint):
    """Connects to a host by its name, with wires."""

    def __init__(self, loop: Loop, endpoint: Any) -> None:
        its = endpoint
        super().__init__(loop.reactor, its._host, its._port, its.timeout, its._bind_address)
        self._loop = loop

    def connect_to(self, host: str, factory: IProtocolFactory) -> Deferred[IProtocol]:
        return _for_host(self._loop, host, self._port, self._bind_address).connect(factory)


def in_place_of(loop: Loop, endpoint: IStreamClientEndpoint) -> IStreamClientEndpoint:
    """The endpoint that makes wires where another makes transports of Twisted's.

    @return: C{endpoint} itself if it is of another kind than TCP and UNIX without TLS, or if the
        reactor is of no use to the loop.
    """
    its: Any = endpoint
    if not Loop.suits(loop.reactor):
        return endpoint
    if type(endpoint) is TCP4ClientEndpoint:
        return _for_host(loop, its._host, its._port, its._bindAddress)
    if type(endpoint) is UNIXClientEndpoint and not its._checkPID:
        return WireEndpoint(loop, socket.AF_UNIX, its._path)
    if type(endpoint) is NamedEndpoint:
        return _NamedWireEndpoint(loop, endpoint)
    return endpoint


def _for_host(loop: Loop, host: str, port: int, bind: Any) -> WireEndpoint:
    is_six = isIPv6Address(host.partition("%")[0])
    if bind is not None and not isinstance(bind, tuple):
        bind = (bind, 0)
    address: Any = (host, port)
    if "%" in host:  # a scope, which only the resolver can read
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4]
    return WireEndpoint(loop, socket.AF_INET6 if is_six else socket.AF_INET, address, bind)

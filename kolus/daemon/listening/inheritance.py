"""C{Inheritance}: the listening sockets that a new process gets from the one whose place it takes.

Its state is the connection to that process and the sockets, until C{settle}.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from zope.interface import implementer

from kolus.daemon.listening.adopted import adopted_unix_port
from kolus.daemon.listening.listen_endpoint import listen_endpoint
from kolus.support import CannotListen

__all__ = ["Inheritance", "inherit"]

_PATIENCE = 10.0
"""Seconds in which the running process must answer."""
_MOST = 250
"""Descriptors in one message. Linux takes 253."""


class Inheritance:
    """Makes the endpoints of addresses: of those that were inherited, from their sockets.

    @ivar connection: to the process that runs; C{None} if there is none. It goes on serving until
        it is told to stop by this, or for ever if this is closed before.
    """

    def __init__(self, connection: socket.socket | None, sockets: dict[str, socket.socket]) -> None:
        """
        @param sockets: listening sockets by their server endpoint strings.
        """
        self.connection = connection
        self._sockets = sockets

    def endpoint(self, reactor: Any, description: str) -> IStreamServerEndpoint:
        """As C{listen_endpoint}.

        @raise ValueError: the string cannot be used.
        """
        inherited = self._sockets.get(description)
        if inherited is None:
            return listen_endpoint(reactor, description)
        return _Inherited(reactor, inherited, description.startswith("systemd:"))

    @property
    def names(self) -> list[str]:
        """The server endpoint strings of the sockets that are left."""
        return list(self._sockets)

    def settle(self) -> None:
        """All is listened on: from now on no address is inherited."""
        for each in self._sockets.values():
            each.close()
        self._sockets.clear()


def inherit(path: str | None) -> Inheritance:
    """Ask the process that listens on a UNIX socket for its listening sockets. It blocks.

    @param path: of the socket. C{None}, or nobody there: nothing is inherited.
    @raise CannotListen: somebody is there, and does not answer as it should.
    """
    if path is None:
        return Inheritance(None, {})
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_PATIENCE)
    try:
        connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return Inheritance(None, {})
    except OSError as error:
        connection.close()
        raise CannotListen(f"takeover: cannot connect to {path}: {error.strerror}") from None
    received: list[int] = []
    try:
        names = _received(connection, received)
        sockets = {name: socket.socket(fileno=received.pop(0)) for name in names}
    except (OSError, ValueError, IndexError):
        connection.close()
        for each in received:
            os.close(each)
        raise CannotListen(
            f"takeover: the process that listens on {path} gives no sockets: it is ending, or "
            "another process takes its place; try again"
        ) from None
    for inherited in sockets.values():
        inherited.setblocking(False)
    return Inheritance(connection, sockets)


def _received(connection: socket.socket, descriptors: list[int]) -> list[str]:
    text = b""
    while not text.endswith(b"\n"):
        data, some, _, _ = socket.recv_fds(connection, 65536, _MOST)
        descriptors += some
        text += data
        if not data:
            raise ValueError("the list has no end")
    names: list[str] = json.loads(text)
    return names


@implementer(IStreamServerEndpoint)
class _Inherited:
    """Listens on a socket that is bound and listens already."""

    def __init__(self, reactor: Any, inherited: socket.socket, is_lent: bool) -> None:
        """
        @param is_lent: see C{adopted_unix_port}.
        """
        self._reactor = reactor
        self._socket = inherited
        self._is_lent = is_lent
        # As endpoints of Twisted's have it; whether it is of the loopback is looked at.
        its: Any = inherited.getsockname()
        self._interface = "" if inherited.family == socket.AF_UNIX else its[0]

    def listen(self, protocolFactory: Any) -> Deferred[Any]:
        """
        @return: fires with the port.
        """
        try:
            return succeed(self._port(protocolFactory))
        except OSError as error:
            return fail(CannotListenError("", str(self._socket.getsockname()), error))

    def _port(self, factory: Any) -> Any:
        family = self._socket.family
        if family != socket.AF_UNIX:
            return self._reactor.adoptStreamPort(self._socket.fileno(), family, factory)
        return adopted_unix_port(self._reactor, self._socket, factory, is_lent=self._is_lent)

"""Sockets that another process has, too: systemd, or a daemon that ran before or takes over.

Twisted's own way to listen on them closes the descriptor after the first time, so that its number
becomes that of another file. It gives the path of a UNIX socket to everybody (mode 666), which only
its owner may do, makes the kernel's queue of clients short, and removes the path at the end.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import Any

from twisted.internet import unix
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from zope.interface import implementer

__all__ = ["BACKLOG", "LentEndpoint", "adopted_unix_port", "let_go"]

BACKLOG = 1024
"""The clients that the kernel keeps until they are accepted. With Twisted's default of 50 a kernel
resets some of 200 clients that come at once."""


def adopted_unix_port(
    reactor: Any, listening: socket.socket, factory: Any, *, is_lent: bool
) -> Any:
    """Listen on a socket that is bound and listens already. It is duplicated.

    @param is_lent: whether the process that lends the socket goes on to use it. Then its path stays
        as it is, also at the end.
    @raise OSError: it cannot be listened on.
    """
    path = os.fsencode(listening.getsockname())
    mode = 0o666
    if is_lent:
        path = b"\0" + path  # of what has no place in a folder Twisted leaves the path alone
    elif not path.startswith(b"\0"):
        mode = stat.S_IMODE(os.stat(path).st_mode)
    port: Any = unix.Port(path, factory, BACKLOG, mode, reactor)
    port._preexistingSocket = listening.dup()
    port._shouldShutdown = not is_lent  # that would end it for the lender, too
    port.startListening()
    return port


def let_go(port: Any) -> None:
    """Accept no more on a port, and close this process's descriptor of a socket that another one
    goes on with.

    C{stopListening} would shut the socket down for the other process, and remove its path.
    """
    port.stopReading()
    port.socket.close()


@implementer(IStreamServerEndpoint)
class LentEndpoint:
    """Listens on a socket of systemd's, as often as it is told to. The socket stays open here: its
    number must not become that of another, and a reload may listen on it again.

    @ivar fileno: the descriptor.
    """

    def __init__(self, reactor: Any, fileno: int) -> None:
        self._reactor = reactor
        self.fileno = fileno

    def check(self, family: int) -> None:
        """
        @param family: what the endpoint string says.
        @raise ValueError: the socket is of another kind. The message says what to write.
        """
        with self._duplicated() as lent:
            if lent.type != socket.SOCK_STREAM:
                raise ValueError("this socket of systemd is no stream: use ListenStream=")
            if lent.family != family:
                told = lent.family.name.removeprefix("AF_")
                raise ValueError(f"this socket of systemd is of another domain: domain={told}")
            if not lent.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                raise ValueError("this socket of systemd does not listen: use Accept=no")

    def listen(self, protocolFactory: Any) -> Deferred[Any]:
        """
        @return: fires with the port.
        """
        try:
            with self._duplicated() as lent:
                lent.setblocking(False)
                return succeed(self._port(lent, protocolFactory))
        except OSError as error:
            return fail(CannotListenError("", "a socket of systemd", error))

    def _port(self, lent: socket.socket, factory: Any) -> Any:
        if lent.family == socket.AF_UNIX:
            return adopted_unix_port(self._reactor, lent, factory, is_lent=True)
        return self._reactor.adoptStreamPort(lent.fileno(), lent.family, factory)

    def _duplicated(self) -> socket.socket:
        return socket.socket(fileno=os.dup(self.fileno))

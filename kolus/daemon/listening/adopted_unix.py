"""Listens on UNIX sockets that another process has bound: systemd, or a daemon that ran before.

Twisted's own way gives the path of such a socket to everybody (mode 666), which only its owner may
do, makes the kernel's queue of clients short, and removes the path at the end.
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

__all__ = ["BACKLOG", "LentUNIXEndpoint", "adopted_unix_port"]

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


@implementer(IStreamServerEndpoint)
class LentUNIXEndpoint:
    """Listens on a UNIX socket of systemd's."""

    def __init__(self, reactor: Any, lent: Any) -> None:
        """
        @param lent: what Twisted makes of the endpoint string: it has the descriptor.
        """
        self._reactor = reactor
        self._lent = lent

    def listen(self, protocolFactory: Any) -> Deferred[Any]:
        """
        @return: fires with the port.
        """
        try:
            with socket.socket(fileno=self._lent.fileno) as listening:
                listening.setblocking(False)
                port = adopted_unix_port(self._reactor, listening, protocolFactory, is_lent=True)
        except OSError as error:
            return fail(CannotListenError("", "a socket of systemd", error))
        return succeed(port)

"""C{read_before_loss}: has a transport of Twisted's read what a reset leaves in its socket.

A reset does not throw away what had come before it: the kernel keeps that to be read. A transport
that finds the connection broken while it writes, or while it is paused, closes its socket unread.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["read_before_loss"]

_log = Logger()

_READ = 64 * 1024


def read_before_loss(transport: Any) -> None:
    """Have a TCP or UNIX connection give its protocol all that had come, before its loss.

    @param transport: the one below TLS. One of another kind is left alone.
    """
    if isinstance(transport, Connection):
        its: Any = transport
        its.connectionLost = partial(_lose, transport)


def _lose(transport: Any, reason: Failure) -> None:
    vars(transport).pop("connectionLost", None)  # Twisted may call it twice
    if not hasattr(transport, "socket"):
        return
    is_ours = transport.disconnecting or reason.check(ConnectionAborted)
    if reason.check(ConnectionLost) and not is_ours:
        _read_the_rest(transport)
    transport.connectionLost(reason)


def _read_the_rest(transport: Any) -> None:
    """No more comes after a reset, so it ends."""
    while True:
        try:
            data = transport.socket.recv(_READ)
        except OSError:
            return
        if not data:
            return
        try:
            transport.protocol.dataReceived(data)
        except Exception:
            _log.failure("{protocol!r} raised in dataReceived", protocol=transport.protocol)
            return

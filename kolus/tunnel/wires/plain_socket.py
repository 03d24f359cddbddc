"""C{PlainSocket}: a socket without what Python's own has for files that are made of it."""

from __future__ import annotations

import socket

__all__ = ["PlainSocket"]

_Bare = socket.SocketType


class PlainSocket(socket.socket):
    """A socket that is made and closed by the interpreter itself, in a third of the time.

    Nobody calls C{makefile} of it: it counts no files that still use the socket.
    """

    __slots__ = ()

    __init__ = _Bare.__init__
    close = _Bare.close

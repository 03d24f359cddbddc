"""C{unsent}: what the kernel still has of the bytes that were written to a socket."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

try:
    import fcntl
    import termios

    _ASK: int | None = getattr(termios, "TIOCOUTQ", None)
except ImportError:  # on Windows
    _ASK = None

__all__ = ["LOOK_AGAIN", "MOST_LOOKS", "unsent"]

LOOK_AGAIN = 0.02
"""Seconds from one look at what is unsent to the next."""

MOST_LOOKS = 500
"""A side that takes nothing for ten seconds is reset, whatever it was to get."""


def unsent(sock: socket.socket) -> int:
    """The number of bytes that the peer's machine has not confirmed. A reset would lose them.

    @return: 0 as well if that is not known. What was written to a UNIX socket has arrived.
    """
    if _ASK is None or sock.family == socket.AF_UNIX:
        return 0
    with suppress(OSError):
        (count,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), _ASK, bytes(4)))
        return int(count)
    return 0

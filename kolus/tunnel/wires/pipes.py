"""C{Pipes}: empty pipes, through which C{splice} moves bytes that no program looks at.

Its state is the empty pipes that nobody uses, and the number of those in use.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

__all__ = ["PIPE", "Pipe", "Pipes"]

PIPE = 1 << 20
"""Bytes that a pipe holds. A user who is not root may have 64 such pipes."""

_MOST = 48
_KEPT = 16
_SET_SIZE: int = getattr(fcntl, "F_SETPIPE_SZ", 1031)


class Pipe:
    """A pipe.

    @ivar reader: the descriptor to read from.
    @ivar writer: the descriptor to write to.
    @ivar held: the number of bytes in it.
    """

    __slots__ = ("held", "reader", "writer")

    def __init__(self) -> None:
        """
        @raise OSError: there is no descriptor left, or the pipe would be small.
        """
        self.held = 0
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.fcntl(self.writer, _SET_SIZE, PIPE)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close it; what it holds is gone."""
        os.close(self.reader)
        os.close(self.writer)


class Pipes:
    """Lends pipes to the directions that have much to move."""

    def __init__(self) -> None:
        self._empty: list[Pipe] = []
        self._lent = 0

    def take(self) -> Pipe | None:
        """An empty pipe; C{None} if there is none to be had: then bytes are copied."""
        if self._lent >= _MOST or not hasattr(os, "splice"):
            return None
        pipe = self._empty.pop() if self._empty else None
        if pipe is None:
            with suppress(OSError):
                pipe = Pipe()
        self._lent += pipe is not None
        return pipe

    def give_back(self, pipe: Pipe) -> None:
        """A pipe is not used any more."""
        self._lent -= 1
        if pipe.held or len(self._empty) >= _KEPT:
            pipe.close()
        else:
            self._empty.append(pipe)

    def __del__(self) -> None:
        for pipe in self._empty:
            pipe.close()

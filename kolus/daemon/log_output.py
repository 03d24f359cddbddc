"""C{LogOutput}: writes the log to a file or to stdout, and never waits for its reader.

Its state is the descriptor, how many lines were dropped since the last that was written, and
whether that one ends in the middle.
"""

from __future__ import annotations

import os
import select
from typing import Any

from twisted.logger import Logger

__all__ = ["LogOutput"]

_log = Logger()

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
_AT_ONCE = select.PIPE_BUF
"""Bytes that a pipe takes without blocking, if it is ready."""


class LogOutput:
    """A file of text, as observers of the log take it.

    What cannot be written at once is dropped: the pipe is full, or the disk. The next text that can
    be written comes after a line that says how many were dropped.

    @ivar encoding: that of the text.
    @ivar dropped: texts that were dropped since the last one that was written.
    """

    encoding = "utf-8"

    def __init__(self, path: str | None = None, descriptor: int = 1) -> None:
        """
        @param path: the file, to which the log is appended; C{None}: it is open already.
        @param descriptor: the file that is open already; stdout by default.
        @raise OSError: the file cannot be opened.
        """
        self.dropped = 0
        self._is_torn = False
        self._path = None if path is None else os.path.abspath(path)
        self._descriptor = descriptor if path is None else self._open()

    def write(self, text: str) -> None:
        if self.dropped:
            said = f"{self.dropped} lines of the log were dropped: nobody took them in time\n"
            text = "\n" * self._is_torn + said + text
        if self._write(text.encode(self.encoding, "backslashreplace")):
            self.dropped = 0
        else:
            self.dropped += 1

    def flush(self) -> None:
        """Nothing is kept back."""

    def reopen(self) -> None:
        """Open the file anew, as after it was moved away. If that fails, the log goes on in the old
        one, and says so. Stdout stays as it is."""
        if self._path is None:
            return
        try:
            descriptor = self._open()
        except OSError as error:
            _log.error(
                "the log goes on in the file that was moved away: cannot open {path}: {why}",
                path=self._path,
                why=error.strerror,
            )
            return
        os.close(self._descriptor)
        self._descriptor = descriptor

    def _open(self) -> int:
        path: Any = self._path
        return os.open(path, _APPEND, 0o644)

    def _write(self, data: bytes) -> bool:
        """Whether all was written; the begin of it may be."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        written = 0
        while written < len(data):
            ready = poll.poll(0)
            if not ready or not ready[0][1] & select.POLLOUT:
                return False
            try:
                written += os.write(self._descriptor, data[written : written + _AT_ONCE])
            except OSError:
                return False
            self._is_torn = written < len(data)
        return True

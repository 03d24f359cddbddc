"""C{UNIXListeningEndpoint}: listens on the path of a UNIX socket that a killed process left there.

A path is in use if somebody accepts connections on it, whatever process a lock file names: numbers
of processes are used again, in containers at once.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from zope.interface import implementer

__all__ = ["UNIXListeningEndpoint", "check_socket_path"]

_LONGEST = 107  # as Linux has it, and 103 elsewhere


def check_socket_path(path: str) -> None:
    """Find out whether a UNIX socket could be listened on there, as far as that shows now.

    @raise ValueError: it says why not.
    """
    if not path:
        raise ValueError("its path is empty")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise ValueError(f"there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"not allowed: this user may not write to the folder {folder}")
    if len(os.fsencode(path)) > _LONGEST:
        raise ValueError(
            f"its path has {len(os.fsencode(path))} bytes, and that of a socket at most {_LONGEST}"
        )
    if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
        raise ValueError(f"{path} is there, and is no socket: choose another path")


@implementer(IStreamServerEndpoint)
class UNIXListeningEndpoint:
    """Removes the socket if nobody listens on it, and listens as another endpoint does.

    @ivar path: the path of the socket.
    """

    def __init__(self, endpoint: Any, path: str) -> None:
        """
        @param endpoint: listens on the path, without a lock file.
        """
        self._endpoint = endpoint
        self.path = os.fspath(path)

    def listen(self, protocolFactory: Any) -> Deferred[Any]:
        """
        @return: fires with the port. Fails with C{CannotListenError} if somebody listens there, or
            there is something that is no socket.
        """
        try:
            with _alone_in(os.path.dirname(self.path) or "."):
                self._make_way()
                listening: Deferred[Any] = self._endpoint.listen(protocolFactory)
                return listening
        except OSError as error:
            return fail(CannotListenError("", self.path, error))

    def _make_way(self) -> None:
        try:
            is_socket = stat.S_ISSOCK(os.stat(self.path).st_mode)
        except FileNotFoundError:
            return
        if not is_socket:
            raise FileExistsError(f"{self.path} is there, and is no socket: choose another path")
        with socket.socket(socket.AF_UNIX) as asking:
            asking.setblocking(False)
            try:
                asking.connect(self.path)
            except (ConnectionRefusedError, FileNotFoundError):
                with suppress(FileNotFoundError):
                    os.unlink(self.path)
            except BlockingIOError:  # it listens, and its queue is full
                raise _in_use(self.path, "") from None
            else:
                holder = struct.unpack(
                    "3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                )[0]
                raise _in_use(self.path, f", process {holder}" if holder else "")


def _in_use(path: str, who: str) -> OSError:
    return OSError(f"somebody listens on {path} already{who}: stop it, or choose another path")


@contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """Nobody else who does this is between looking and listening."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

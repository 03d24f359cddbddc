"""C{ProcessPipes}: the pipes of a connection to a process: what lies in them unread, or unsent.

Its state is the connection, and the process, which Twisted takes pipes from as they end.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IProcessTransport

if TYPE_CHECKING:
    from kolus.connection.connection import Connection

__all__ = ["ProcessPipes", "pipes_of"]

_STDIN, _STDOUT = 0, 1


class ProcessPipes:
    """What C{Descriptor} is for a socket.

    @ivar base: what writes to the process.
    @ivar wrapper: nothing is above it.
    @ivar gathered: nor does anything gather writes.
    """

    __slots__ = ("_connection", "_pipes", "base", "gathered", "wrapper")

    def __init__(self, connection: Connection[Any], pipes: dict[int, Any]) -> None:
        self._connection = connection
        self._pipes = pipes
        self.base: Any = pipes[_STDIN]
        self.wrapper: Any = None
        self.gathered: Any = None

    def is_quiet(self) -> bool:
        """See C{Connection.is_quiet}."""
        why = self._came()
        if why:
            self._connection.out_of_step(why, abort=True)
        return not why

    def leave(self, now: float) -> None:
        """See C{Descriptor.leave}."""
        connection = self._connection
        if connection.doubtful and not connection.usable():
            return
        base = self.base
        if base._tempDataBuffer or base.dataBuffer:
            base.doWrite()
        if base._tempDataBuffer or base.dataBuffer:
            connection.out_of_step("its process has not taken all that was written")
        else:
            connection.is_quiet(now)

    def _came(self) -> str:
        output = self._pipes.get(_STDOUT)
        if output is None or _STDIN not in self._pipes or self.base.disconnecting:
            return "its process closed it"
        poll = select.poll()
        poll.register(output.fileno(), select.POLLIN)
        ready = poll.poll(0)
        if not ready:
            return ""
        has_bytes = ready[0][1] & select.POLLIN
        return "bytes that nobody had asked for were unread" if has_bytes else "its process ended"


def pipes_of(transport: Any) -> dict[int, Any] | None:
    """The pipes of the process that a transport speaks to, live, by the process's descriptors.

    @return: C{None} if it speaks to none, or these are not known.
    """
    process = getattr(transport, "_process", None)
    pipes = getattr(process, "pipes", None)
    if not (IProcessTransport.providedBy(process) and isinstance(pipes, dict)):
        return None
    return pipes

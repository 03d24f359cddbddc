"""C{Descriptor}: the socket of a connection: what lies in it unread, and what is still unsent.

The reactor reads a socket only in its next turn. So a connection that looks idle may have bytes or
an end to be read, which the next lessee would take for its own answer.

Its state is the connection, the transport at the bottom, which has the socket, the layer of TLS
above it, and what asks the kernel, once it was asked.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.abstract import FileDescriptor
from twisted.logger import Logger

from kolus.connection.process_pipes import ProcessPipes, pipes_of

if TYPE_CHECKING:
    from kolus.connection.connection import Connection

__all__ = ["Descriptor", "descriptor_of"]

_log = Logger()

_CLOSED = "its peer closed it"


class Descriptor:
    """The socket of one connection.

    @ivar base: the transport that has the socket.
    @ivar wrapper: the layer of TLS above it; C{None} if there is none yet.
    @ivar gathered: the small writes that this layer gathers for the reactor's next turn, live. If
        it does so in a way that is not known, something that is never empty.
    """

    __slots__ = ("_connection", "_poll", "base", "gathered", "wrapper")

    def __init__(self, connection: Connection[Any], base: Any, wrapper: Any) -> None:
        self._connection = connection
        self.base = base
        self.wrapper = wrapper
        self.gathered: Any = getattr(getattr(wrapper, "_aggregator", None), "_buffer", wrapper)
        self._poll: Any = None

    def is_quiet(self) -> bool:
        """See C{Connection.is_quiet}."""
        connection = self._connection
        if self.wrapper is None and not self.base.TLS:  # else some may have been read already
            poll = self._poll or self._ready()
            if not poll(0):
                return True
        came: list[bytes] = []
        connection.dataReceived = came.append
        why = self._came()
        connection.dataReceived = connection.unasked
        if came:
            why = f"{sum(map(len, came))} bytes that nobody had asked for were unread"
        if why:
            connection.out_of_step(why, abort=True)
        return not why

    def leave(self, now: float) -> None:
        """The last lessee releases the connection. Send what is unsent, and close it if that cannot
        be sent at once, or if something lies in it unread."""
        connection = self._connection
        if connection.doubtful and not connection.usable():
            return  # it is not leased again anyway
        base = self.base
        is_sent = not (base._tempDataBuffer or base.dataBuffer or base.TLS or self.wrapper)
        if is_sent or self._send():
            connection.is_quiet(now)
        else:
            connection.out_of_step("its peer has not taken all that was written")

    def _send(self) -> bool:
        """Send what was written and not sent yet, as far as the kernel takes it.

        @return: whether nothing is left.
        """
        base = self.base
        tls = self._tls()
        if tls is not None:
            aggregator = getattr(tls, "_aggregator", None)
            if aggregator is not None:
                aggregator.flush()
            if tls._appSendBuffer:
                return False
        if (base._tempDataBuffer or base.dataBuffer) and not base.disconnecting:
            base.doWrite()  # an error shows up again when the reactor writes or reads
        return not (base._tempDataBuffer or base.dataBuffer)

    def _came(self) -> str:
        """What has come and was not read; empty if nothing was.

        Over TLS what has come is read, since it may be of no concern to the protocol, such as a
        session ticket. What is for the protocol is given to the connection.
        """
        tls = self._tls()
        if tls is not None:
            return self._read(tls, bool((self._poll or self._ready())(0)))
        return self._peek()

    def _ready(self) -> Any:
        """Make what asks the kernel."""
        poll = select.poll()
        poll.register(self.base.fileno(), select.POLLIN)
        self._poll = poll.poll
        return self._poll

    def _peek(self) -> str:
        try:
            data = self.base.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return ""
        except OSError as error:
            return f"its peer broke it: {error}"
        return "bytes that nobody had asked for were unread" if data else _CLOSED

    def _read(self, tls: Any, is_readable: bool) -> str:
        try:
            if is_readable:
                ended = self.base.doRead() is not None
            else:
                tls._flushReceiveBIO()  # it may be giving what it has, piece by piece
                ended = False
        except Exception:
            _log.failure("reading what had come raised")
            ended = True
        return _CLOSED if ended or tls._lostTLSConnection or self.base.disconnecting else ""

    def _tls(self) -> Any:
        """The layer of TLS; C{None} if there is none."""
        return self.base.protocol if self.base.TLS else self.wrapper  # after a STARTTLS


def descriptor_of(
    connection: Connection[Any], layers: Iterable[Any]
) -> Descriptor | ProcessPipes | None:
    """
    @param layers: its transport, the transport that this wraps, and so on.
    @return: C{None} if it has no socket that can be asked, nor the pipes of a process.
    """
    *wrappers, base = layers
    pipes = pipes_of(base)
    if pipes is not None and hasattr(select, "poll"):
        return ProcessPipes(connection, pipes)
    is_known = isinstance(base, FileDescriptor) and hasattr(base, "TLS")
    has_socket = is_known and isinstance(getattr(base, "socket", None), socket.socket)
    if not (has_socket and hasattr(select, "poll")):
        return None
    tls = next((each for each in wrappers if hasattr(each, "_tlsConnection")), None)
    return Descriptor(connection, base, tls)

"""C{Handover}: gives the listening sockets of this process to a new one that takes its place.

Its state is the port on which new processes ask, and the one that does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from typing import Protocol as Structure

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from kolus.daemon.listening.endpoint_string import bare_socket
from kolus.daemon.listening.inheritance import Inheritance
from kolus.daemon.listening.listen_endpoint import listen_endpoint
from kolus.support import why_not_listening

__all__ = ["Handover", "Holder"]

_log = Logger()

_READY = b"ready\n"


class Holder(Structure):
    """Has listening ports."""

    def offers(self) -> list[tuple[str, IListeningPort]]:
        """The server endpoint strings of its ports, and the ports."""

    def release(self) -> None:
        """Accept no more, and close the descriptors of the ports, but not their sockets."""


class Handover(Factory):
    """Listens on a UNIX socket, of which only the same user may ask.

    A new process connects and gets the sockets with the list of their addresses. When it serves on
    them it says so, and this process lets its clients finish and ends. If it ends before, nothing
    has happened.
    """

    noisy = False

    def __init__(
        self,
        reactor: Any,
        path: str,
        holder: Holder,
        stop: Callable[[bool], None],
    ) -> None:
        """
        @param holder: what has the ports.
        @param stop: ends this process: in good order, or as failed.
        """
        self._reactor = reactor
        self._path = path
        self._holder = holder
        self._stop = stop
        self._port: IListeningPort | None = None
        self._successor: _Successor | None = None

    def begin(self, inheritance: Inheritance) -> None:
        """Take over, if somebody was there, and then be there for the next one. To be called when
        all addresses are listened on."""
        inheritance.settle()
        connection = inheritance.connection
        if connection is None:
            self.listen()
            return
        predecessor = Factory.forProtocol(lambda: _Predecessor(self.listen))
        predecessor.noisy = False
        connection.setblocking(False)
        self._reactor.adoptStreamConnection(connection.fileno(), connection.family, predecessor)
        connection.close()

    def listen(self) -> None:
        """Be there for a new process. If that fails, another one has taken over; this one ends."""
        description = f"unix:{quoteStringArgument(self._path)}:mode=600"
        listening: Deferred[Any] = listen_endpoint(self._reactor, description).listen(self)
        listening.addCallbacks(self._listens, self._cannot_listen, errbackArgs=(description,))

    def _listens(self, port: IListeningPort) -> None:
        self._port = port

    def _cannot_listen(self, failure: Failure, description: str) -> None:
        _log.critical("takeover: {why}", why=why_not_listening(description, failure))
        self._stop(False)

    def buildProtocol(self, addr: object) -> Protocol | None:
        if self.is_busy:
            return None
        self._successor = _Successor(self)
        return self._successor

    @property
    def is_busy(self) -> bool:
        """Whether a new process has the sockets, and does not serve yet."""
        return self._successor is not None

    # Called by _Successor

    def offers(self) -> list[tuple[str, Any]]:
        """What a new process gets."""
        return [each for each in self._holder.offers() if bare_socket(each[0]) is not None]

    def has_ended(self) -> None:
        """A new process has ended before it served."""
        self._successor = None
        _log.warn("a new process came to take over, and has ended: this one goes on")

    def hand_over(self) -> Deferred[None]:
        """A new process serves.

        @return: fires when the path is free for it.
        """
        return Deferred.fromCoroutine(self._hand_over())

    async def _hand_over(self) -> None:
        self._holder.release()
        _log.info("a new process has taken over: this one lets its clients finish, and ends")
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
        self._stop(True)


class _Successor(Protocol):
    """The connection of a new process."""

    transport: Any

    def __init__(self, handover: Handover) -> None:
        self._handover = handover
        self._said = b""
        self._is_over = False

    def connectionMade(self) -> None:
        offers = self._handover.offers()
        for _, port in offers:
            self.transport.sendFileDescriptor(port.fileno())
        self.transport.write(json.dumps([name for name, _ in offers]).encode() + b"\n")

    def dataReceived(self, data: bytes) -> None:
        self._said += data
        if self._said == _READY and not self._is_over:
            self._is_over = True
            over = self._handover.hand_over()
            over.addBoth(lambda _: self.transport.loseConnection())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._is_over:
            self._is_over = True
            self._handover.has_ended()


class _Predecessor(Protocol):
    """The connection to the process that ran before."""

    transport: Any

    def __init__(self, gone: Callable[[], None]) -> None:
        """
        @param gone: called when it serves no new client any more, and the path is free.
        """
        self._gone = gone

    def connectionMade(self) -> None:
        self.transport.write(_READY)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone()

"""The HTTP side: a site whose requests are limited in time and size, and that logs no dates.

Twisted's own access log takes the reactor's time for the time of day, which it is not in the
daemon. So there is none: the admin server logs who changed what by Twisted's logger.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import Request, Site
from zope.interface import implementer

from kolus.admin.call import json_bytes
from kolus.admin.problem import Problem

__all__ = ["AdminSite"]

_IDLE = 60.0
_REQUEST_TIMEOUT = 10.0
_BODY_LIMIT = 16 * 1024


@implementer(IHalfCloseableProtocol)
class _Channel(HTTPChannel):
    """Ends a connection whose request does not come in time. A client that ends its direction, as
    C{socat} does after its request, gets its answer.

    @ivar late: the time limit of the request that is coming; C{None}: none is.
    """

    site: Any
    requests: list[Any]
    transport: Any
    late: IDelayedCall | None = None

    def dataReceived(self, data: bytes) -> None:
        if self.late is None and not self.requests:  # what was asked before is answered
            self.late = self.callLater(_REQUEST_TIMEOUT, self._is_late)  # type: ignore[no-untyped-call]
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def allContentReceived(self) -> None:
        self._is_complete()
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._is_complete()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def readConnectionLost(self) -> None:
        self.loseConnection()  # type: ignore[no-untyped-call]

    def writeConnectionLost(self) -> None:
        """It is never half closed from here."""

    def _is_complete(self) -> None:
        if self.late is not None:
            self.late.cancel()
            self.late = None

    def _is_late(self) -> None:
        self.late = None
        self.refuse(Problem(408, f"no whole request in {_REQUEST_TIMEOUT:g} s"))

    def refuse(self, problem: Problem) -> None:
        """Answer a request that is not complete, and close."""
        body = json_bytes(problem.value())
        head = (
            f"HTTP/1.1 {problem.status} {problem.value()['title']}\r\n"
            "Content-Type: application/problem+json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        self.loseConnection()  # type: ignore[no-untyped-call]


class _Request(Request):
    """A request whose body has a limit."""

    site: Any
    channel: Any
    _size = 0
    _is_refused = False

    def gotLength(self, length: int | None) -> None:
        # A length of 0 gives a buffer in memory, never a temporary file.
        super().gotLength(0)  # type: ignore[no-untyped-call]
        self._take(length or 0)

    def handleContentChunk(self, data: bytes) -> None:
        if not self._is_refused:
            self._size += len(data)
            self._take(self._size)
        if not self._is_refused:
            super().handleContentChunk(data)  # type: ignore[no-untyped-call]

    def _take(self, size: int) -> None:
        if size > _BODY_LIMIT and not self._is_refused:
            self._is_refused = True
            self.channel.refuse(Problem(413, f"the body is longer than {_BODY_LIMIT} bytes"))

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if not self._is_refused:
            super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]


class AdminSite(Site):
    """The site of one place of listening."""

    protocol: Any = _Channel
    requestFactory = _Request
    displayTracebacks = False
    noisy = False

    def __init__(self, reactor: Any, resource: IResource) -> None:
        super().__init__(resource, reactor=reactor, timeout=_IDLE)  # type: ignore[no-untyped-call]

    def startFactory(self) -> None:
        """Twisted would open its access log."""

    def stopFactory(self) -> None:
        """There is nothing to close."""

    def log(self, request: Any) -> None:
        """There is no access log."""

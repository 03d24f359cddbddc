"""C{Client}: the client's end of a tunnel."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.lease import Lease
from kolus.tunnel.end import End
from kolus.tunnel.visitor import Visitor

__all__ = ["Client"]


@implementer(IHandshakeListener)
class Client(End):
    """The client's end of a tunnel.

    @ivar host: its address, as it was counted.
    @ivar visitor: who it is.
    @ivar timer: the time limit of its TLS handshake, while that is under way.
    @ivar wait: the request for a lease, while it waits.
    @ivar done: whether its task has ended: the connection only has to close.
    """

    timer: IDelayedCall | None = None
    wait: Deferred[Lease[End]] | None = None
    done = False

    def __init__(self, front: Any, host: str | None, visitor: Visitor | None = None) -> None:
        super().__init__()
        self._front = front
        self.host = host
        self._visitor = visitor

    @property
    def visitor(self) -> Visitor:
        if self._visitor is None:
            self._visitor = Visitor(self.transport)
        return self._visitor

    def connectionMade(self) -> None:
        super().connectionMade()
        if self.is_secured:
            self._front.shakes_hands(self)
        else:
            self._front.arrived(self)

    def handshakeCompleted(self) -> None:
        told = self.transport.getHandle().get_servername() or b""
        self.visitor.server_name = told.decode("ascii", "replace").lower()
        self._front.arrived(self)

    def readConnectionLost(self) -> None:
        super().readConnectionLost()
        if self.wait is not None and not self.has_bytes:
            self.wait.cancel()  # it has closed: one that still wants an answer has asked

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._front.left(self)

"""C{Client}: the client's end of a tunnel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.lease import Lease
from kolus.tunnel.client_info import ClientInfo
from kolus.tunnel.end import End

if TYPE_CHECKING:
    from kolus.tunnel.session import Session

__all__ = ["Client"]


@implementer(IHandshakeListener)
class Client(End):
    """The client's end of a tunnel.

    @ivar host: its address, as it was counted.
    @ivar info: who it is.
    @ivar timer: the time limit of its TLS handshake, while that is under way.
    @ivar number: tells it from all other clients of the front, once it asks for a lease.
    @ivar since: when it has asked, on the clock; C{served_at}: when it got the lease.
    @ivar wait: the request for a lease, while it waits.
    @ivar lease: what it got.
    @ivar session: it and its backend, while bytes are copied.
    @ivar done: whether nothing is done for it any more: the connection only has to close.
    """

    timer: IDelayedCall | None = None
    number = 0
    since = 0.0
    served_at: float | None = None
    wait: Deferred[Lease[End]] | None = None
    lease: Lease[End] | None = None
    session: Session | None = None
    done = False

    def __init__(self, front: Any, host: str | None, info: ClientInfo | None = None) -> None:
        super().__init__()
        self._front = front
        self.host = host
        self._info = info

    @property
    def info(self) -> ClientInfo:
        if self._info is None:
            self._info = ClientInfo(self.transport)
        return self._info

    def give_up(self) -> None:
        """Abort it, and what is done for it."""
        if self.wait is not None:
            self.wait.cancel()
        if self.session is not None:
            self.session.abort()
        self.abort()

    def connectionMade(self) -> None:
        super().connectionMade()
        if self.is_secured:
            self._front.shakes_hands(self)
        else:
            self._front.arrived(self)

    def handshakeCompleted(self) -> None:
        told = self.transport.getHandle().get_servername() or b""
        self.info.server_name = told.decode("ascii", "replace").lower()
        self._front.arrived(self)

    def readConnectionLost(self) -> None:
        super().readConnectionLost()
        if self.wait is not None and not self.has_bytes:
            self.wait.cancel()  # it has closed: one that still wants an answer has asked

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._front.left(self, reason.value)

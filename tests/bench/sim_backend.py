"""C{SimBackend}: a backend that serves a few requests at a time; the others wait.

Its state: whether it is up, and its slowness; its connections; the requests being served and those
waiting; and the number of leases of all its clients now, at most, and over time.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
)
from twisted.internet.interfaces import (
    IAddress,
    IProtocolFactory,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.bench.sim_clock import SimClock

if TYPE_CHECKING:
    from tests.bench.sim_client import Client, Request

__all__ = ["Caller", "SimBackend", "Wire"]

_ADDRESS = IPv4Address("TCP", "192.0.2.1", 1)
TRIP = 0.001
"""Seconds from here to there and back."""


@implementer(IStreamClientEndpoint)
class SimBackend:
    """An endpoint, and what is behind it.

    @ivar seconds: how long a request of mean size takes.
    @ivar slowness: by what that is multiplied now.
    @ivar up: whether it accepts connections.
    @ivar leased: how many leases are out.
    @ivar peak: how many were at most since C{restart}.
    @ivar served: how many requests it was given since then.
    """

    def __init__(self, clock: SimClock, name: str, seconds: float, workers: int) -> None:
        self.name = name
        self.seconds = seconds
        self.slowness = 1.0
        self.up = True
        self.leased = self.peak = self.served = 0
        self.wires: dict[Wire, None] = {}
        self._clock = clock
        self._workers = workers
        self._serving: dict[Request, None] = {}
        self._queue: deque[Request] = deque()
        self._sum, self._since = 0.0, 0.0

    # Connections

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        """See C{IStreamClientEndpoint}."""
        asked: Deferred[Any] = Deferred(
            lambda asked: asked.errback(ConnectingCancelledError(_ADDRESS))
        )
        self._clock.call_at(self._clock.rightNow + TRIP, self._answer, asked, factory)
        return asked

    def _answer(self, asked: Deferred[Any], factory: IProtocolFactory) -> None:
        if asked.called:
            return
        if not self.up:
            asked.errback(Failure(ConnectionRefusedError()))
            return
        protocol: Any = factory.buildProtocol(_ADDRESS)
        if protocol is not None:
            protocol.makeConnection(Wire(self._clock, self, protocol))
            asked.callback(protocol)

    def fail(self) -> None:
        """Drop all connections and what is under way, and accept no more."""
        self.up = False
        self._serving.clear()
        self._queue.clear()
        for wire in tuple(self.wires):
            wire.lose(ConnectionLost())

    def recover(self) -> None:
        self.up = True

    # Requests

    def serve(self, request: Request) -> None:
        """Take a request from a connection."""
        self.served += 1
        if not self.up:
            return  # its connection is about to be lost, too
        if len(self._serving) < self._workers:
            self._begin(request)
        else:
            self._queue.append(request)

    def _begin(self, request: Request) -> None:
        self._serving[request] = None
        seconds = request.size * self.seconds * self.slowness
        self._clock.call_at(self._clock.rightNow + seconds, self._end, request)

    def _end(self, request: Request) -> None:
        if request not in self._serving:
            return  # it was lost
        del self._serving[request]
        if self._queue:
            self._begin(self._queue.popleft())
        request.answered()

    # Load

    def lease(self, change: int) -> None:
        """So many leases more are out."""
        now = self._clock.rightNow
        self._sum += self.leased * (now - self._since)
        self._since = now
        self.leased += change
        self.peak = max(self.peak, self.leased)

    def restart(self) -> None:
        """Count load from now on."""
        self.lease(0)
        self._sum = 0.0
        self.peak, self.served = self.leased, 0

    def load(self) -> float:
        """How many leases were out since C{restart}, multiplied by the time."""
        self.lease(0)
        return self._sum


@implementer(ITransport)
class Wire:
    """The client's end of a connection: a transport that brings nothing but its own end.

    It has the attributes of Twisted's TCP transports by which a pool sees that one was closed.
    """

    TLS = False
    _writeDisconnecting = False

    def __init__(self, clock: SimClock, backend: SimBackend, protocol: Any) -> None:
        self.backend = backend
        self.disconnecting = self._aborting = False
        self.producer = None
        self._clock = clock
        self._protocol = protocol
        backend.wires[self] = None

    def lose(self, reason: Exception | None = None) -> None:
        """The connection ends."""
        if self in self.backend.wires:
            del self.backend.wires[self]
            self._protocol.connectionLost(Failure(reason or ConnectionDone()))

    def loseConnection(self) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self._clock.call_at(self._clock.rightNow, self.lose)

    def abortConnection(self) -> None:
        self._aborting = True
        self._clock.call_at(self._clock.rightNow, self.lose)

    def write(self, data: bytes) -> None: ...
    def writeSequence(self, data: object) -> None: ...
    def resumeProducing(self) -> None: ...
    def pauseProducing(self) -> None: ...
    def getPeer(self) -> IAddress:
        return _ADDRESS

    def getHost(self) -> IAddress:
        return _ADDRESS


class Caller(Protocol):
    """The protocol of one connection: it knows which request is under way.

    @ivar request: who has it.
    """

    transport: Wire

    def __init__(self, client: Client) -> None:
        self.request: Request | None = None
        self._client = client

    def connectionMade(self) -> None:
        self._client.opened(self.transport.backend, 1)

    def connectionLost(self, reason: object = None) -> None:
        self._client.opened(self.transport.backend, -1)
        if self.request is not None:
            self.request.lost()

"""Runs one script of events with a C{FakeBackend} on a clock, and with TCP on the loopback device.

Both record what the client's protocol and its endpoint's Deferred see, in order, and whether it
happens within a call of the client or in a later turn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.interfaces import IHalfCloseableProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.testing import FakeBackend
from tests.net.peers import Asker, Host
from tests.net.servers import free_port

__all__ = ["FakeScene", "HalfCloser", "RealScene", "Recorder", "Scene"]

Reaction = Callable[["Recorder"], object]


class Recorder(Protocol):
    """A client that records its events, and then reacts as the script says."""

    transport: Any

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def _hear(self, event: str, detail: str = "") -> None:
        self._scene.trace.append(f"{event} {detail}".rstrip())
        reaction = self._scene.reactions.get(event)
        if reaction is not None:
            reaction(self)

    def connectionMade(self) -> None:
        self._hear("connectionMade")

    def dataReceived(self, data: bytes) -> None:
        self._hear("dataReceived", repr(data))

    def connectionLost(self, reason: Failure) -> None:
        self._hear("connectionLost", type(reason.value).__name__)


@implementer(IHalfCloseableProtocol)
class HalfCloser(Recorder):
    """A client that hears of each half."""

    def readConnectionLost(self) -> None:
        self._hear("readConnectionLost")

    def writeConnectionLost(self) -> None:
        self._hear("writeConnectionLost")


class Scene(ABC):
    """The actions of a script, and the record of what happened.

    @ivar trace: what was seen so far.
    @ivar reactions: what the client does when it is told something.
    @ivar client: the client's protocol, once it was asked for.
    @ivar peer: the backend's end of the connection.
    """

    client: Recorder
    peer: Any

    def __init__(self) -> None:
        self.trace: list[str] = []
        self.reactions: dict[str, Reaction] = {}

    def connect(self, kind: Callable[[Scene], Recorder | None] = Recorder) -> None:
        """Ask the endpoint for a connection."""
        self._ask(self._endpoint(), kind)

    def connect_in_vain(self) -> None:
        """Ask an endpoint where nobody listens."""
        self._ask(self._closed_endpoint(), Recorder)

    def cancel(self) -> None:
        """Cancel the connect."""
        self.trace.append("cancel begins")
        self._asked.cancel()
        self.trace.append("cancel returns")

    async def connected(self, kind: Callable[[Scene], Recorder] = Recorder) -> None:
        """Have a connection."""
        self.connect(kind)
        await self.settle()
        self.peer = self._accepted()

    def act(self, method: str, *arguments: object) -> None:
        """Call a method of the client's transport."""
        self.trace.append(f"{method} begins")
        getattr(self.client.transport, method)(*arguments)
        self.trace.append(f"{method} returns")

    def look(self) -> None:
        """Write down what the peer has got."""
        self.trace.append(f"peer has {self.peer.received!r}, eof {self.peer.saw_eof}")

    @abstractmethod
    async def begin(self) -> None:
        """Make everything ready for a script."""

    @abstractmethod
    async def settle(self) -> None:
        """Wait until all that was sent has arrived and been told."""

    @abstractmethod
    async def end(self) -> None:
        """Leave nothing behind."""

    @abstractmethod
    def _endpoint(self) -> IStreamClientEndpoint:
        """What a client connects to."""

    @abstractmethod
    def _closed_endpoint(self) -> IStreamClientEndpoint:
        """One where nobody listens."""

    @abstractmethod
    def _accepted(self) -> Any:
        """The backend's end of the connection."""

    def _ask(
        self, endpoint: IStreamClientEndpoint, kind: Callable[[Scene], Recorder | None]
    ) -> None:
        def build() -> Any:
            self.client = kind(self)  # type: ignore[assignment]
            return self.client

        self.trace.append("connect begins")
        factory = Factory.forProtocol(build)  # type: ignore[arg-type]
        factory.noisy = False
        self._asked = endpoint.connect(factory)
        self._asked.addCallbacks(
            lambda protocol: self.trace.append(f"fired {protocol is self.client}"),
            lambda failure: self.trace.append(f"failed {type(failure.value).__name__}"),
        )
        self.trace.append("connect returns")


class FakeScene(Scene):
    """On a clock."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = Clock()
        self._backend = FakeBackend(self._clock, respond=lambda data: data)

    async def begin(self) -> None:
        """There is nothing to make ready."""

    async def settle(self) -> None:
        self._clock.pump([0.01] * 5)

    async def end(self) -> None:
        assert self._clock.getDelayedCalls() == []

    def _endpoint(self) -> IStreamClientEndpoint:
        return self._backend.accept(after=0.01)

    def _closed_endpoint(self) -> IStreamClientEndpoint:
        return self._backend.refuse(after=0.01)

    def _accepted(self) -> Any:
        return self._backend.accepted[-1]


class RealScene(Scene):
    """On the loopback device.

    To know that all has arrived, a few pieces go round over a connection beside it: nothing on
    the loopback device overtakes.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self._reactor = reactor
        self._host = Host()
        self._beside = Host()
        self._asker = Asker()

    async def begin(self) -> None:
        for host in (self._host, self._beside):
            await host.listen(TCP4ServerEndpoint(self._reactor, 0, interface="127.0.0.1"))
        beside = TCP4ClientEndpoint(self._reactor, "127.0.0.1", self._beside.port)
        await connectProtocol(beside, self._asker)

    async def settle(self) -> None:
        for _ in range(5):
            await self._asker.ask(b"?")

    async def end(self) -> None:
        client = getattr(self, "client", None)
        if client is not None and client.transport is not None:
            client.transport.abortConnection()
        self._asker.transport.abortConnection()
        await self._host.stop()
        await self._beside.stop()

    def _endpoint(self) -> IStreamClientEndpoint:
        return TCP4ClientEndpoint(self._reactor, "127.0.0.1", self._host.port)

    def _closed_endpoint(self) -> IStreamClientEndpoint:
        return TCP4ClientEndpoint(self._reactor, "127.0.0.1", free_port())

    def _accepted(self) -> Any:
        return self._host.accepted[-1]

"""The rig for connecting by name: an endpoint, and a fake network that a test controls."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionRefusedError
from twisted.internet.interfaces import IHostnameResolver, IReactorPluggableNameResolver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.endpoints import NamedEndpoint
from kolus.testing.results import result_of

__all__ = ["LATE", "ONE", "THREE", "TWO", "Resolver", "Rig", "fresh"]


ONE, TWO, THREE = "10.0.0.1", "10.0.0.2", "10.0.0.3"
LATE = 0.25


class Question:
    """One resolution, as the fake resolver was asked for it."""

    def __init__(self, receiver: Any, host: str, port: int) -> None:
        self.name = host
        self.port = port
        self.cancelled = 0
        self.can_be_cancelled = True
        self._receiver = receiver

    def answer(self, *hosts: str) -> None:
        for host in hosts:
            kind: Any = IPv4Address if ip_address(host).version == 4 else IPv6Address
            self._receiver.addressResolved(kind("TCP", host, self.port))
        self._receiver.resolutionComplete()

    def cancel(self) -> None:
        if not self.can_be_cancelled:
            raise NotImplementedError
        self.cancelled += 1


@implementer(IHostnameResolver)
class Resolver:
    """A fake resolver.

    @ivar answers: the addresses to answer at once; C{None} to let the question wait.
    """

    def __init__(self) -> None:
        self.answers: list[str] | None = None
        self.asked: list[Question] = []

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        question = Question(resolutionReceiver, hostName, portNumber)
        self.asked.append(question)
        resolutionReceiver.resolutionBegan(question)
        if self.answers is not None:
            question.answer(*self.answers)
        return question


@implementer(IReactorPluggableNameResolver)
class Reactor(MemoryReactorClock):
    """A fake reactor with a resolver, which older Twisted's fake does not have."""

    def __init__(self, resolver: IHostnameResolver) -> None:
        super().__init__()
        self.nameResolver = resolver

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        before, self.nameResolver = self.nameResolver, resolver
        return before


class Builder(Factory):
    """Counts what it builds."""

    noisy = False

    def __init__(self) -> None:
        self.built_for: list[Any] = []

    def buildProtocol(self, addr: Any) -> Protocol:
        self.built_for.append(addr)
        return Protocol()


class Rig:
    """An endpoint in a fake network."""

    def __init__(self) -> None:
        self.resolver = Resolver()
        self.reactor = Reactor(self.resolver)
        self.endpoint = NamedEndpoint(self.reactor, "a.test", 80)
        self.factory = Builder()

    def connect(self) -> Deferred[Any]:
        return self.endpoint.connect(self.factory)

    @property
    def tried(self) -> list[str]:
        """Every address so far to which a connection was begun."""
        return [each[0] for each in self.reactor.tcpClients]

    @property
    def stopped(self) -> list[str]:
        """Those whose attempt was ended."""
        attempts: Any = zip(self.tried, self.reactor.connectors, strict=True)
        return [host for host, connector in attempts if connector.stoppedConnecting]

    def accept(self, number: int = -1) -> bool:
        """Let an attempt succeed, the last by default; whether the connection is kept."""
        host, port, factory = self.reactor.tcpClients[number][:3]
        protocol = factory.buildProtocol(IPv4Address("TCP", host, port))
        if protocol is not None:
            protocol.makeConnection(StringTransport())
        return protocol is not None

    def refuse(self, number: int = -1, kind: type[ConnectError] = ConnectionRefusedError) -> None:
        factory: Any = self.reactor.tcpClients[number][2]
        factory.clientConnectionFailed(self.reactor.connectors[number], Failure(kind()))

    def begins_at(self) -> str:
        """Where the next connect begins; it succeeds there."""
        made = self.connect()
        host = self.tried[-1]
        self.accept()
        result_of(made)
        return host


def fresh() -> Iterator[Rig]:
    """A fixture for a rig that must leave nothing in its reactor."""
    rig = Rig()
    yield rig
    assert rig.reactor.getDelayedCalls() == []

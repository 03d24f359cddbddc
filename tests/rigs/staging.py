"""The rig for the front service: a service made of fakes, on a clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from zope.interface import implementer

from kolus.backend import Backend
from kolus.config import Config, GroupSettings, ListenerConfig
from kolus.daemon.daemon import Daemon
from kolus.daemon.front_service import FrontService, Listening
from kolus.daemon.served_group import AHEAD, ServedGroup
from kolus.interfaces import ISource
from kolus.lease import Lease
from kolus.testing import FakeBackend, result_of

__all__ = ["FakeListener", "FakePort", "FakeSource", "Stage", "messages"]


@implementer(IListeningPort)
class FakePort:
    """A listening port of an address.

    @ivar listening: whether it is open.
    """

    def __init__(self, address: Any) -> None:
        self.address = address
        self.listening = True

    def startListening(self) -> None:
        self.listening = True

    def stopListening(self) -> Deferred[None]:
        self.listening = False
        return succeed(None)

    def getHost(self) -> Any:
        return self.address


@implementer(IStreamServerEndpoint)
class FakeListener:
    """A server endpoint that gives a port, or fails.

    @ivar port: what it listens with.
    @ivar factory: whose protocols it would build.
    """

    def __init__(self, outcome: object = None) -> None:
        self.port = FakePort(IPv4Address("TCP", "127.0.0.1", 6380))
        self.outcome = outcome
        self.factory: object = None

    def listen(self, protocolFactory: object) -> Deferred[Any]:
        self.factory = protocolFactory
        if isinstance(self.outcome, Exception):
            return fail(self.outcome)
        if isinstance(self.outcome, Deferred):
            return self.outcome
        return succeed(self.port)


class FakeFront(Factory):
    """A front; the test decides when its draining ends.

    @ivar graces: the grace of each call of C{drain}.
    @ivar aborted: whether its clients were aborted.
    @ivar is_empty: whether nobody is connected, as the test says.
    @ivar told: the settings of each call of C{change}.
    @ivar header_factory: the factory of addresses whose clients send a header.
    @ivar taken: the ports of other fronts that it goes on with, and their factories.
    """

    clients = served = refused = 0

    def __init__(self) -> None:
        self.aborted = False
        self.graces: list[float] = []
        self.is_empty = True
        self.told: list[tuple[Any, ...]] = []
        self.header_factory = Factory()
        self.taken: list[tuple[Any, Any]] = []
        self.drained: Deferred[int] = Deferred()

    def change(self, *told: Any) -> None:
        self.told.append(told)

    def drain(self, grace: float) -> Deferred[int]:
        self.graces.append(grace)
        return self.drained

    def listens(self, port: Any, factory: object) -> Any:
        return port

    def takes(self, port: Any, factory: object) -> None:
        self.taken.append((port, factory))

    def behind_balancers(self) -> Factory:
        return self.header_factory

    def forgets(self, port: object) -> None:
        """It has no ports."""

    def abort(self) -> None:
        self.aborted = True


@implementer(ISource)
class FakeSource:
    """A source that a test controls.

    @ivar first: the list that it gives when it is started.
    @ivar started: whether it is started.
    """

    def __init__(self, *first: Backend) -> None:
        self.first = first
        self.started = False

    def start(self, listener: Callable[[Sequence[Backend]], object]) -> None:
        self.started = True
        self._listener = listener
        if self.first:
            listener(self.first)

    def stop(self) -> None:
        self.started = False

    def tell(self, *backends: Backend) -> None:
        assert self.started
        self._listener(backends)


class Stage:
    """A daemon made of fakes, with one group and one listener.

    @ivar fake: the fake behind its first backend.
    @ivar other: the fake behind another backend, which the source does not list at first.
    """

    def __init__(self, *listeners: FakeListener, ahead: int = 0, limit: int = 10) -> None:
        self.clock = Clock()
        self.fake, self.other = FakeBackend(self.clock), FakeBackend(self.clock)
        self.backend = Backend(self.fake, name="the backend")
        self.second = Backend(self.other, name="the other")
        self.source = FakeSource(self.backend)
        self.front = FakeFront()
        settings = GroupSettings(source="a fake", limit=limit, connect_ahead=ahead)
        listener = ListenerConfig(listen=("tcp:6380",), group="backends")
        config = Config(groups={"backends": settings}, listeners={"clients": listener}, grace=7.0)
        self.endpoints = listeners
        self.service = Daemon(config, self)
        self.pool = self.service.groups["backends"].pool

    # As a Maker

    def make_group(self, config: Config, name: str) -> ServedGroup:
        return ServedGroup(self.clock, name, config.groups[name], self.make_source(config, name))

    def make_source(self, config: Config, name: str) -> FakeSource:
        return self.source

    def make_listener(self, config: Config, name: str, connect: object) -> FrontService:
        return FrontService(self.front, self.listening(config, name), grace=config.grace)

    def listening(self, config: Config, name: str) -> list[Listening]:
        return [("tcp:6380", each) for each in self.endpoints]

    def front_settings(self, config: Config, name: str) -> tuple[Any, Any, Any]:
        return config.listeners[name].settings, None, None

    def connect(self) -> Deferred[Lease[Any]]:
        """Ask for a lease, as the front does for a client."""
        return self.service.connect("clients", AHEAD)

    @property
    def ports(self) -> list[IListeningPort]:
        return self.service.listeners["clients"].ports

    def answer_slowly(self) -> None:
        """As real backends do: connecting takes a moment."""
        for each in (self.fake, self.other):
            each.accept(after=0.01, always=True)

    def turn(self, seconds: float = 0.1) -> None:
        self.clock.pump([seconds / 10] * 10)

    def end(self) -> None:
        """Stop it, with nothing left that its source could have told of."""
        self.front.drained.callback(0)
        stopped = self.service.stopService()
        self.turn(10)
        assert result_of(stopped) is None
        assert not self.source.started
        assert self.fake.connections + self.other.connections == []


def messages(events: list[LogEvent]) -> list[str]:
    """What the service logs."""
    ours = [
        event for event in events if str(event.get("log_namespace")).startswith("kolus.daemon.")
    ]
    return [event["log_format"].format(**event) for event in ours]

"""The services: a front listens and drains, and either closes its pool when it is stopped."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.application.service import IService, MultiService
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from kolus.backend import Backend
from kolus.errors import Closed
from kolus.policy import Policy
from kolus.pool import Pool
from kolus.service import CannotListen, FrontService, PoolService
from kolus.testing import FakeBackend, NotFired, result_of


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
    """A front whose draining the test ends.

    @ivar graces: the grace of each call of C{drain}.
    """

    def __init__(self) -> None:
        self.graces: list[float] = []
        self.drained: Deferred[int] = Deferred()

    def drain(self, grace: float) -> Deferred[int]:
        self.graces.append(grace)
        return self.drained


class Stage:
    """A service of fakes.

    @ivar fake: what its one backend does.
    """

    def __init__(self, *listeners: FakeListener, ahead: int = 0) -> None:
        self.clock = Clock()
        self.fake = FakeBackend(self.clock)
        self.backend = Backend(self.fake, name="the backend")
        self.front = FakeFront()
        self.pool: Pool[Protocol] = Pool(self.clock, Protocol, policy=Policy(min_idle=ahead))
        self.service = FrontService(
            self.front,
            self.pool,
            [("tcp:6380", each) for each in listeners],
            ident="clients",
            ahead=[self.backend] if ahead else [],
            grace=7.0,
        )


def messages(events: list[LogEvent]) -> list[str]:
    return [event["log_format"].format(**event) for event in events if event.get("log_format")]


def test_it_listens_with_the_front_on_every_address(log_events: list[LogEvent]) -> None:
    listeners = (FakeListener(), FakeListener())
    stage = Stage(*listeners)
    stage.service.privilegedStartService()
    stage.service.startService()
    assert [each.factory for each in listeners] == [stage.front, stage.front]
    assert stage.service.ports == [each.port for each in listeners]
    assert messages(log_events) == ["kolus listens on 127.0.0.1:6380"] * 2


def test_it_listens_when_nobody_called_privileged_start() -> None:
    listener = FakeListener()
    stage = Stage(listener)
    stage.service.startService()
    assert stage.service.ports == [listener.port]


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (IPv6Address("TCP", "::1", 6380), "[::1]:6380"),
        (UNIXAddress("/run/kolus"), "/run/kolus"),
    ],
)
def test_the_address_it_listens_on_is_logged_readably(
    address: object, text: str, log_events: list[LogEvent]
) -> None:
    listener = FakeListener()
    listener.port = FakePort(address)
    Stage(listener).service.startService()
    assert messages(log_events) == [f"kolus listens on {text}"]


def test_an_address_in_use_ends_the_start_and_is_named() -> None:
    stage = Stage(FakeListener(CannotListenError("", 6380, OSError("in use"))))
    with pytest.raises(CannotListen, match="cannot listen on tcp:6380: in use"):
        stage.service.privilegedStartService()


def test_an_address_that_is_refused_late_is_logged(log_events: list[LogEvent]) -> None:
    outcome: Deferred[Any] = Deferred()
    stage = Stage(FakeListener(outcome))
    stage.service.startService()
    outcome.errback(CannotListenError("", 6380, OSError("in use")))
    assert messages(log_events) == ["cannot listen on tcp:6380: in use"]


def test_connections_are_ready_before_any_client_comes() -> None:
    stage = Stage(FakeListener(), ahead=3)
    stage.fake.accept(after=0.01, always=True)
    stage.service.startService()
    stage.clock.pump([0.01] * 10)
    assert len(stage.fake.connections) == 3
    (status,) = stage.pool.status([stage.backend])
    assert (status.idle, status.leased) == (3, 0)


def test_a_backend_that_is_away_at_the_start_is_logged_and_connected_to_later(
    log_events: list[LogEvent],
) -> None:
    stage = Stage(FakeListener(), ahead=2)
    stage.fake.refuse()
    stage.service.startService()
    (line,) = (each for each in messages(log_events) if "going on without" in each)
    assert "no connection to the backend is ready yet" in line
    assert stage.service.running
    stage.clock.pump([0.1] * 10)
    assert len(stage.fake.connections) == 2


def test_stopping_closes_the_ports_drains_the_front_and_then_closes_the_pool() -> None:
    listener = FakeListener()
    stage = Stage(listener)
    stage.service.startService()
    lease = result_of(stage.pool.connect("clients", stage.backend))
    stopped = stage.service.stopService()
    assert not listener.port.listening
    assert stage.front.graces == [7.0]
    assert result_of(stage.pool.connect("clients", stage.backend)).held
    lease.finished()
    with pytest.raises(NotFired):
        result_of(stopped)
    stage.front.drained.callback(0)
    with pytest.raises(Closed):
        result_of(stage.pool.connect("clients", stage.backend))
    stage.clock.pump([0.1] * 100)
    assert result_of(stopped) is None
    assert stage.fake.connections == []


def test_stopping_while_it_connects_ahead_is_no_failure(log_events: list[LogEvent]) -> None:
    stage = Stage(FakeListener(), ahead=1)
    stage.fake.never_answer()
    stage.service.startService()
    stage.front.drained.callback(0)
    stopped = stage.service.stopService()
    stage.clock.pump([0.1] * 100)
    assert result_of(stopped) is None
    assert not [each for each in messages(log_events) if "going on without" in each]


# A pool as a part of an application


class Application:
    """An application with a pool, on a clock; it runs.

    @ivar parent: the application.
    """

    def __init__(self, **options: float) -> None:
        self.clock = Clock()
        self.fake = FakeBackend(self.clock)
        self.backend = Backend(self.fake, name="the backend")
        self.pool: Pool[Protocol] = Pool(self.clock, Protocol)
        self.service = PoolService(self.pool, **options)
        self.parent: Any = MultiService()  # type: ignore[no-untyped-call]
        self.service.setServiceParent(self.parent)
        self.parent.startService()

    def turn(self) -> None:
        self.clock.pump([0, 0, 0])


def test_a_pool_service_is_a_service_and_starting_it_connects_nowhere() -> None:
    app = Application()
    assert verifyObject(IService, app.service)
    assert app.service.running
    assert app.clock.getDelayedCalls() == []
    assert app.pool.status() == []


def test_an_application_that_stops_waits_for_the_leases_of_its_pool() -> None:
    app = Application()
    lease = result_of(app.pool.connect("us", app.backend))
    stopped = app.parent.stopService()
    assert not app.service.running
    with pytest.raises(Closed):
        result_of(app.pool.connect("us", app.backend))
    app.clock.advance(9.9)
    with pytest.raises(NotFired):
        result_of(stopped)
    lease.release()
    app.turn()
    result_of(stopped)
    assert app.fake.connections == []


def test_an_application_that_stops_aborts_what_is_leased_for_too_long() -> None:
    app = Application(timeout=2.0)
    lease = result_of(app.pool.connect("us", app.backend))
    stopped = app.parent.stopService()
    app.clock.advance(1.9)
    assert len(app.fake.connections) == 1
    app.clock.advance(0.2)
    app.turn()
    result_of(stopped)
    assert app.fake.connections == []
    lease.finished()


def test_a_pool_service_may_give_no_time_at_all() -> None:
    app = Application(timeout=0)
    lease = result_of(app.pool.connect("us", app.backend))
    stopped = app.parent.stopService()
    app.turn()
    result_of(stopped)
    lease.finished()


def test_stopping_a_pool_service_twice_is_harmless() -> None:
    app = Application()
    lease = result_of(app.pool.connect("us", app.backend))
    stopped = [app.service.stopService(), app.service.stopService()]
    lease.release()
    app.turn()
    assert [result_of(each) for each in stopped] == [None, None]
    assert result_of(app.service.stopService()) is None


def test_a_pool_that_was_never_used_is_closed_at_once() -> None:
    app = Application()
    result_of(app.parent.stopService())
    with pytest.raises(Closed):
        result_of(app.pool.connect("us", app.backend))


@pytest.mark.parametrize("timeout", [-1, float("nan"), None, "10", True])
def test_a_pool_service_refuses_what_is_no_length_of_time(timeout: Any) -> None:
    pool: Pool[Any] = Pool(Clock(), Protocol)
    with pytest.raises(ValueError, match="timeout must"):
        PoolService(pool, timeout)

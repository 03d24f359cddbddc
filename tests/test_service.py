"""The services: a front listens and drains, and either closes its pool when it is stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
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
from kolus.errors import Closed, NoBackend
from kolus.interfaces import ISource
from kolus.policy import Policy
from kolus.pool import Pool
from kolus.service import AheadSource, CannotListen, FrontService, PoolService
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


@implementer(ISource)
class FakeSource:
    """A source that tells what a test tells it.

    @ivar first: what it tells as soon as it is started.
    @ivar started: whether it is.
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
    """A service of fakes.

    @ivar fake: what its first backend does.
    @ivar other: what another one does, of which its source does not tell by itself.
    """

    def __init__(self, *listeners: FakeListener, ahead: int = 0, limit: int = 10) -> None:
        self.clock = Clock()
        self.fake, self.other = FakeBackend(self.clock), FakeBackend(self.clock)
        self.backend = Backend(self.fake, name="the backend")
        self.second = Backend(self.other, name="the other")
        self.source = FakeSource(self.backend)
        self.front = FakeFront()
        policy = Policy(min_idle=ahead, limit=limit)
        self.pool: Pool[Protocol] = Pool(self.clock, Protocol, policy=policy)
        source = AheadSource(self.source, self.pool, "clients") if ahead else self.source
        self.service = FrontService(
            self.front,
            self.pool,
            [("tcp:6380", each) for each in listeners],
            ident="clients",
            make_group=partial(self.pool.group, source, name="the source"),
            grace=7.0,
        )

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
    ours = [event for event in events if event.get("log_namespace") == "kolus.service"]
    return [event["log_format"].format(**event) for event in ours]


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
    stage.fake.never_answer(always=True)
    stage.service.startService()
    stage.front.drained.callback(0)
    stopped = stage.service.stopService()
    stage.clock.pump([0.1] * 100)
    assert result_of(stopped) is None
    assert not [each for each in messages(log_events) if "going on without" in each]


# The group that clients' leases are of


def test_the_source_is_started_with_the_service_and_not_before() -> None:
    stage = Stage(FakeListener())
    stage.service.privilegedStartService()
    assert not stage.source.started
    stage.service.startService()
    assert stage.source.started
    stage.end()


def test_a_service_that_cannot_listen_does_not_start_its_source() -> None:
    stage = Stage(FakeListener(CannotListenError("", 6380, OSError("in use"))))
    with pytest.raises(CannotListen):
        stage.service.startService()
    assert not stage.source.started


def test_a_client_that_comes_before_the_first_list_waits_for_it() -> None:
    stage = Stage(FakeListener())
    stage.source.first = ()
    stage.service.startService()
    asked = stage.service.connect()
    stage.turn()
    with pytest.raises(NotFired):
        result_of(asked)
    stage.source.tell(stage.backend)
    stage.turn()
    lease = result_of(asked)
    assert lease.manager.backend is stage.backend
    assert lease.ident == "clients"
    lease.release()
    stage.end()


def test_a_client_that_no_list_came_for_in_time_is_told_the_name_of_the_source() -> None:
    stage = Stage(FakeListener())
    stage.source.first = ()
    stage.service.startService()
    asked = stage.service.connect()
    stage.turn(5.1)
    with pytest.raises(NoBackend, match="'the source' of 0 backends"):
        result_of(asked)
    stage.end()


def test_a_client_that_waits_gets_what_is_free_first_at_any_backend() -> None:
    stage = Stage(FakeListener(), limit=1)
    stage.source.first = (stage.backend, stage.second)
    stage.service.startService()
    one, other = [result_of(stage.service.connect()) for _ in range(2)]
    assert {one.manager.backend, other.manager.backend} == {stage.backend, stage.second}
    waiting = [stage.service.connect() for _ in range(4)]
    for each in waiting:
        one.release()
        later = result_of(each)
        assert later.manager is one.manager
        one = later
    one.release()
    other.release()
    stage.end()


def test_clients_go_where_the_source_says_now() -> None:
    stage = Stage(FakeListener())
    stage.service.startService()
    stage.source.tell(stage.second)
    leases = [result_of(stage.service.connect()) for _ in range(3)]
    assert {each.manager.backend for each in leases} == {stage.second}
    for each in leases:
        each.release()
    stage.end()


def test_the_source_is_heard_until_the_last_client_is_served() -> None:
    stage = Stage(FakeListener())
    stage.service.startService()
    stopped = stage.service.stopService()
    stage.source.tell(stage.second)
    lease = result_of(stage.service.connect())  # a client that was in the queue of the port
    assert lease.manager.backend is stage.second
    lease.finished()
    stage.front.drained.callback(0)
    assert not stage.source.started
    stage.turn(10)
    assert result_of(stopped) is None


# Connections ahead, wherever the source tells of a backend


def test_a_source_with_connections_ahead_is_a_source() -> None:
    source = AheadSource(FakeSource(), Pool(Clock(), Protocol), "clients")
    assert verifyObject(ISource, source)


def test_connections_are_ready_at_a_backend_that_comes_later() -> None:
    stage = Stage(FakeListener(), ahead=2)
    stage.answer_slowly()
    stage.service.startService()
    stage.turn()
    assert (len(stage.fake.connections), len(stage.other.connections)) == (2, 0)
    stage.source.tell(stage.backend, stage.second)
    stage.turn()
    assert (len(stage.fake.connections), len(stage.other.connections)) == (2, 2)
    stage.end()


def test_connections_ahead_are_closed_at_a_backend_that_leaves() -> None:
    stage = Stage(FakeListener(), ahead=2)
    stage.answer_slowly()
    stage.service.startService()
    stage.turn()
    stage.source.tell(stage.second)
    stage.turn()
    assert (len(stage.fake.connections), len(stage.other.connections)) == (0, 2)
    stage.end()


def test_a_backend_that_is_told_again_is_not_connected_to_again() -> None:
    stage = Stage(FakeListener(), ahead=2)
    stage.answer_slowly()
    stage.service.startService()
    stage.turn()
    made = list(stage.fake.connections)
    for _ in range(3):
        stage.source.tell(stage.backend, stage.second)
        stage.source.tell(stage.second, stage.backend)
        stage.turn()
    assert stage.fake.connections == made
    assert stage.fake.attempts == 2
    stage.end()


def test_a_backend_that_is_back_before_its_last_client_went_gets_its_connections_then() -> None:
    stage = Stage(FakeListener(), ahead=2)
    stage.answer_slowly()
    stage.service.startService()
    stage.turn()
    lease = result_of(stage.service.connect())
    stage.turn()
    stage.source.tell(stage.second)
    stage.source.tell(stage.backend, stage.second)
    stage.turn()
    assert len(stage.fake.connections) == 1
    lease.finished()
    stage.turn()
    assert len(stage.fake.connections) == 2
    assert not lease.held
    stage.end()


def test_a_backend_that_has_left_for_good_is_not_connected_to_when_its_last_client_went() -> None:
    stage = Stage(FakeListener(), ahead=2)
    stage.answer_slowly()
    stage.service.startService()
    stage.turn()
    lease = result_of(stage.service.connect())
    stage.turn()
    stage.source.tell(stage.second)
    stage.source.tell(stage.backend, stage.second)
    stage.source.tell(stage.second)
    lease.finished()
    stage.turn()
    assert stage.fake.connections == []
    stage.end()


def test_a_backend_that_is_away_when_it_is_told_of_is_logged_and_connected_to_later(
    log_events: list[LogEvent],
) -> None:
    stage = Stage(FakeListener(), ahead=2)
    stage.service.startService()
    stage.other.refuse()
    stage.source.tell(stage.backend, stage.second)
    (line,) = (each for each in messages(log_events) if "going on without" in each)
    assert "no connection to the other is ready yet" in line
    stage.turn(1)
    assert len(stage.other.connections) == 2
    stage.end()


def test_who_waits_for_the_first_list_is_served_before_connections_are_made_ahead() -> None:
    stage = Stage(FakeListener(), ahead=1, limit=1)
    stage.source.first = ()
    stage.service.startService()
    asked = stage.service.connect()
    stage.fake.accept(after=0.01)
    stage.source.tell(stage.backend)
    stage.turn()
    lease = result_of(asked)
    assert len(stage.fake.connections) == 1
    lease.release()
    stage.end()


def test_a_listener_that_stops_the_source_leaves_it_without_connections() -> None:
    stage = Stage(ahead=1)
    source = AheadSource(stage.source, stage.pool, "clients")
    source.start(lambda backends: source.stop())
    stage.turn()
    assert stage.pool.status() == []
    assert stage.fake.connections == []


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

"""The front service: it listens, drains, and closes its pool when it is stopped."""

from __future__ import annotations

import os
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import LogEvent
from zope.interface import implementer

from kolus.daemon.served_group import AHEAD
from kolus.errors import Closed, NoBackend
from kolus.support import CannotListen
from kolus.testing import NotFired, result_of
from tests.rigs.staging import FakeListener, FakePort, Stage, messages


def test_it_listens_with_the_front_on_every_address(log_events: list[LogEvent]) -> None:
    listeners = (FakeListener(), FakeListener())
    stage = Stage(*listeners)
    stage.service.privilegedStartService()
    stage.service.startService()
    assert [each.factory for each in listeners] == [stage.front, stage.front]
    assert stage.ports == [each.port for each in listeners]
    assert messages(log_events) == ["kolus listens on 127.0.0.1:6380"] * 2


def test_it_listens_when_nobody_called_privileged_start() -> None:
    listener = FakeListener()
    stage = Stage(listener)
    stage.service.startService()
    assert stage.ports == [listener.port]


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


@implementer(IReadDescriptor)
class AwaitedPort(FakePort):
    """A port at which a client waits."""

    def __init__(self) -> None:
        super().__init__(IPv4Address("TCP", "127.0.0.1", 6380))
        self._reading, writing = os.pipe()
        os.write(writing, b"a client")
        os.close(writing)

    def fileno(self) -> int:
        return self._reading

    def doRead(self) -> None:
        raise AssertionError("a client was accepted")


def test_who_waits_at_an_address_is_left_to_others_if_the_next_cannot_be_listened_on() -> None:
    shared = FakeListener()
    shared.port = port = AwaitedPort()
    stage = Stage(shared, FakeListener(CannotListenError("", 6380, OSError("in use"))))
    with pytest.raises(CannotListen, match="in use"):
        stage.service.privilegedStartService()
    assert not port.listening
    os.close(port.fileno())


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


def test_a_backend_that_is_away_at_the_start_is_connected_to_later() -> None:
    stage = Stage(FakeListener(), ahead=2)
    stage.fake.refuse()
    stage.service.startService()
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


def test_stopping_while_it_connects_ahead_is_no_failure() -> None:
    stage = Stage(FakeListener(), ahead=1)
    stage.fake.never_answer(always=True)
    stage.service.startService()
    stage.front.drained.callback(0)
    stopped = stage.service.stopService()
    stage.clock.pump([0.1] * 100)
    assert result_of(stopped) is None


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
    asked = stage.connect()
    stage.turn()
    with pytest.raises(NotFired):
        result_of(asked)
    stage.source.tell(stage.backend)
    stage.turn()
    lease = result_of(asked)
    assert lease.manager.backend is stage.backend
    assert lease.ident == AHEAD
    lease.release()
    stage.end()


def test_a_client_that_no_list_came_for_in_time_is_told_the_name_of_the_source() -> None:
    stage = Stage(FakeListener())
    stage.source.first = ()
    stage.service.startService()
    asked = stage.connect()
    stage.turn(5.1)
    with pytest.raises(NoBackend, match="'backends' of 0 backends"):
        result_of(asked)
    stage.end()


def test_a_client_that_waits_gets_what_is_free_first_at_any_backend() -> None:
    stage = Stage(FakeListener(), limit=1)
    stage.source.first = (stage.backend, stage.second)
    stage.service.startService()
    one, other = [result_of(stage.connect()) for _ in range(2)]
    assert {one.manager.backend, other.manager.backend} == {stage.backend, stage.second}
    waiting = [stage.connect() for _ in range(4)]
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
    leases = [result_of(stage.connect()) for _ in range(3)]
    assert {each.manager.backend for each in leases} == {stage.second}
    for each in leases:
        each.release()
    stage.end()


def test_the_source_is_heard_until_the_last_client_is_served() -> None:
    stage = Stage(FakeListener())
    stage.service.startService()
    stopped = stage.service.stopService()
    stage.source.tell(stage.second)
    lease = result_of(stage.connect())  # a client that was in the queue of the port
    assert lease.manager.backend is stage.second
    lease.finished()
    stage.front.drained.callback(0)
    assert not stage.source.started
    stage.turn(10)
    assert result_of(stopped) is None

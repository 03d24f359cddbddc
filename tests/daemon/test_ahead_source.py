"""C{AheadSource}: connections to each backend in the list, before a client comes."""

from __future__ import annotations

from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from zope.interface.verify import verifyObject

from kolus.backend import Backend
from kolus.daemon.ahead_source import AheadSource
from kolus.interfaces import ISource
from kolus.pool import Pool
from kolus.testing import result_of
from tests.rigs.staging import FakeListener, FakeSource, Stage, messages


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


def test_a_backend_that_is_back_before_its_last_client_went_gets_its_connections() -> None:
    stage = Stage(FakeListener(), ahead=2)
    stage.answer_slowly()
    stage.service.startService()
    stage.turn()
    lease = result_of(stage.service.connect("clients"))
    stage.turn()
    stage.source.tell(stage.second)
    stage.source.tell(stage.backend, stage.second)
    stage.turn()
    assert len(stage.fake.connections) == 3
    lease.finished()
    stage.turn()
    assert len(stage.fake.connections) == 2
    assert not lease.held
    stage.end()


def test_a_backend_that_no_endpoint_can_be_made_for_leaves_the_others(
    log_events: list[LogEvent],
) -> None:
    stage = Stage(FakeListener(), ahead=2)
    stage.answer_slowly()
    stage.service.startService()
    stage.source.tell(Backend("tls:nowhere"), stage.second)
    stage.turn()
    assert len(stage.other.connections) == 2
    told = [each for each in messages(log_events) if "no connection to tls:nowhere" in each]
    assert len(told) == 1
    stage.end()


def test_a_backend_that_has_left_for_good_is_not_connected_to_when_its_last_client_went() -> None:
    stage = Stage(FakeListener(), ahead=2)
    stage.answer_slowly()
    stage.service.startService()
    stage.turn()
    lease = result_of(stage.service.connect("clients"))
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
    asked = stage.service.connect("clients")
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

"""A pool that nobody refers to any more ends, and says so."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent

from kolus import Backend, Lease, Policy, Pool
from kolus.testing import FakeBackend, result_of


class Forgetful:
    """Has a pool until it forgets it."""

    def __init__(self, **policy: Any) -> None:
        self.clock = Clock()
        self.fake = FakeBackend(self.clock)
        self.backend = Backend(self.fake, name="b")
        self.pool: Any = Pool(self.clock, Protocol, policy=Policy(**({"min_idle": 2} | policy)))

    def lease(self) -> Lease[Any]:
        return result_of(self.pool.connect("u", self.backend))

    def forget(self) -> None:
        gone = weakref.ref(self.pool)
        self.pool = None
        gc.collect()
        assert gone() is None
        self.turn()

    def turn(self) -> None:
        self.clock.pump([0] * 4)


def told(log_events: list[LogEvent]) -> list[str]:
    return [text for each in log_events if "forgotten" in (text := formatEvent(each))]


@pytest.mark.parametrize("slots", [None, 2])
def test_a_forgotten_pool_keeps_no_connections_ready_and_says_so(
    slots: int | None, log_events: list[LogEvent]
) -> None:
    rig = Forgetful(slots=slots)
    rig.lease().release()
    rig.turn()
    assert len(rig.fake.connections) == 3
    rig.forget()
    assert not rig.fake.connections
    (text,) = told(log_events)
    assert "a pool with connections to b is forgotten" in text
    assert "pool.close()" in text
    attempts = rig.fake.attempts
    rig.clock.pump([10] * 20)
    assert rig.fake.attempts == attempts
    assert not rig.clock.getDelayedCalls()


def test_a_lease_of_a_forgotten_pool_is_its_holders_until_it_is_settled() -> None:
    rig = Forgetful()
    lease = rig.lease()
    rig.forget()
    assert len(rig.fake.connections) == 1
    lease.protocol.transport.write(b"still mine")
    lease.release()
    rig.turn()
    assert not rig.fake.connections


def test_those_who_asked_before_it_was_forgotten_are_served(log_events: list[LogEvent]) -> None:
    rig = Forgetful(limit=2)
    rig.fake.accept(after=3, always=True)
    asked = rig.pool.connect("u", rig.backend)
    rig.forget()
    rig.clock.pump([1] * 3)
    result_of(asked).release()
    rig.clock.pump([1] * 5)
    assert not rig.fake.connections
    assert len(told(log_events)) == 1
    assert not rig.clock.getDelayedCalls()


def test_a_pool_whose_group_nobody_has_is_forgotten_though_log_events_are_kept(
    log_events: list[LogEvent],
) -> None:
    rig = Forgetful()
    rig.pool.group([rig.backend], ident="u")
    rig.turn()
    assert len(rig.fake.connections) == 2
    rig.forget()
    assert not rig.fake.connections
    assert len(told(log_events)) == 1


def test_a_pool_is_not_forgotten_while_somebody_has_one_of_its_groups(
    log_events: list[LogEvent],
) -> None:
    rig = Forgetful()
    group = rig.pool.group([rig.backend])
    rig.pool = None
    gc.collect()
    rig.turn()
    result_of(group.connect("u")).release()
    rig.turn()
    assert len(rig.fake.connections) == 3
    assert told(log_events) == []


def test_a_pool_that_was_closed_says_nothing(log_events: list[LogEvent]) -> None:
    rig = Forgetful()
    rig.lease().release()
    closed = rig.pool.close(0)
    rig.turn()
    result_of(closed)
    rig.forget()
    assert told(log_events) == []


def test_a_pool_without_head_room_ends_by_its_time_outs_without_a_word(
    log_events: list[LogEvent],
) -> None:
    rig = Forgetful(min_idle=0, idle_timeout=5.0, manager_idle_timeout=5.0)
    rig.lease().release()
    rig.forget()
    rig.clock.pump([5, 0, 5, 0])
    assert not rig.fake.connections
    assert not rig.clock.getDelayedCalls()
    assert told(log_events) == []


def test_a_pool_with_a_probe_can_be_forgotten() -> None:
    rig = Forgetful(probe=lambda protocol: None)
    rig.lease().release()
    rig.forget()
    assert not rig.fake.connections

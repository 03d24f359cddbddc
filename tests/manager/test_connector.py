"""Rule 19, on a clock: few connects at a time, and back-off."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from kolus import ConnectFailed, Lease, LeaseTimeout
from kolus.backoff import Backoff
from kolus.testing import result_of
from tests.rigs.pools import Managed

# 19: few connects at a time, and back-off


def test_connects_begin_with_four_and_double_while_they_succeed() -> None:
    rig = Managed(limit=70, acquire_timeout=60)
    rig.fake.accept(after=1, always=True)
    asked = [rig.ask() for _ in range(100)]
    attempts = []
    for _ in range(5):
        attempts.append(rig.fake.attempts)
        rig.clock.advance(1)
    assert attempts == [4, 12, 28, 60, 70]
    assert sum([each.called for each in asked]) == 70
    for each in asked:
        each.addCallback(Lease.finished).addErrback(lambda failure: None)
    rig.clock.pump([1] * 60)


def test_after_a_failure_one_connect_is_in_flight() -> None:
    rig = Managed(limit=10, fail_fast=False, backoff=Backoff(first=1, most=1))
    rig.fake.refuse().never_answer(always=True)
    asked = [rig.ask() for _ in range(5)]
    rig.clock.advance(0.5)
    assert rig.numbers()[2] == 1
    for each in asked:
        each.addErrback(lambda failure: None)
    rig.clock.advance(100)


def test_failing_connects_back_off_per_backend() -> None:
    rig = Managed(fail_fast=False, acquire_timeout=100, connect_timeout=None)
    rig.fake.refuse(always=True)
    asked = rig.ask()
    gaps = []
    for _ in range(9):
        attempts, since = rig.fake.attempts, rig.clock.seconds()
        while rig.fake.attempts == attempts:
            rig.clock.advance(0.0625)
        gaps.append(rig.clock.seconds() - since)
    assert gaps == [0.125, 0.25, 0.5, 1, 1, 1, 1, 1, 1]
    asked.cancel()
    asked.addErrback(lambda failure: None)


def test_a_success_ends_the_back_off() -> None:
    rig = Managed(backoff=Backoff(first=2, most=60))
    for _ in range(3):
        rig.fake.refuse()
        with pytest.raises(ConnectFailed):
            rig.lease()
        rig.clock.advance(60)
    rig.lease().finished()
    rig.turn()
    rig.fake.refuse()
    with pytest.raises(ConnectFailed, match="due in 1 s"):
        rig.lease()


def test_a_waiter_does_not_sit_out_a_back_off_longer_than_its_deadline() -> None:
    rig = Managed(fail_fast=False, backoff=Backoff(first=60, most=60))
    rig.fake.refuse()
    asked = rig.ask(1)
    rig.clock.advance(1)
    with pytest.raises(LeaseTimeout, match="the fake backend refuses"):
        result_of(asked)


@pytest.mark.parametrize("act", ["close", "reset", "half_close", "speak"])
def test_a_backend_that_accepts_and_ends_is_not_connected_to_in_a_loop(act: str) -> None:
    rig = Managed(limit=1, min_idle=1, idle_timeout=None, lifetime=None)
    rig.lease().finished()
    for _ in range(1000):
        rig.clock.advance(0.01)
        for connection in rig.fake.connections:
            connection.speak(b"busy") if act == "speak" else getattr(connection, act)()
    assert rig.fake.attempts < 15


def test_a_greeting_nobody_waited_for_is_no_failed_connect() -> None:
    rig = Managed()
    for _ in range(6):
        rig.fake.accept(after=0.05)
        gone = rig.ask()
        gone.cancel()
        gone.addErrback(lambda failure: None)
        rig.clock.advance(0.05)
        rig.fake.connections[-1].speak(b"220 hello")
        rig.turn()
        rig.lease().finished()
        rig.turn()
    assert rig.manager.counters.connect_failures == 0


@pytest.mark.parametrize("backoff", [None, Backoff()])
def test_a_connect_that_began_before_a_check_failed_does_not_make_up_for_it(
    backoff: Backoff | None,
) -> None:
    def check(protocol: Any) -> Deferred[bool]:
        return deferLater(rig.clock, 0.01, lambda: False)

    rig = Managed(limit=4, backoff=backoff, check=check, check_after=0)
    rig.fake.accept(after=0.03, always=True)
    asked = [rig.ask()]
    rig.clock.advance(0.015)
    asked.append(rig.ask())
    rig.clock.pump([0.005] * 200)
    for each in asked:
        with pytest.raises(ConnectFailed, match="its check failed"):
            result_of(each)
    assert rig.fake.attempts == 3

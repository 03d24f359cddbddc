"""A hundred thousand waiters: all are served once, in order, and without recursion."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from kolus import Lease
from tests.rigs.either import either

pytestmark = pytest.mark.long

CROWD = 100_000
GONE = 10_000
OWNED = 20_000
PATIENCE = 30.0
"""Seconds of processor time: tenfold what it takes; were it quadratic, hours would not do."""


@contextmanager
def bounded_time() -> Iterator[None]:
    began = time.process_time()
    yield
    assert time.process_time() - began < PATIENCE


def depth() -> int:
    frame: FrameType | None = sys._getframe()
    frames = 0
    while frame is not None:
        frame, frames = frame.f_back, frames + 1
    return frames


class Crowd:
    """Waiters on one connection that each release in their callback.

    @ivar served: their numbers, as they were served.
    @ivar cancels: whom a waiter cancels when it is served.
    @ivar depths: how deep the stack was meanwhile, each seen once.
    """

    def __init__(self, rig: Any, size: int = CROWD, owner: Any = None) -> None:
        self.rig = rig
        self.size = size
        self.served: list[int] = []
        self.gone: set[int] = set()
        self.cancels: dict[int, int] = {}
        self.depths: set[int] = set()
        self.held = rig.lease()
        self.waiting: list[Deferred[Any]] = []
        for number in range(size):
            asked = rig.manager.connect("us", None, owner)
            asked.addCallback(self.serve, number)
            asked.addErrback(self.fail, number)
            self.waiting.append(asked)

    def serve(self, lease: Lease[Any], number: int) -> None:
        self.served.append(number)
        if number in self.cancels:
            self.waiting[self.cancels[number]].cancel()
        if number % 1000 == 0:
            self.depths.add(depth())
        lease.release()

    def fail(self, failure: Any, number: int) -> None:
        failure.trap(CancelledError)
        self.gone.add(number)

    def assert_served(self) -> None:
        assert self.served == [each for each in range(self.size) if each not in self.gone]
        assert len(self.depths) <= 1
        assert self.rig.numbers() == (1, 0, 0, 0, 0)
        assert self.rig.fake.attempts == 1
        assert self.rig.manager.counters.leases == 1 + len(self.served)


@either
def test_a_hundred_thousand_that_release_in_their_callback_are_served_in_order(
    rig_of: Any,
) -> None:
    with bounded_time():
        crowd = Crowd(rig_of(limit=1, max_waiters=CROWD))
        crowd.held.release()
    crowd.assert_served()
    assert not crowd.gone


@either
def test_ten_thousand_that_are_cancelled_before_their_turn_are_skipped(rig_of: Any) -> None:
    with bounded_time():
        crowd = Crowd(rig_of(limit=1, max_waiters=CROWD))
        for number in random.Random(1).sample(range(CROWD), GONE):
            crowd.waiting[number].cancel()
        crowd.held.release()
    crowd.assert_served()
    assert len(crowd.gone) == GONE


@either
def test_ten_thousand_that_others_cancel_while_they_are_served_are_skipped(rig_of: Any) -> None:
    rng = random.Random(2)
    with bounded_time():
        crowd = Crowd(rig_of(limit=1, max_waiters=CROWD))
        for number in rng.sample(range(CROWD // 2), GONE):
            crowd.cancels[number] = rng.randrange(number + 1, CROWD)
        crowd.held.release()
    crowd.assert_served()
    assert 0.8 * GONE < len(crowd.gone) <= GONE


@either
def test_a_crowd_of_one_owner_is_served_as_well(rig_of: Any) -> None:
    owner: Deferred[None] = Deferred()
    with bounded_time():
        crowd = Crowd(rig_of(limit=1, max_waiters=CROWD), OWNED, owner)
        crowd.held.release()
    crowd.assert_served()


@either
def test_a_crowd_goes_at_once_when_its_owner_ends(rig_of: Any) -> None:
    owner: Deferred[None] = Deferred()
    with bounded_time():
        crowd = Crowd(rig_of(limit=1, max_waiters=CROWD), OWNED, owner)
        owner.callback(None)
    assert len(crowd.gone) == OWNED
    assert crowd.rig.numbers() == (0, 1, 0, 0, 0)
    crowd.held.release()
    crowd.assert_served()


@either
def test_a_crowd_whose_time_is_over_fails_at_once(rig_of: Any) -> None:
    late: list[int] = []
    with bounded_time():
        rig = rig_of(limit=1, max_waiters=CROWD)
        held = rig.lease()
        for number in range(CROWD):
            rig.ask().addErrback(lambda failure, number=number: late.append(number))
        rig.clock.advance(5)
    assert late == list(range(CROWD))
    held.release()
    assert rig.numbers() == (1, 0, 0, 0, 0)

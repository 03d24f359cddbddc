"""As many connects in flight as wait, up to the limit, with a slow start."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, Policy, Pool
from kolus.testing import FakeBackend, result_of
from tests.rigs.either import either
from tests.rigs.pools import Half, Managed

# 19: connects in flight


def give_up(asked: list[Any]) -> None:
    for each in asked:
        each.addErrback(lambda failure: None)
        each.cancel()


@pytest.mark.parametrize("idents", ["a", "abcdefghij"])
@pytest.mark.parametrize("ask", ["connect", "select", "group"])
@pytest.mark.parametrize("slots", [None, 1, 4])
def test_a_hundred_callers_are_served_although_a_connect_takes_a_while(
    idents: str, ask: str, slots: int | None
) -> None:
    clock = Clock()
    backend = Backend(FakeBackend(clock).accept(after=0.2, always=True), name="fake")
    policy = Policy(limit=100, slots=slots, idents="separate")
    pool = Pool(clock, Protocol, policy=policy, rng=Half())  # type: ignore[arg-type]
    group = pool.group([backend])
    ways: dict[str, Any] = {
        "connect": lambda ident: pool.connect(ident, backend),
        "select": lambda ident: pool.select(ident, [backend]),
        "group": group.connect,
    }
    served: list[Any] = []
    for ident in idents * (100 // len(idents)):
        ways[ask](ident).addCallback(served.append)
    clock.pump([0.05] * 30)
    assert len(served) == 100
    for lease in served:
        lease.finished()


@either
def test_no_more_connects_are_made_than_requests_wait(rig_of: Any) -> None:
    rig = rig_of(limit=100)
    rig.fake.accept(after=1, always=True)
    asked = [rig.ask() for _ in range(3)]
    rig.clock.pump([1] * 3)
    assert rig.fake.attempts == 3
    for each in asked:
        each.addCallback(lambda lease: lease.release())


@either
def test_the_next_burst_begins_slowly_again(rig_of: Any) -> None:
    rig = rig_of(limit=100, acquire_timeout=None)
    rig.fake.accept(after=1, always=True)
    leases: list[Any] = []
    for _ in range(2):
        before = rig.fake.attempts
        for _ in range(20):
            rig.ask().addCallback(leases.append)
        assert rig.fake.attempts - before == 4
        rig.clock.pump([1] * 3)
        assert len(leases) == 20
        while leases:
            leases.pop().finished()
        rig.turn()


@either
def test_a_failure_ends_the_burst_and_a_success_begins_another(rig_of: Any) -> None:
    rig = rig_of(limit=100, fail_fast=False, acquire_timeout=None)
    rig.fake.accept(after=1).accept(after=1).accept(after=1).refuse(after=1.1)
    rig.fake.accept(after=1, always=True)
    asked = [rig.ask() for _ in range(60)]
    rig.clock.advance(1)
    assert rig.numbers()[2] == 7
    rig.clock.advance(0.1)  # refused
    assert rig.numbers()[2] == 6
    rig.clock.advance(0.9)  # these are made
    attempts = rig.fake.attempts
    assert 4 <= rig.numbers()[2] <= 10
    rig.clock.advance(1)
    assert rig.fake.attempts >= attempts + 4
    rig.clock.pump([1] * 10)
    assert all(each.called for each in asked)
    for each in asked:
        each.addCallback(lambda lease: lease.release())


def test_the_most_connects_at_a_time_bound_what_waits_and_what_is_late() -> None:
    rig = Managed(limit=100, max_connecting=3)
    rig.fake.never_answer(always=True)
    asked = [rig.ask() for _ in range(50)]
    rig.clock.pump([0.5] * 9)
    assert rig.fake.attempts == 3
    give_up(asked)


def test_without_a_back_off_all_connects_are_made_at_once() -> None:
    clock = Clock()
    fake = FakeBackend(clock).accept(after=1, always=True)
    pool = Pool(clock, Protocol, policy=Policy.erlang(limit=50))
    asked = [pool.connect("us", Backend(fake)) for _ in range(1)]
    backend = Backend(fake)
    asked += [pool.connect("us", backend) for _ in range(50)]
    assert fake.attempts == 51
    give_up(asked)


def test_the_connects_of_callers_that_leave_go_on_and_serve_the_next() -> None:
    rig = Managed(limit=100)
    rig.fake.accept(after=1, always=True)
    give_up([rig.ask() for _ in range(100)])
    assert rig.numbers()[2] == 4
    asked = [rig.ask() for _ in range(4)]
    rig.clock.advance(1)
    assert (rig.fake.attempts, all(each.called for each in asked)) == (4, True)
    for each in asked:
        each.addCallback(lambda lease: lease.release())


def test_head_room_is_filled_with_a_slow_start() -> None:
    rig = Managed(limit=100, min_idle=50)
    rig.fake.accept(after=1, always=True)
    rig.ask().addCallback(lambda lease: lease.release())
    attempts = []
    for _ in range(5):
        attempts.append(rig.fake.attempts)
        rig.clock.advance(1)
    assert attempts == [1, 5, 13, 29, 50]
    assert rig.numbers()[0] == 50


# A connect that is not answered


@either
def test_a_connect_that_is_not_answered_has_another_beside_it(rig_of: Any) -> None:
    rig = rig_of(limit=10)
    for _ in range(4):
        rig.fake.never_answer()
    asked = [rig.ask() for _ in range(10)]
    rig.clock.advance(1.4)
    assert rig.fake.attempts == 4
    rig.clock.advance(0.1)
    rig.turn()
    assert sum([each.called for each in asked]) > 0
    for each in asked:
        each.addCallback(lambda lease: lease.release())
    rig.turn()
    assert all(each.called for each in asked)


@either
def test_a_connect_for_a_caller_that_left_does_not_keep_the_next_waiting(rig_of: Any) -> None:
    rig = rig_of(limit=10)
    rig.fake.never_answer()
    give_up([rig.ask()])
    rig.clock.advance(1)
    asked = rig.ask()
    assert rig.fake.attempts == 1
    rig.clock.advance(0.5)
    assert asked.called
    asked.addCallback(lambda lease: lease.release())


@either
@pytest.mark.parametrize("how", ["connect", "fresh", "warm", "prepare"])
def test_one_request_alone_does_not_wait_for_a_connect_that_never_comes(
    rig_of: Any, how: str
) -> None:
    steps: list[Deferred[None]] = []

    def never_at_first(protocol: object) -> Deferred[None] | None:
        steps.append(Deferred())
        return steps[0] if len(steps) == 1 else None

    rig = rig_of(limit=10, **({"prepare": never_at_first} if how == "prepare" else {}))
    if how != "prepare":
        rig.fake.never_answer()
    if how == "warm":
        asked: Any = rig.manager.admission.warm("us", 1, None)
    else:
        asked = rig.manager.connect("us", fresh=how == "fresh")
    rig.clock.advance(1.4)
    assert (rig.fake.attempts, asked.called) == (1, False)
    rig.clock.advance(0.1)
    rig.turn()
    assert (rig.fake.attempts, asked.called) == (2, True)
    asked.addCallback(lambda lease: lease and lease.release())


@either
def test_who_holds_their_leases_do_not_keep_others_waiting_for_connects_that_never_come(
    rig_of: Any,
) -> None:
    rig = rig_of(limit=10)
    for _ in range(4):
        rig.fake.never_answer()
    asked = [rig.ask() for _ in range(6)]
    rig.clock.pump([0.1] * 16)
    assert [each.called for each in asked] == [True] * 6
    for each in asked:
        each.addCallback(lambda lease: lease.release())


def test_a_connect_that_is_late_and_still_comes_serves_its_request() -> None:
    rig = Managed(limit=10)
    rig.fake.accept(after=4, always=True)
    asked = rig.ask()
    rig.clock.pump([0.5] * 8)
    assert (rig.fake.attempts, asked.called) == (3, True)
    asked.addCallback(lambda lease: lease.release())


@either
def test_what_is_only_kept_ready_has_no_other_connect_beside_a_slow_one(rig_of: Any) -> None:
    rig = rig_of(limit=10, min_idle=1)
    rig.fake.never_answer(always=True)
    rig.manager.connections_changed()
    rig.clock.pump([0.5] * 9)
    assert rig.fake.attempts == 1


@either
def test_after_a_stall_a_connect_under_way_is_not_late(rig_of: Any) -> None:
    rig = rig_of(limit=10)
    rig.fake.never_answer(always=True)
    asked = rig.ask(timeout=60)
    rig.manager.clock.resumed_at = rig.clock.seconds() + 1.0
    rig.clock.pump([0.1] * 24)
    assert rig.fake.attempts == 1
    rig.clock.advance(0.1)
    assert rig.fake.attempts == 2
    give_up([asked])


@either
def test_a_connect_that_is_over_at_once_leaves_no_timer_for_its_being_late(rig_of: Any) -> None:
    rig = rig_of(limit=1, idle_timeout=None, lifetime=None, manager_idle_timeout=None)
    result_of(rig.ask()).release()
    assert [each for each in rig.clock.getDelayedCalls() if each.getTime() <= 2.0] == []

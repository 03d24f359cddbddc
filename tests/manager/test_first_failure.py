"""A first failure fails one request; those behind it have the next attempt."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, ConnectFailed, Policy, Pool, balance
from kolus.backoff import Backoff
from kolus.testing import FakeBackend, result_of
from tests.rigs.either import either
from tests.rigs.pools import Half


def crowd(rig: Any, number: int = 100) -> tuple[list[Any], list[Any]]:
    """So many requests; what they get they release at once."""
    served: list[Any] = []
    failed: list[Any] = []

    def use(lease: Any) -> None:
        served.append(lease)
        lease.release()

    for _ in range(number):
        rig.ask().addCallbacks(use, failed.append)
    return served, failed


@either
def test_a_first_failure_at_the_start_fails_one_request_of_a_hundred(rig_of: Any) -> None:
    rig = rig_of(limit=1)
    rig.fake.refuse(after=0.01)
    served, failed = crowd(rig)
    rig.clock.advance(0.01)
    assert (len(served), len(failed)) == (0, 1)
    rig.clock.advance(0.125)
    rig.turn()
    assert (len(served), len(failed)) == (99, 1)


@either
def test_a_first_failure_after_success_fails_one_request_of_a_hundred(rig_of: Any) -> None:
    rig = rig_of(limit=1)
    rig.lease().finished()
    rig.turn()
    rig.fake.refuse(after=0.01)
    served, failed = crowd(rig)
    rig.clock.advance(0.01)
    rig.clock.advance(0.125)
    rig.turn()
    assert (len(served), len(failed)) == (99, 1)


@either
def test_a_first_failure_fails_those_whose_deadline_is_before_the_next_attempt(rig_of: Any) -> None:
    rig = rig_of(limit=1, backoff=Backoff(first=60, most=60))
    rig.fake.refuse(after=0.01)
    served, failed = crowd(rig)
    rig.clock.advance(0.01)
    assert (len(served), len(failed)) == (0, 100)
    assert {each.type for each in failed} == {ConnectFailed}


@either
def test_a_second_failure_fails_the_queue(rig_of: Any) -> None:
    rig = rig_of(limit=1)
    rig.fake.refuse(after=0.01).refuse(after=0.01)
    served, failed = crowd(rig)
    rig.clock.pump([0.01, 0.125, 0.01])
    assert (len(served), len(failed)) == (0, 100)
    assert rig.fake.attempts == 2


@either
def test_connects_that_fail_together_are_one_failure(rig_of: Any) -> None:
    rig = rig_of(limit=20, ejection=None)
    for _ in range(4):
        rig.fake.refuse(after=0.01)
    served, failed = crowd(rig)
    rig.clock.advance(0.01)
    assert rig.fake.attempts == 4
    assert (len(served), len(failed)) == (0, 1)
    assert 0 < failed[0].value.retry_in <= 0.125
    rig.clock.advance(0.125)
    rig.turn()
    assert (len(served), len(failed)) == (99, 1)


@either
def test_a_request_that_comes_alone_during_the_back_off_fails_at_once(rig_of: Any) -> None:
    rig = rig_of()
    rig.fake.refuse()
    for _ in range(2):
        with pytest.raises(ConnectFailed, match="due in"):
            rig.lease()
    assert rig.fake.attempts == 1


@either
def test_a_request_that_comes_while_others_have_the_next_attempt_waits_with_them(
    rig_of: Any,
) -> None:
    rig = rig_of(limit=1)
    rig.fake.refuse(after=0.01)
    served, failed = crowd(rig, 2)
    rig.clock.advance(0.01)
    later = rig.ask()
    rig.clock.advance(0.125)
    rig.turn()
    assert (len(served), len(failed)) == (1, 1)
    result_of(later).release()


@either
def test_with_fail_fast_off_no_failure_fails_a_request(rig_of: Any) -> None:
    rig = rig_of(limit=1, fail_fast=False)
    rig.fake.refuse(after=0.01).refuse(after=0.01).refuse(after=0.01)
    served, failed = crowd(rig)
    rig.clock.pump([0.01] * 100)
    assert (len(served), len(failed)) == (100, 0)


def test_a_first_failure_of_another_ident_spares_the_queue_of_each() -> None:
    clock = Clock()
    fake = FakeBackend(clock).refuse(after=0.01).accept(after=0.01, always=True)
    backend = Backend(fake, name="fake")
    policy = Policy(limit=1, idents="separate")
    pool = Pool(clock, Protocol, policy=policy, rng=Half())  # type: ignore[arg-type]
    served: list[Any] = []
    failed: list[Any] = []

    def use(lease: Any) -> None:
        served.append(lease)
        lease.finished()

    for ident in "abcde" * 4:
        pool.connect(ident, backend).addCallbacks(use, failed.append)
    clock.pump([0.01] * 200)
    assert (len(served), len(failed)) == (19, 1)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("fail_fast", [True, False])
def test_a_first_failure_of_each_backend_of_several_fails_no_queue(
    number: int, listed: bool, fail_fast: bool
) -> None:
    clock = Clock()
    fakes = [FakeBackend(clock).refuse(after=0.01) for _ in range(number)]
    for fake in fakes:
        fake.accept(after=0.01, always=True)
    backends = [Backend(fake, name=str(place)) for place, fake in enumerate(fakes)]
    policy = Policy(limit=1, fail_fast=fail_fast, balancer=balance.least_leased)
    pool = Pool(clock, Protocol, policy=policy, rng=Half())  # type: ignore[arg-type]
    group = pool.group(backends)
    served: list[Any] = []
    failed: list[Any] = []

    def use(lease: Any) -> None:
        served.append(lease)
        lease.release()

    for _ in range(100):
        asked = pool.select("us", backends) if listed else group.connect("us")
        asked.addCallbacks(use, failed.append)
    clock.pump([0.01] * 100)
    assert len(failed) <= (1 if fail_fast else 0)
    assert len(served) + len(failed) == 100

"""A pool's limit: what is told of it, owners that hold all of it, and groups."""

from __future__ import annotations

import errno

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.task import Clock

from kolus import Closed, LeaseError, LeaseTimeout, Pool, PoolFull
from kolus.balance import fill_first
from kolus.events import Why
from kolus.manager.backend import records
from kolus.testing import result_of
from kolus.testing.results import failure_of
from tests.rigs.pool_limits import LimitedPool, is_waiting

# What is told


def test_errors_and_explanations_name_the_pools_limit() -> None:
    rig = LimitedPool(2)
    rig.lease("a")
    lease = rig.lease("b")
    asked = rig.ask("c", timeout=3)
    explanation = rig.pool.explain()
    assert (explanation.connections, explanation.limit) == (2, 2)
    assert "2 of at most 2 connections of the pool" in str(explanation)
    assert "the pool's limit of 2 connections is reached" in str(explanation)
    (at_c,) = rig.pool.status([rig.backends["c"]])
    assert (at_c.unused, at_c.room) == (0, -1)
    rig.clock.advance(3)
    error = failure_of(LeaseTimeout, asked)
    assert error.pool_limit == 2
    assert "the pool's limit of 2 connections is reached" in str(error)
    lease.release()
    rig.end()


def test_the_pools_limit_is_not_named_where_the_backends_own_is_reached() -> None:
    rig = LimitedPool(2, limit=1)
    rig.lease("a")
    rig.lease("b")
    asked = rig.ask("a", timeout=3)
    assert "pool's limit" not in str(rig.pool.explain())
    rig.clock.advance(3)
    error = failure_of(LeaseTimeout, asked)
    assert error.pool_limit is None
    assert "pool" not in str(error)
    rig.end()


def test_a_request_that_may_not_wait_is_rejected_only_if_nothing_can_make_way() -> None:
    rig = LimitedPool(1, max_waiters=0)
    lease = rig.lease("a")
    error = failure_of(PoolFull, rig.ask("b"))
    assert "the pool's limit of 1 connections is reached" in str(error)
    lease.release()
    asked = rig.ask("b")
    rig.turn()
    result_of(asked).release()
    rig.end()


def test_an_unused_backend_has_no_room_where_the_pools_limit_binds() -> None:
    rig = LimitedPool(3, limit=10)
    rig.lease("a")
    (status,) = rig.pool.status([rig.backends["c"]])
    assert (status.unused, status.room) == (2, 2)
    rig.lease("b")
    rig.lease("b")
    (status,) = rig.pool.status([rig.backends["c"]])
    assert (status.unused, status.room) == (0, 0)
    rig.end()


# Owners


@pytest.mark.parametrize("by_group", [False, True])
def test_a_nested_request_of_who_holds_the_whole_pool_fails_at_once(by_group: bool) -> None:
    rig = LimitedPool(2)
    owner: Deferred[None] = Deferred()
    held = [rig.ask(name, owner=owner) for name in "ab"]
    if by_group:
        group = rig.pool.group([rig.backends[name] for name in "abc"])
        nested = group.connect("us", owner=owner)
    else:
        nested = rig.ask("c", owner=owner)
    assert "can never serve" in str(failure_of(LeaseError, nested))
    for each in held:
        result_of(each).release()
    rig.end()


def test_a_request_fails_when_its_owner_comes_to_hold_the_whole_pool() -> None:
    rig = LimitedPool(2)
    owner: Deferred[None] = Deferred()
    first, other = rig.ask("a", owner=owner), rig.lease("b")
    second, third = rig.ask("b", owner=owner), rig.ask("c", owner=owner)
    assert is_waiting(second)
    assert is_waiting(third)
    other.release()
    rig.turn()
    result_of(second)
    failure_of(LeaseError, third)
    result_of(first).release()
    rig.end()


def test_a_nested_request_waits_while_another_holds_a_part_of_the_pool() -> None:
    rig = LimitedPool(2)
    owner: Deferred[None] = Deferred()
    first, other = rig.ask("a", owner=owner), rig.lease("b")
    nested = rig.ask("c", owner=owner)
    assert is_waiting(nested)
    other.release()
    rig.turn()
    for each in (first, nested):
        result_of(each).release()
    rig.end()


# Groups


@pytest.mark.parametrize("kind", ["group", "select"])
def test_a_request_to_several_gets_the_slot_of_what_is_idle_elsewhere(kind: str) -> None:
    rig = LimitedPool(2, limit=5)
    for name in "ab":
        rig.lease(name).release()
        rig.clock.advance(1)
    several = [rig.backends["c"]]
    if kind == "group":
        asked = rig.pool.group(several).connect("us")
    else:
        asked = rig.pool.select("us", several)
    rig.turn()
    result_of(asked).release()
    assert rig.retired() == [("a", "us", Why.DISPLACED)]
    rig.end()


def test_a_request_to_a_group_waits_for_whatever_comes_home_anywhere() -> None:
    rig = LimitedPool(2, limit=1, backends=4)
    group = rig.pool.group([rig.backends[name] for name in "ab"], fill_first)
    kept, other = rig.lease("a"), rig.lease("c")
    asked = group.connect("us")
    rig.turn()
    assert is_waiting(asked)
    other.release()  # of no backend of the group, but b may connect instead
    rig.turn()
    lease = result_of(asked)
    assert lease.backend.name == "b"
    lease.release()
    kept.release()
    rig.end()


def test_a_group_whose_backends_have_no_slots_waits_although_a_connect_has_failed() -> None:
    rig = LimitedPool(1)
    rig.fakes["a"].refuse(always=True)
    group = rig.pool.group([rig.backends[name] for name in "ab"], fill_first)
    asked = group.connect("us", timeout=60)
    taken = rig.ask("c", timeout=60)
    for _ in range(20):
        rig.turn()
        for each in (asked, taken):
            if each.called:
                each.addCallback(lambda lease: lease and lease.release())
        rig.clock.advance(0.25)
    assert asked.called
    assert taken.called
    rig.end()


def test_fill_first_takes_the_first_backend_whatever_other_backends_take_of_the_limit() -> None:
    rig = LimitedPool(2, limit=1, backends=4)
    group = rig.pool.group([rig.backends[name] for name in "abc"], fill_first)
    outside, last = rig.lease("d"), rig.lease("c")
    assert fill_first(group.statuses).backend.name == "a"
    outside.finished()
    last.finished()
    rig.turn()
    lease = result_of(group.connect("us"))
    assert lease.backend.name == "a"
    lease.release()
    rig.end()


def test_a_pool_with_more_backends_than_it_remembers_closes_while_a_request_waits_for_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(records, "_MOST_UNUSED", 1)
    rig = LimitedPool(1, lifetime=None)
    rig.fakes["a"].never_answer()
    for name in "bc":
        rig.pool.pause(rig.backends[name])
    asked = rig.pool.select("us", list(rig.backends.values()), fill_first)
    closed = rig.pool.close(1)
    rig.clock.pump([0, 1, 1])
    assert result_of(closed) is None
    failure_of(Closed, asked)


def test_the_limit_counts_nothing_of_other_pools() -> None:
    first, second = LimitedPool(1), LimitedPool(1)
    first.lease("a")
    second.lease("a").release()
    first.end()
    second.end()
    assert Pool(Clock(), object).limit is None  # type: ignore[arg-type]


@pytest.mark.parametrize("has_manager", [True, False])
def test_a_slot_that_one_backend_cannot_use_is_used_at_another_of_the_group(
    has_manager: bool,
) -> None:
    rig = LimitedPool(1, backoff=None)
    group = rig.pool.group([rig.backends["a"], rig.backends["b"]], fill_first)
    for name in "ab" if has_manager else "a":
        result_of(rig.ask(name)).finished()
        rig.turn()
    held = rig.lease("c")
    asked = group.connect("us")
    rig.turn()
    rig.fakes["a"].refuse(reason=ConnectError(errno.EADDRNOTAVAIL, "no address"), always=True)
    held.finished()
    rig.turn()
    lease = result_of(asked)
    assert lease.backend is rig.backends["b"]
    lease.release()
    rig.end()

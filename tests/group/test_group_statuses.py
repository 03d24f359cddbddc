"""C{GroupStatuses}: the statuses that a group's balancer sees, and the lowest of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from kolus import Backend, Ejection, KolusError, Status, balance
from kolus.balance.candidates import backends_of, in_zone, lowest, total_load
from kolus.status import State
from kolus.testing import result_of
from tests.rigs.seen import Seen, by_load


@pytest.fixture
def rig(logged_failures: Any) -> Any:
    """A group whose balancer records what it sees; the failures that it logs are flushed."""
    made = Seen()
    yield made
    logged_failures.flush(KolusError)


# The index


def test_the_lowest_is_found_after_the_backend_that_was_drained_is_gone(rig: Any) -> None:
    held = rig.lease(0)
    statuses = rig.group.statuses
    rig.pool.drain(rig.backends[0])
    assert lowest(statuses, by_load).backend is rig.backends[1]
    held.release()
    rig.turn()
    assert rig.pool.status(rig.backends)[0].state is State.ABSENT
    assert lowest(statuses, by_load).backend is rig.backends[0]


def test_the_lowest_is_found_after_a_resume_where_no_manager_runs(rig: Any) -> None:
    statuses = rig.group.statuses
    rig.pool.pause(rig.backends[0])
    assert lowest(statuses, by_load).backend is rig.backends[1]
    rig.pool.resume(rig.backends[0])
    assert lowest(statuses, by_load).backend is rig.backends[0]


def test_the_lowest_is_found_after_a_waiter_was_cancelled(rig: Any) -> None:
    rig.fakes[0].never_answer(always=True)
    statuses = rig.group.statuses
    asked = rig.pool.connect("us", rig.backends[0])
    assert lowest(statuses, by_load).backend is rig.backends[1]
    asked.addErrback(lambda failure: None)
    asked.cancel()
    assert lowest(statuses, by_load).backend is rig.backends[0]
    rig.clock.advance(5)


def test_a_backend_that_starts_slowly_is_lowest_again_in_time() -> None:
    rig = Seen(2, ejection=Ejection(slow_start=10.0))
    statuses: Any = rig.group.statuses
    held = [rig.lease(1) for _ in range(2)]
    rig.pool.eject(rig.backends[0])
    assert lowest(statuses, by_load).backend is rig.backends[1]
    rig.pool.admit(rig.backends[0])
    assert statuses[0].load == pytest.approx(10.0)
    assert lowest(statuses, by_load).backend is rig.backends[1]
    rig.clock.advance(5)
    assert statuses[0].load == pytest.approx(2.0)
    assert lowest(statuses, by_load).backend is rig.backends[0]
    assert len(held) == 2


def test_the_total_load_counts_what_is_leased_of_idle_connections(rig: Any) -> None:
    statuses = rig.group.statuses
    assert total_load(statuses) == 0
    rig.lease(0).release()
    held = rig.lease(0)
    assert total_load(statuses) == 1
    held.release()
    assert total_load(statuses) == 0


def test_the_total_load_counts_who_waits(rig: Any) -> None:
    statuses = rig.group.statuses
    held = [rig.lease(0) for _ in range(3)]
    asked = rig.pool.connect("us", rig.backends[0])
    assert total_load(statuses) == 4
    asked.addErrback(lambda failure: None)
    asked.cancel()
    assert total_load(statuses) == 3
    assert len(held) == 3


def test_a_rank_that_raises_does_not_disturb_who_releases(rig: Any, logged_failures: Any) -> None:
    held = rig.lease(0)

    def rank(status: Status) -> float:
        if status.leased == 0 and status.state is State.OPEN:
            raise ArithmeticError("no rank for this")
        return status.load

    statuses = rig.group.statuses
    assert lowest(statuses, rank).backend is rig.backends[1]
    held.release()
    rig.lease(0).release()
    with pytest.raises(ArithmeticError):
        lowest(statuses, rank)


@pytest.mark.parametrize("count", [30, 3000])
def test_how_many_statuses_are_looked_at_does_not_grow_with_the_group(count: int) -> None:
    looks = 0

    def rank(status: Status) -> float:
        nonlocal looks
        looks += 1
        return status.load

    rig = Seen(count)
    rig.choice = lambda statuses: lowest(statuses, rank)
    leases = [result_of(rig.group.connect("us")) for _ in range(20)]
    looks = 0
    for _ in range(50):
        leases.pop(0).release()
        leases.append(result_of(rig.group.connect("us")))
    assert looks < 250
    for each in leases:
        each.release()


# The sequence


def test_group_statuses_are_a_sequence_of_statuses_in_the_order_of_the_backends(rig: Any) -> None:
    statuses = rig.see()
    assert isinstance(statuses, Sequence)
    assert len(statuses) == 3
    assert [each.backend for each in statuses] == rig.backends
    assert statuses[-1].backend is rig.backends[2]
    assert [each.backend for each in statuses[1:]] == rig.backends[1:]
    assert [each.backend for each in statuses[::-1]] == rig.backends[::-1]
    assert [each.backend for each in reversed(statuses)] == rig.backends[::-1]
    for place in (3, -4):
        with pytest.raises(IndexError):
            statuses[place]


def test_the_backends_of_members_are_the_same_object_as_long_as_they_are_the_same(
    rig: Any,
) -> None:
    assert backends_of(rig.see()) is backends_of(rig.see())


@pytest.mark.parametrize("out", [[0], [1], [2], [0, 1], [0, 2], [1, 2], []])
def test_without_some_the_others_keep_their_order(rig: Any, out: list[int]) -> None:
    excluded = [rig.backends[each] for each in out]
    others = rig.see().without(excluded)
    left = [each for each in rig.backends if each not in excluded]
    assert [each.backend for each in others] == left
    assert [others[at].backend for at in range(-len(left), 0)] == left
    assert list(backends_of(others)) == left
    assert others[1:][0].backend is left[1] if len(left) > 1 else not others[1:]
    for place in (len(left), -len(left) - 1):
        with pytest.raises(IndexError):
            others[place]


def test_without_all_nothing_is_left_and_nothing_is_lowest(rig: Any) -> None:
    statuses = rig.see()
    nothing = statuses.without(rig.backends)
    assert len(nothing) == 0
    with pytest.raises(IndexError):
        lowest(nothing, by_load)
    assert lowest(statuses, by_load).backend is rig.backends[0]


def test_without_a_stranger_nothing_changes(rig: Any) -> None:
    statuses = rig.see()
    assert statuses.without([Backend("tcp:192.0.2.1:1")]) is statuses


def test_in_a_zone_are_those_of_the_zone_in_their_order() -> None:
    rig = Seen(4, "xyxy")
    statuses: Any = rig.group.statuses
    assert [str(each.backend) for each in in_zone(statuses, "y")] == ["b1", "b3"]
    assert len(in_zone(statuses, "z")) == 0
    others = statuses.without([rig.backends[1]])
    assert [str(each.backend) for each in in_zone(others, "y")] == ["b3"]


def test_what_is_chosen_in_a_zone_or_without_some_is_chosen() -> None:
    rig = Seen(4, "xyxy")
    rig.choice = lambda statuses: in_zone(statuses, "y")[1]
    assert str(result_of(rig.group.connect("us")).backend) == "b3"
    rig.choice = lambda statuses: in_zone(statuses, "y")[-1]
    lease = result_of(rig.group.connect("us", exclude=[rig.backends[3]]))
    assert rig.chosen == "b1"
    lease.release()


def test_the_lowest_in_a_zone_follows_what_happens() -> None:
    rig = Seen(4, "xyxy")
    statuses: Any = rig.group.statuses
    near = in_zone(statuses, "y")
    assert str(lowest(near, by_load).backend) == "b1"
    held = rig.lease(1)
    assert str(lowest(near, by_load).backend) == "b3"
    held.release()
    assert str(lowest(near, by_load).backend) == "b1"


def test_a_request_repeated_elsewhere_goes_to_the_next_on_the_same_ring(rig: Any) -> None:
    statuses, ring = rig.see(), balance.Ring()
    home = balance.consistent("user:7", ring)(statuses)
    elsewhere = statuses.without([home.backend])
    following = balance.consistent("user:7", ring)(elsewhere)
    assert following.backend == balance.consistent("user:7")(list(elsewhere)).backend
    assert following.backend != home.backend
    assert len(ring._circles) == 1

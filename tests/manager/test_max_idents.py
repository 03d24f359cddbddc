"""C{Policy(max_idents=...)}: how many managers of one backend are kept, on a clock."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from kolus import Backend, Lease, Policy
from kolus.events import Why
from kolus.testing import FakeBackend, result_of
from tests.rigs.idents import Idents


def managers(rig: Idents) -> list[Any]:
    return [each.ident for each in rig.pool._managers]


def use(rig: Idents, ident: str) -> None:
    asked = rig.ask(ident)
    rig.turn()
    result_of(asked).release()
    rig.turn()


@pytest.mark.parametrize("most", [0, -1, 1.5, "7", True])
def test_a_bound_that_is_not_a_whole_number_of_at_least_one_is_refused(most: Any) -> None:
    with pytest.raises(ValueError, match="max_idents"):
        Policy(max_idents=most)


def test_the_manager_that_is_unused_longest_makes_way_for_another_idents() -> None:
    rig = Idents("separate", limit=1, max_idents=3)
    for ident in "abcd":
        use(rig, ident)
        rig.clock.advance(1)
    assert managers(rig) == ["b", "c", "d"]
    use(rig, "b")
    use(rig, "e")
    assert managers(rig) == ["b", "d", "e"]
    rig.end()


def test_without_a_bound_all_are_kept() -> None:
    rig = Idents("separate", limit=1, max_idents=None)
    for ident in "abcdefgh":
        use(rig, ident)
    assert len(managers(rig)) == 8
    rig.end()


def test_one_that_has_only_idle_connections_makes_way_if_none_has_no_connection() -> None:
    rig = Idents("separate", limit=5, max_idents=3)
    kept = rig.lease("a")
    for ident in "abc":
        use(rig, ident)
        rig.clock.advance(1)
    use(rig, "d")
    assert sorted(managers(rig)) == ["a", "c", "d"]
    assert rig.retired() == [("b", Why.CLOSED)]
    kept.release()
    rig.end()


def test_one_that_is_in_use_does_not_make_way_and_nobody_is_refused() -> None:
    rig = Idents("separate", limit=2, max_idents=2)
    leases = [rig.lease(ident) for ident in "ab"]
    waiting = [rig.ask(ident) for ident in "cd"]
    assert len(managers(rig)) == 4
    for lease in leases:
        lease.release()
    rig.turn()
    for each in waiting:
        result_of(each).release()
    rig.turn()
    assert len(managers(rig)) == 2
    rig.end()


def test_those_whose_requests_were_cancelled_or_timed_out_make_way() -> None:
    rig = Idents("separate", limit=1, max_idents=2)
    lease = rig.lease("a")
    waiting = [rig.ask(ident, timeout=3) for ident in "bcdefg"]
    for each in waiting:
        each.addErrback(lambda _: None)
    for each in waiting[:3]:
        each.cancel()
    assert len(managers(rig)) == 4
    rig.clock.advance(3)
    assert len(managers(rig)) == 2
    lease.release()
    rig.end()


def test_an_ident_whose_manager_made_way_gets_another_at_once() -> None:
    rig = Idents("separate", limit=3, max_idents=1)
    for _ in range(3):
        for ident in "abc":
            assert rig.lease(ident).ident == ident
            gc.collect()
            rig.turn()
    rig.end()


@pytest.mark.parametrize("slots", [None, 2])
@pytest.mark.parametrize("at_a_time", [1, 20, 200])
def test_many_idents_leave_no_more_managers_than_the_bound(
    at_a_time: int, slots: int | None
) -> None:
    rig = Idents("separate", limit=10, max_idents=50, slots=slots, manager_idle_timeout=None)
    made: list[weakref.ref[Any]] = []
    leases: list[Lease[Any]] = []

    def take(lease: Lease[Any]) -> None:
        made.append(weakref.ref(lease.manager))
        leases.append(lease)

    for first in range(0, 200, at_a_time):
        for at in range(first, first + at_a_time):
            rig.ask(f"user {at}", timeout=1000).addCallback(take)
        while len(made) < first + at_a_time or leases:
            while leases:
                leases.pop().release()
            rig.turn()
    assert len(made) == 200
    assert len(managers(rig)) <= 50
    rig.fake.accepted[:] = rig.open()  # it remembers the others, too
    gc.collect()
    assert sum(each() is not None for each in made) <= 50
    (record,) = rig.pool._managers.records
    assert len(record.members) == len(managers(rig))
    rig.end()


def test_groups_make_and_keep_no_more_either() -> None:
    rig = Idents("separate", limit=2, max_idents=5)
    group = rig.pool.group([rig.backend])
    for at in range(50):
        asked = group.connect(f"user {at}")
        rig.turn()
        result_of(asked).release()
        rig.turn()
    assert len(managers(rig)) == 5
    rig.end()


def test_the_bound_is_each_backends_own() -> None:
    rig = Idents("separate", limit=1, max_idents=2)
    other = Backend(FakeBackend(rig.clock), name="other")
    for ident in "abc":
        use(rig, ident)
        asked = rig.pool.connect(ident, other)
        rig.turn()
        result_of(asked).release()
    assert managers(rig) == ["b", "c", "b", "c"]
    rig.end()


def test_a_limit_of_the_pool_that_is_never_reached_keeps_no_manager_alive() -> None:
    rig = Idents("separate", limit=10, max_idents=5)
    rig.pool.resize_pool(10_000)
    made: list[weakref.ref[Any]] = []
    for at in range(300):
        lease = rig.lease(f"user {at}")
        made.append(weakref.ref(lease.manager))
        lease.release()
        del lease
        rig.turn()
    rig.fake.accepted[:] = rig.open()
    gc.collect()
    assert sum(each() is not None for each in made) <= 5 + 100
    rig.end()

"""Rule 30: a request waits for all backends at once, and the first that can serves it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from kolus import (
    Closed,
    Lease,
    LeaseTimeout,
    PoolFull,
    Status,
)
from kolus.testing import NotFired, result_of
from tests.rigs.groups import Grouped


@pytest.mark.parametrize("freed", ["a", "b", "c"])
def test_the_first_lease_to_free_serves_a_request_wherever_that_is(freed: str) -> None:
    rig = Grouped()
    leases = rig.fill()
    asked = rig.ask()
    leases[freed].release()
    assert str(result_of(asked).backend) == freed


def test_the_first_connection_to_be_made_serves_a_request_wherever_that_is() -> None:
    rig = Grouped(2)
    rig.fakes[0].accept(after=3.0)
    rig.fakes[1].accept(after=1.0)
    first, second = rig.ask(), rig.ask()
    rig.clock.advance(1.0)
    assert str(result_of(first).backend) == "b"
    rig.clock.advance(2.0)
    assert str(result_of(second).backend) == "a"


def test_what_was_connected_for_a_request_that_others_served_is_kept() -> None:
    rig = Grouped(2)
    held = rig.lease()
    rig.fakes[1].accept(after=1.0)
    asked = rig.ask()
    held.release()
    assert result_of(asked).backend is rig.backends[0]
    rig.clock.advance(1.0)
    assert [each.idle for each in rig.pool.status(rig.backends)] == [0, 1]


def test_what_is_idle_anywhere_serves_at_once() -> None:
    def first(statuses: Any) -> Status:
        status: Status = statuses[0]
        return status

    rig = Grouped(2, first)
    held = rig.lease()
    result_of(rig.pool.connect("us", rig.backends[1])).release()
    assert rig.lease().backend is rig.backends[1]
    held.release()


def test_a_request_is_connected_for_where_there_is_room() -> None:
    def first(statuses: Any) -> Status:
        status: Status = statuses[0]
        return status

    rig = Grouped(2, first)
    assert [str(rig.lease().backend) for _ in range(2)] == ["a", "b"]


def test_requests_are_served_in_the_order_in_which_they_came() -> None:
    rig = Grouped()
    leases = rig.fill()
    asked = [rig.ask() for _ in range(3)]
    for served, name in enumerate("bca", 1):
        leases[name].release()
        assert [each.called for each in asked] == [True] * served + [False] * (3 - served)


def test_who_waits_for_one_backend_and_who_waits_for_all_are_served_by_arrival() -> None:
    rig = Grouped(2)
    leases = rig.fill()
    anywhere = rig.ask()
    here = rig.pool.connect("us", rig.backends[1])
    anywhere_later = rig.ask()
    leases["b"].release()
    assert anywhere.called
    assert not here.called
    result_of(anywhere).release()
    assert here.called
    assert not anywhere_later.called
    result_of(here).release()
    assert anywhere_later.called


def test_a_newcomer_does_not_overtake_who_waits_for_any() -> None:
    rig = Grouped(2)
    leases = rig.fill()
    asked = rig.ask()
    taken: list[Any] = []
    asked.addCallback(lambda lease: taken.append(rig.pool.try_connect("us", rig.backends[0])))
    leases["a"].release()
    assert taken == [None]


def test_a_cancelled_request_is_skipped_and_loses_nothing() -> None:
    rig = Grouped(2)
    leases = rig.fill()
    asked = rig.ask()
    asked.cancel()
    with pytest.raises(CancelledError):
        result_of(asked)
    leases["b"].release()
    assert rig.waiting() == [0, 0]
    assert rig.lease().backend is rig.backends[1]


def test_a_request_that_waits_for_all_fails_at_its_deadline() -> None:
    rig = Grouped(2)
    leases = rig.fill()
    asked = rig.ask(timeout=2.0)
    rig.clock.advance(1.9)
    with pytest.raises(NotFired):
        result_of(asked)
    rig.clock.advance(0.1)
    with pytest.raises(LeaseTimeout):
        result_of(asked)
    assert rig.waiting() == [0, 0]
    assert len(leases) == 2


def test_exclude_keeps_a_request_from_being_served_by_some() -> None:
    rig = Grouped(3)
    leases = rig.fill()
    asked = rig.ask(exclude=[rig.backends[0], rig.backends[1]])
    leases["a"].release()
    leases["b"].release()
    assert not asked.called
    leases["c"].release()
    assert asked.called


def test_a_balancer_that_binds_keeps_the_request_where_it_chose() -> None:
    def first(statuses: Any) -> Status:
        status: Status = statuses[0]
        return status

    first.bound = True  # type: ignore[attr-defined]
    rig = Grouped(2, first)
    held = rig.lease()
    asked = rig.ask()
    assert rig.fakes[1].attempts == 0
    held.release()
    assert result_of(asked).backend is rig.backends[0]


def test_a_full_queue_refuses_at_once() -> None:
    rig = Grouped(2, max_waiters=0)
    rig.fill()
    with pytest.raises(PoolFull, match="max_waiters=0"):
        rig.lease()


def test_by_default_a_group_lets_any_number_wait_for_their_deadline() -> None:
    rig = Grouped(2)
    leases = rig.fill()
    asked = [rig.ask() for _ in range(1000)]
    assert rig.pool.counters().rejections == 0
    leases.popitem()[1].release()
    held = result_of(asked.pop(0))
    rig.clock.advance(5)
    for each in asked:
        with pytest.raises(LeaseTimeout):
            result_of(each)
    held.release()


def test_a_request_goes_on_waiting_elsewhere_when_its_backend_is_drained() -> None:
    rig = Grouped(2)
    leases = rig.fill()
    asked = [rig.ask() for _ in range(4)]
    rig.pool.drain(rig.backends[0])
    assert not any(each.called for each in asked)
    leases["b"].release()
    assert [each.called for each in asked] == [True, False, False, False]


def test_a_request_moves_on_when_its_backend_is_paused() -> None:
    rig = Grouped(2)
    held = rig.lease()
    rig.fakes[0].never_answer()
    rig.fakes[1].never_answer()
    held.finished()
    rig.turn()
    asked = rig.ask()
    assert rig.waiting() == [1, 0]
    rig.pool.pause(rig.backends[0])
    assert rig.waiting() == [0, 1]
    assert not asked.called


def test_a_larger_limit_serves_who_waits_for_all() -> None:
    rig = Grouped(2)
    rig.fill()
    asked = rig.ask()
    rig.pool.resize(2, rig.backends[1])
    assert result_of(asked).backend is rig.backends[1]


def test_a_connection_that_comes_home_serves_only_waiters_of_its_ident() -> None:
    rig = Grouped(2, idents="separate")
    leases = rig.fill()
    theirs = rig.group.connect("them")
    ours = rig.ask()
    leases["a"].release()
    rig.turn()
    assert result_of(theirs).ident == "them"
    leases["b"].release()
    assert result_of(ours).ident == "us"


def test_select_waits_for_all_of_its_list() -> None:
    rig = Grouped(3)
    leases = rig.fill()
    asked = rig.pool.select("us", rig.backends[1:])
    leases["a"].release()
    assert not asked.called
    leases["c"].release()
    assert result_of(asked).backend is rig.backends[2]


def test_it_is_explained_that_a_request_waits_for_several() -> None:
    rig = Grouped(3)
    rig.fill()
    rig.ask()
    told = [each for each in rig.pool.explain().managers if each.waiters]
    assert [len(each.waiters) for each in told] == [1]
    assert told[0].waiters[0].why.endswith("; any of 3 backends may serve it")
    assert "any of 3 backends" in str(rig.pool.explain())


def test_no_queue_of_a_list_outlives_its_requests() -> None:
    rig = Grouped(3)
    leases = rig.fill()
    asked = [rig.pool.select("us", rig.backends[place:]) for place in (0, 1)]
    asked[0].cancel()
    leases["b"].release()
    result_of(asked[1]).release()
    with pytest.raises(CancelledError):
        result_of(asked[0])
    assert not rig.pool._selector._queues_of_lists._queues
    rig.group.close()
    for backend in rig.backends:
        manager: Any = rig.pool.manager(backend)
        assert not list(manager.groups)
        assert not manager.placements.waiters
        assert not (manager.placements.wait_for_idle)
        assert not (manager.placements.wait_for_new)


def test_who_waits_for_room_is_told_of_it_when_a_backend_gets_a_manager_for_its_ident() -> None:
    turn = [0]
    rig = Grouped(2, lambda statuses: statuses[turn[0]], idents="replace", limit=3)
    held = [rig.lease() for _ in range(3)]
    held.append(result_of(rig.pool.connect("them", rig.backends[1])))
    rig.fakes[1].accept(after=0.1, always=True)
    asked = [rig.ask()]  # there is room only where a manager would displace another ident's
    turn[0] = 1
    asked.append(rig.ask())
    assert rig.fakes[1].attempts == 3
    rig.clock.advance(0.1)
    assert [result_of(each).backend for each in asked] == [rig.backends[1]] * 2


def test_a_slow_connect_does_not_hold_up_who_could_be_connected_for_elsewhere() -> None:
    rig = Grouped(2)
    rig.fakes[0].never_answer()
    asked = rig.ask()
    rig.clock.advance(1.0)
    assert result_of(asked).backend is rig.backends[1]


def test_closing_a_group_fails_who_waits_and_leaves_leases_be() -> None:
    rig = Grouped(2)
    leases = rig.fill()
    asked = rig.ask()
    rig.group.close()
    rig.group.close()
    with pytest.raises(Closed, match="closed"):
        result_of(asked)
    with pytest.raises(Closed):
        rig.lease()
    assert leases["a"].held
    leases["a"].release()
    assert result_of(rig.pool.connect("us", rig.backends[0])).reused


@pytest.mark.long
def test_a_hundred_thousand_who_release_in_their_callback_need_no_recursion() -> None:
    rig = Grouped(2, max_waiters=1_000_000, acquire_timeout=None)
    leases = rig.fill()
    served = []

    def serve(lease: Lease[Any]) -> None:
        served.append(None)
        lease.release()

    for _ in range(100_000):
        rig.ask().addCallback(serve)
    leases["b"].release()
    assert len(served) == 100_000


@pytest.mark.parametrize("how", ["closed", "limit"])
def test_a_request_hears_of_a_slot_at_a_backend_where_its_ident_has_nothing(how: str) -> None:
    rig = Grouped(2, lambda statuses: statuses[1], idents="separate")
    others = result_of(rig.pool.connect("them", rig.backends[0]))
    held = rig.lease()
    assert held.backend is rig.backends[1]
    asked = rig.ask()
    if how == "closed":
        others.finished()
    else:
        rig.pool.resize(2, rig.backends[0])
    rig.turn()
    assert result_of(asked).backend is rig.backends[0]


def test_a_queue_that_is_closed_waits_for_room_nowhere() -> None:
    rig = Grouped(2, lambda statuses: statuses[1], idents="separate")
    rig.pool.connect("them", rig.backends[0])
    rig.lease()
    asked = rig.ask()
    records = rig.pool._managers.records
    assert [len(each.turns.outside) for each in records] == [1, 0]
    rig.group.close()
    assert not any(each.turns.outside for each in records)
    with pytest.raises(Closed):
        result_of(asked)


def test_a_manager_that_ends_serves_no_queue_in_which_somebody_begins_to_wait() -> None:
    rig = Grouped(2)
    leases = rig.fill()
    gone = rig.ask()
    gone.cancel()
    with pytest.raises(CancelledError):
        result_of(gone)
    leases["a"].release()  # there it is seen that nobody waits
    rig.lease()
    manager: Any = rig.pool.manager(rig.backends[0])
    rig.pool.drain(rig.backends[0])
    asked = rig.ask()
    assert not list(manager.groups)
    leases["b"].release()
    assert result_of(asked).backend is rig.backends[1]


def test_a_request_that_has_another_place_makes_room_for_one_that_has_none() -> None:
    rig = Grouped(2)
    rig.fakes[0].never_answer(always=True)
    anywhere = rig.ask()
    only_there = rig.ask(exclude=[rig.backends[1]])
    rig.turn()
    assert result_of(anywhere).backend is rig.backends[1]
    assert not only_there.called


def test_the_load_is_right_while_the_next_waiter_leaves_its_queue() -> None:
    rig = Grouped(1, limit=3, idents="separate")
    held, record = [rig.lease(), rig.lease()], rig.pool._managers.records.find(rig.backends[0].key)
    result_of(rig.pool.connect("them", rig.backends[0]))
    first: Any = rig.ask()
    second: Any = rig.ask()
    queue = second.queue
    assert record is not None
    seen, take = [], queue.take

    def look(result: Any) -> Any:
        seen.append((record.load.now(), 1 + sum([each.load() for each in record.members])))
        return result

    queue.take = lambda waiter: look(take(look(waiter)))
    first.addCallback(lambda lease: [held[1].release(), look(lease)][1])
    held[0].release()
    assert first.called
    assert second.called
    assert len(seen) == 5
    assert all(noted == truth for noted, truth in seen), seen

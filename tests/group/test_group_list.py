"""Rule 31: a new list of backends, while requests wait and leases are held."""

from __future__ import annotations

import pytest

from kolus import Draining, KolusError
from kolus.balance import least_leased
from kolus.status import State
from kolus.testing import result_of
from tests.rigs.groups import Sourced, names


def test_another_list_keeps_the_connections_and_the_load_of_those_that_stay() -> None:
    rig = Sourced("abc", least_leased, limit=3)
    held = [rig.at("a"), rig.at("b")]
    rig.at("b").release()
    rig.tell("ba")
    assert (rig.status("a").leased, rig.status("b").leased, rig.status("b").idle) == (1, 1, 1)
    rig.at("b").release()
    assert rig.fake("b").attempts == 2
    held[0].release()
    assert rig.lease().backend is rig.known["a"]


def test_another_list_keeps_the_health_of_those_that_stay() -> None:
    rig = Sourced("abc")
    rig.pool.eject(rig.known["a"])
    rig.tell("abd")
    assert rig.group.status().ejected == 1
    assert rig.status("a").state is State.EJECTED
    assert names([rig.lease()]) == "b"


def test_those_that_left_are_drained() -> None:
    rig = Sourced("abc", limit=2)
    held, idle = rig.at("a"), rig.at("a")
    idle.release()
    rig.tell("bc")
    assert rig.status("a").state is State.DRAINING
    with pytest.raises(Draining):
        rig.at("a")
    rig.turn()
    assert len(rig.fake("a").connections) == 1
    held.release()
    rig.turn()
    assert rig.fake("a").connections == []
    assert rig.status("a").state is State.ABSENT


def test_who_waited_at_one_that_left_is_served_elsewhere() -> None:
    rig = Sourced("ab")
    rig.fake("a").never_answer()
    asked = rig.ask()
    assert rig.status("a").waiting == 1
    rig.tell("b")
    assert names([result_of(asked)]) == "b"


def test_who_waited_at_one_that_left_goes_on_waiting_for_the_others() -> None:
    rig = Sourced("ab")
    leases = {names([each]): each for each in (rig.lease(), rig.lease())}
    asked = [rig.ask() for _ in range(4)]
    rig.tell("b")
    assert not any(each.called for each in asked)
    assert rig.group.status().waiting == 4
    for each in asked:
        leases["b"].release()
        leases["b"] = result_of(each)
        assert names([leases["b"]]) == "b"


def test_who_waited_is_served_by_one_that_came() -> None:
    rig = Sourced("a")
    held = rig.lease()
    asked = [rig.ask() for _ in range(2)]
    rig.tell("ab")
    rig.clock.advance(0.1)
    assert [not each.called for each in asked] == [False, True]
    held.release()
    assert asked[1].called


def test_who_waited_where_nothing_can_serve_any_more_is_failed() -> None:
    rig = Sourced("ab", backoff=None)
    rig.fake("a").never_answer()
    asked = rig.ask()
    rig.fake("b").refuse(always=True)
    rig.tell("b")
    with pytest.raises(KolusError):
        result_of(asked)
    assert rig.group.status().waiting == 0


def test_who_waited_at_all_of_them_is_served_when_all_have_left_and_others_came() -> None:
    rig = Sourced("ab")
    held = [rig.lease(), rig.lease()]
    asked = [rig.ask(), rig.ask()]
    rig.tell("cd")
    assert sorted(names([result_of(each) for each in asked])) == ["c", "d"]
    assert len(held) == 2


def test_who_waits_goes_on_when_all_have_left_and_are_back_though_old_leases_have_every_slot() -> (
    None
):
    rig = Sourced("ab")
    held = [rig.lease(), rig.lease()]
    asked = [rig.ask() for _ in range(6)]
    rig.tell("c")
    rig.tell("ab")
    assert names([result_of(asked[0])]) == "c"
    assert not any(each.called for each in asked[1:])
    for lease in held:
        lease.release()
    served = ""
    for each in asked[1:]:
        rig.turn()
        lease = result_of(each)
        served += names([lease])
        lease.release()
    assert {*served} == {"a", "b"}


def test_who_waited_without_some_is_served_or_failed_when_a_backend_leaves() -> None:
    rig = Sourced("abc")
    held = {names([each]): each for each in [rig.lease() for _ in range(3)]}
    asked = rig.ask(exclude=[rig.known["a"]])
    rig.tell("ac")
    assert not asked.called
    held["c"].release()
    assert names([result_of(asked)]) == "c"


def test_a_backend_that_another_group_still_has_is_not_drained() -> None:
    rig = Sourced("ab")
    other = rig.pool.group([rig.known["a"]])
    held = rig.at("a")
    rig.tell("b")
    assert rig.status("a").state is State.OPEN
    held.release()
    assert result_of(other.connect("us")).reused


def test_a_backend_of_a_group_that_is_closed_is_drained_when_another_leaves_it() -> None:
    rig = Sourced("ab")
    rig.pool.group([rig.known["a"]]).close()
    held = rig.at("a")
    rig.tell("b")
    assert rig.status("a").state is State.DRAINING
    held.release()


def test_a_backend_that_comes_back_while_it_drains_serves_again_under_its_limit() -> None:
    rig = Sourced("a", limit=2)
    held = rig.at("a")
    rig.tell("b")
    assert rig.status("a").state is State.DRAINING
    rig.tell("a")
    assert rig.status("a").state is State.ABSENT
    assert rig.status("a").leased == 1
    other = rig.lease()
    assert names([other]) == "a"
    assert rig.status("a").state is State.OPEN
    asked = rig.ask()
    assert not asked.called
    assert rig.fake("a").attempts == 2
    held.release()
    rig.turn()
    assert names([result_of(asked)]) == "a"
    other.release()


def test_a_backend_that_comes_back_is_chosen_while_its_old_leases_are_out() -> None:
    rig = Sourced("ab", least_leased, limit=3)
    held = [rig.at("a"), *[rig.at("b") for _ in range(2)]]
    rig.tell("b")
    rig.tell("ab")
    assert names([rig.lease()]) == "a"
    for each in held:
        each.release()


def test_a_backend_that_was_drained_by_hand_is_so_though_it_comes_back() -> None:
    rig = Sourced("a")
    held = rig.at("a")
    rig.pool.drain(rig.known["a"])
    rig.tell("b")
    rig.tell("a")
    assert rig.status("a").state is State.DRAINING
    with pytest.raises(Draining):
        rig.lease()
    held.release()
    rig.turn()
    assert names([rig.lease()]) == "a"


def test_another_group_that_has_it_brings_a_backend_back_too() -> None:
    rig = Sourced("a")
    held = rig.at("a")
    rig.tell("b")
    group = rig.pool.group([rig.known["a"]])
    asked = group.connect("us")
    held.release()
    rig.turn()
    assert names([result_of(asked)]) == "a"


def test_where_the_only_backend_comes_back_while_it_drains_nobody_is_orphaned() -> None:
    rig = Sourced("a")
    held = rig.lease()
    rig.tell("b")
    rig.fake("b").never_answer(always=True)
    asked = rig.ask(timeout=4.0)
    rig.tell("a")
    held.release()
    rig.turn()
    lease = result_of(asked)
    assert names([lease]) == "a"
    lease.release()
    assert names([rig.lease()]) == "a"


def test_a_list_that_is_told_while_a_request_is_served_is_heard() -> None:
    rig = Sourced("a")
    held = rig.lease()
    first, second = rig.ask(), rig.ask()
    first.addCallback(lambda lease: rig.tell("b"))
    held.release()
    assert names(rig.group.backends) == "b"
    assert names([result_of(second)]) == "b"


def test_a_backend_that_joins_with_something_idle_serves_who_waits() -> None:
    rig = Sourced("a")
    rig.fake("a").accept(after=0.2, always=True)
    rig.at("b").release()
    asked = rig.ask()
    rig.tell("ab")
    assert names([result_of(asked)]) == "b"


def test_who_is_served_by_one_that_is_back_may_have_the_list_told_again() -> None:
    rig = Sourced("abc", limit=2)
    held = [rig.at(each) for each in "abcc"]
    rig.tell("c")
    again: list[str] = []
    asked = rig.pool.select("us", [rig.known[each] for each in "abc"])
    asked.addBoth(lambda lease: (again.append(str(lease.backend)), rig.tell("abc"), lease)[2])
    assert not asked.called
    rig.tell("abc")
    assert again == ["a"]
    held += [result_of(asked), rig.at("b")]
    for each in held:
        each.release()

"""Rule 31: another list of backends, while requests wait and leases are out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from kolus import Backend, Draining, KolusError, LeaseTimeout, Status
from kolus.backend import State
from kolus.balance import least_leased
from kolus.events import TimedOut
from kolus.testing import FakeBackend, result_of
from tests.grouping import Rig, is_waiting, names


def test_another_list_keeps_the_connections_and_the_load_of_those_that_stay() -> None:
    rig = Rig("abc", least_leased, limit=3)
    held = [rig.at("a"), rig.at("b")]
    rig.at("b").release()
    rig.tell("ba")
    assert (rig.status("a").leased, rig.status("b").leased, rig.status("b").idle) == (1, 1, 1)
    rig.at("b").release()
    assert rig.fakes["b"].attempts == 2
    held[0].release()
    assert rig.lease().backend is rig.known["a"]


def test_another_list_keeps_the_health_of_those_that_stay() -> None:
    rig = Rig("abc")
    rig.pool.eject(rig.known["a"])
    rig.tell("abd")
    assert rig.group.status().ejected == 1
    assert rig.status("a").state is State.EJECTED
    assert names([rig.lease()]) == "b"


def test_those_that_left_are_drained() -> None:
    rig = Rig("abc", limit=2)
    held, idle = rig.at("a"), rig.at("a")
    idle.release()
    rig.tell("bc")
    assert rig.status("a").state is State.DRAINING
    with pytest.raises(Draining):
        rig.at("a")
    rig.turn()
    assert len(rig.fakes["a"].connections) == 1
    held.release()
    rig.turn()
    assert rig.fakes["a"].connections == []
    assert rig.status("a").state is State.ABSENT


def test_who_waited_at_one_that_left_is_served_elsewhere() -> None:
    rig = Rig("ab")
    rig.fakes["a"].never_answer()
    asked = rig.ask()
    assert rig.status("a").waiting == 1
    rig.tell("b")
    assert names([result_of(asked)]) == "b"


def test_who_waited_at_one_that_left_goes_on_waiting_for_the_others() -> None:
    rig = Rig("ab")
    leases = {names([each]): each for each in (rig.lease(), rig.lease())}
    asked = [rig.ask() for _ in range(4)]
    rig.tell("b")
    assert all(map(is_waiting, asked))
    assert rig.group.status().waiting == 4
    for each in asked:
        leases["b"].release()
        leases["b"] = result_of(each)
        assert names([leases["b"]]) == "b"


def test_who_waited_is_served_by_one_that_came() -> None:
    rig = Rig("a")
    held = rig.lease()
    asked = [rig.ask() for _ in range(2)]
    rig.tell("ab")
    rig.clock.advance(0.1)
    assert [is_waiting(each) for each in asked] == [False, True]
    held.release()
    assert not is_waiting(asked[1])


def test_who_waited_where_nothing_can_serve_any_more_is_failed() -> None:
    rig = Rig("ab", backoff=None)
    rig.fakes["a"].never_answer()
    asked = rig.ask()
    rig.fakes["b"].refuse(always=True)
    rig.tell("b")
    with pytest.raises(KolusError):
        result_of(asked)
    assert rig.group.status().waiting == 0


def test_who_waited_at_all_of_them_is_served_when_all_have_left_and_others_came() -> None:
    rig = Rig("ab")
    held = [rig.lease(), rig.lease()]
    asked = [rig.ask(), rig.ask()]
    rig.tell("cd")
    assert sorted(names([result_of(each) for each in asked])) == ["c", "d"]
    assert len(held) == 2


def test_who_waits_goes_on_when_all_have_left_and_are_back_though_old_leases_have_every_slot() -> (
    None
):
    rig = Rig("ab")
    held = [rig.lease(), rig.lease()]
    asked = [rig.ask() for _ in range(6)]
    rig.tell("c")
    rig.tell("ab")
    assert names([result_of(asked[0])]) == "c"
    assert all(map(is_waiting, asked[1:]))
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
    rig = Rig("abc")
    held = {names([each]): each for each in [rig.lease() for _ in range(3)]}
    asked = rig.ask(exclude=[rig.known["a"]])
    rig.tell("ac")
    assert is_waiting(asked)
    held["c"].release()
    assert names([result_of(asked)]) == "c"


def test_a_backend_that_another_group_still_has_is_not_drained() -> None:
    rig = Rig("ab")
    other = rig.pool.group([rig.known["a"]])
    held = rig.at("a")
    rig.tell("b")
    assert rig.status("a").state is State.OPEN
    held.release()
    assert result_of(other.connect("us")).reused


def test_a_backend_of_a_group_that_is_closed_is_drained_when_another_leaves_it() -> None:
    rig = Rig("ab")
    rig.pool.group([rig.known["a"]]).close()
    held = rig.at("a")
    rig.tell("b")
    assert rig.status("a").state is State.DRAINING
    held.release()


def test_a_changed_limit_takes_effect() -> None:
    rig = Rig("")
    backend = rig.known["a"]
    rig.source.tell(Backend("tcp:192.0.2.1:1", limit=1), backend)
    rig.source.tell(Backend("tcp:192.0.2.1:1", limit=7), backend)
    assert [each.limit for each in rig.group.status().backends] == [7, 1]


def test_a_larger_limit_in_another_list_serves_who_waits() -> None:
    rig = Rig("")
    fake = FakeBackend(rig.clock)
    one = Backend(fake, name="x", limit=1)
    two = object.__new__(Backend)  # the same key with another limit, as an endpoint string has
    for field in fields(Backend):
        object.__setattr__(two, field.name, getattr(one, field.name))
    object.__setattr__(two, "limit", 2)
    rig.source.tell(one)
    held = rig.lease()
    asked = rig.ask()
    rig.source.tell(two)
    assert not is_waiting(asked)
    held.release()


def test_a_limit_that_is_told_no_more_is_the_policys_again() -> None:
    rig = Rig("", limit=3)
    rig.source.tell(Backend("tcp:192.0.2.1:1", limit=7))
    rig.pool.eject("tcp:192.0.2.1:1")
    rig.source.tell(Backend("tcp:192.0.2.1:1"))
    assert [each.limit for each in rig.group.status().backends] == [3]


HERE = "tcp:192.0.2.1:1"


def here(limit: int | None = None, **also: Any) -> Backend:
    return Backend(HERE, limit=limit, **also)


def limit_of(rig: Rig) -> int:
    """What a manager of that backend has, once it is asked for."""
    rig.pool.connect("us", HERE).addErrback(lambda failure: None).cancel()
    (status,) = rig.pool.status([HERE])
    assert status.manager is not None
    return status.limit


@pytest.mark.parametrize(
    ("lists", "limits"),
    [
        ([here(5), here()], [5, 3]),
        ([here(), here(5), here()], [3, 5, 3]),
        ([here(5), None, here(7)], [5, 5, 7]),
        ([here(5), None, here()], [5, 5, 3]),
        ([None, here(5)], [3, 5]),
    ],
    ids=["no more", "and back", "left and came with another", "left and came without", "came"],
)
def test_the_limit_is_what_the_list_says(lists: list[Backend | None], limits: list[int]) -> None:
    rig = Rig("", clock=MemoryReactorClock(), limit=3)
    told = []
    for each in lists:
        rig.source.tell(*([each] if each else [rig.known["a"]]))
        told.append(limit_of(rig))
    assert told == limits


def test_a_limit_set_by_hand_holds_until_the_list_says_another() -> None:
    rig = Rig("", clock=MemoryReactorClock(), limit=3)
    rig.pool.resize(9, HERE)
    for told in ([here(5)], [here(5, weight=2.0)], [rig.known["a"]], [here(6)]):
        rig.source.tell(*told)
        assert limit_of(rig) == 9
    rig.source.tell(here(5))
    assert limit_of(rig) == 5
    rig.pool.resize(9, HERE)
    rig.pool.resize(2)
    assert limit_of(rig) == 9
    rig.source.tell(here())
    assert limit_of(rig) == 2
    rig.pool.resize(4)
    assert limit_of(rig) == 4


def test_of_several_lists_the_newest_that_says_a_limit_is_heeded() -> None:
    rig = Rig("", clock=MemoryReactorClock(), limit=3)
    rig.source.tell(here(5))
    assert limit_of(rig) == 5
    rig.pool.group([here()])
    assert limit_of(rig) == 5
    group = rig.pool.group([here(7)])
    assert limit_of(rig) == 7
    group.close()
    rig.source.tell(here(6))
    assert limit_of(rig) == 6


def test_the_list_of_a_group_that_is_closed_says_nothing_any_more() -> None:
    rig = Rig("", clock=MemoryReactorClock(), limit=3)
    rig.source.tell(here(5))
    rig.pool.group([here(7)]).close()
    assert limit_of(rig) == 5


def test_what_messages_call_a_backend_follows_the_list() -> None:
    events: list[Any] = []
    rig = Rig("", clock=MemoryReactorClock())
    rig.pool._observers.append(events.append)
    rig.source.tell(here(name="old", weight=2.0))
    first = rig.ask(timeout=3.0)
    rig.source.tell(here(name="new", weight=4.0))
    (status,) = rig.pool.status()
    assert (str(status.backend), status.backend.weight) == ("new", 4.0)
    assert "new (open" in str(rig.pool.explain())
    rig.clock.advance(3.0)
    with pytest.raises(LeaseTimeout, match="no connection to new "):
        result_of(first)
    assert [str(each.backend) for each in events if isinstance(each, TimedOut)] == ["new"]
    rig.pool.eject(HERE)
    assert str(events[-1].backend) == "new"


def test_a_backend_that_is_asked_for_by_its_string_is_called_what_the_list_calls_it() -> None:
    rig = Rig("", clock=MemoryReactorClock(), limit=3)
    rig.source.tell(here(5, name="new"))
    assert limit_of(rig) == 5
    assert [str(each.backend) for each in rig.pool.status()] == ["new"]


def test_a_changed_weight_and_zone_take_effect(logged_failures: Any) -> None:
    rig = Rig("")
    seen: list[Any] = []

    def look(statuses: Sequence[Status]) -> Status:
        seen.append((statuses[0].backend.weight, statuses[0].backend.zone, statuses[0].load))
        raise ArithmeticError

    for weight, zone in ((1.0, "x"), (4.0, "y")):
        rig.source.tell(Backend("tcp:192.0.2.1:1", weight=weight, zone=zone))
        rig.ask(balancer=look).addErrback(lambda failure: None)
    assert seen == [(1.0, "x", 1.0), (4.0, "y", 0.25)]
    logged_failures.flush(ArithmeticError)


def test_a_backend_that_comes_back_while_it_drains_serves_again_under_its_limit() -> None:
    rig = Rig("a", limit=2)
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
    assert is_waiting(asked)
    assert rig.fakes["a"].attempts == 2
    held.release()
    rig.turn()
    assert names([result_of(asked)]) == "a"
    other.release()


def test_a_backend_that_comes_back_is_chosen_while_its_old_leases_are_out() -> None:
    rig = Rig("ab", least_leased, limit=3)
    held = [rig.at("a"), *[rig.at("b") for _ in range(2)]]
    rig.tell("b")
    rig.tell("ab")
    assert names([rig.lease()]) == "a"
    for each in held:
        each.release()


def test_a_backend_that_was_drained_by_hand_is_so_though_it_comes_back() -> None:
    rig = Rig("a")
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
    rig = Rig("a")
    held = rig.at("a")
    rig.tell("b")
    group = rig.pool.group([rig.known["a"]])
    asked = group.connect("us")
    held.release()
    rig.turn()
    assert names([result_of(asked)]) == "a"


def test_where_the_only_backend_comes_back_while_it_drains_nobody_is_orphaned() -> None:
    rig = Rig("a")
    held = rig.lease()
    rig.tell("b")
    rig.fakes["b"].never_answer(always=True)
    asked = rig.ask(timeout=4.0)
    rig.tell("a")
    held.release()
    rig.turn()
    lease = result_of(asked)
    assert names([lease]) == "a"
    lease.release()
    assert names([rig.lease()]) == "a"


def test_a_list_that_is_told_while_a_request_is_served_is_heard() -> None:
    rig = Rig("a")
    held = rig.lease()
    first, second = rig.ask(), rig.ask()
    first.addCallback(lambda lease: rig.tell("b"))
    held.release()
    assert names(rig.group.backends) == "b"
    assert names([result_of(second)]) == "b"


def test_a_backend_that_joins_with_something_idle_serves_who_waits() -> None:
    rig = Rig("a")
    rig.fakes["a"].accept(after=0.2, always=True)
    rig.at("b").release()
    asked = rig.ask()
    rig.tell("ab")
    assert names([result_of(asked)]) == "b"


def test_who_is_served_by_one_that_is_back_may_have_the_list_told_again() -> None:
    rig = Rig("abc", limit=2)
    held = [rig.at(each) for each in "abcc"]
    rig.tell("c")
    again: list[str] = []
    asked = rig.pool.select("us", [rig.known[each] for each in "abc"])
    asked.addBoth(lambda lease: (again.append(str(lease.backend)), rig.tell("abc"), lease)[2])
    assert is_waiting(asked)
    rig.tell("abc")
    assert again == ["a"]
    held += [result_of(asked), rig.at("b")]
    for each in held:
        each.release()

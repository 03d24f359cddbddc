"""The balancer of a group: what it sees, and what it may choose."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from operator import itemgetter
from typing import Any

import pytest

from kolus import Backend, NoBackend, Status
from kolus.balance import (
    Balancer,
    consistent,
    fill_first,
    idle_first,
    least_leased,
    peak_ewma,
    pick_two,
    prefer_zone,
    round_robin,
)
from kolus.testing import result_of
from tests.rigs.groups import Sourced, names
from tests.rigs.pools import Half


def test_the_policys_balancer_chooses_where_a_group_has_none() -> None:
    rig = Sourced("", balancer=None)
    assert rig.group.balancer is rig.pool.policy.balancer


def test_a_request_can_have_a_balancer_of_its_own() -> None:
    def last(statuses: Sequence[Status]) -> Status:
        return statuses[-1]

    rig = Sourced("abc")
    lease = rig.lease(balancer=last)
    assert names([lease]) == "c"
    lease.release()
    again = rig.group.try_connect("us", balancer=last)
    assert again is not None
    again.release()


def test_a_balancer_that_raises_fails_the_request_and_is_logged(logged_failures: Any) -> None:
    def broken(statuses: Sequence[Status]) -> Status:
        raise ArithmeticError("cannot count")

    rig = Sourced("ab", broken)
    with pytest.raises(NoBackend, match="raised ArithmeticError: cannot count"):
        rig.lease()
    with pytest.raises(NoBackend, match="raised ArithmeticError: cannot count"):
        rig.group.try_connect("us")
    assert len(logged_failures.flush(ArithmeticError)) == 2
    rig.lease(balancer=fill_first).release()


@pytest.mark.parametrize(
    "choose",
    [
        lambda statuses: None,
        lambda statuses: statuses[0].backend,
        lambda statuses: statuses[0].snapshot(),
        lambda statuses: 0,
    ],
)
def test_a_balancer_that_chooses_none_of_the_statuses_fails_the_request(choose: Any) -> None:
    rig = Sourced("ab", choose)
    with pytest.raises(NoBackend, match="none of the 2 statuses"):
        rig.lease()


def test_a_function_that_makes_balancers_is_told_from_a_balancer() -> None:
    rig = Sourced("ab", round_robin)  # type: ignore[arg-type]
    with pytest.raises(NoBackend, match="it makes balancers, so give what it returns"):
        rig.lease()


def test_a_balancer_cannot_choose_a_status_of_another_group() -> None:
    kept: list[Status] = []

    def keep(statuses: Sequence[Status]) -> Status:
        kept.append(statuses[0])
        return kept[0]

    rig = Sourced("ab", keep)
    rig.lease().release()
    other = rig.pool.group([rig.known["c"]], lambda statuses: kept[0])
    with pytest.raises(NoBackend, match="none of the 1 statuses"):
        result_of(other.connect("us"))


def test_a_balancer_sees_a_sequence_of_statuses_with_all_their_fields() -> None:
    seen: list[Sequence[Status]] = []

    def look(statuses: Sequence[Status]) -> Status:
        seen.append(statuses)
        return statuses[0]

    rig = Sourced("abc", look)
    held = rig.lease()
    (statuses,) = seen
    assert isinstance(statuses, Sequence)
    assert len(statuses) == 3
    assert names(list(statuses)) == "abc"
    assert names(statuses[1:]) == "bc"
    assert names(statuses[::-2]) == "ca"
    assert names([statuses[-1]]) == "c"
    assert statuses[1] in statuses
    assert statuses.index(statuses[2]) == 2
    with pytest.raises(IndexError):
        statuses[3]
    for each, told in zip(statuses, rig.group.status().backends, strict=True):
        assert isinstance(each, Status)
        for name in [field.name for field in fields(Status)]:
            assert getattr(each, name) == getattr(told, name), name
        for name in ("takes_requests", "load", "pressure", "room"):
            assert getattr(each, name) == getattr(told, name), name
        assert str(each) == str(told)
    assert statuses[0].leased == 1
    held.release()
    assert (statuses[0].leased, statuses[0].idle) == (0, 1)


def test_a_balancer_sees_the_numbers_of_all_idents_and_of_what_waits() -> None:
    seen: list[Sequence[Status]] = []

    def look(statuses: Sequence[Status]) -> Status:
        seen.append(statuses)
        return statuses[0]

    rig = Sourced("ab", look, idents="separate", limit=2)
    held = [rig.lease(), result_of(rig.group.connect("others"))]
    waiting = [rig.pool.connect(ident, rig.known["a"]) for ident in ("us", "others", "us")]
    for each, told in zip(seen[0], rig.group.status().backends, strict=True):
        for name in [field.name for field in fields(Status)]:
            assert getattr(each, name) == getattr(told, name), name
        assert (each.load, each.outstanding) == (told.load, told.outstanding)
    assert (seen[0][0].leased, seen[0][0].waiting, seen[0][0].outstanding) == (2, 3, 5)
    for lease in held:
        lease.release()
    rig.pool.close(0)
    rig.turn()
    for each in waiting:
        each.addErrback(lambda failure: None)


def test_a_balancer_that_learns_hears_how_long_leases_took() -> None:
    heard: list[tuple[str, float]] = []

    class Learning:
        def __call__(self, statuses: Sequence[Status]) -> Status:
            return statuses[0]

        def observe(self, backend: Backend, seconds: float) -> None:
            heard.append((str(backend), seconds))

    rig = Sourced("ab", Learning())
    lease = rig.lease()
    rig.clock.advance(2.0)
    lease.release()
    assert heard == [("a", 2.0)]
    rig.tell("ba")
    rig.lease().release()
    assert len(heard) == 2
    rig.group.close()
    rig.at("a").release()
    assert len(heard) == 2


@pytest.mark.parametrize("kind", ["fill_first", "round_robin", "peak_ewma"])
def test_a_balancer_goes_on_with_another_list(kind: str) -> None:
    rig = Sourced("abc", limit=20)
    balancer: Any = {
        "fill_first": lambda: fill_first,
        "round_robin": round_robin,
        "peak_ewma": lambda: peak_ewma(rig.clock, Half()),
    }[kind]()
    for told in ("abc", "cd", "d", "abcd", "a"):
        rig.tell(told)
        leases = [rig.lease(balancer=balancer) for _ in range(8)]
        assert set(names(leases)) <= set(told)
        for each in leases:
            each.release()
        rig.turn()


def forwarding(balancer: Balancer, seen: list[Any]) -> Balancer:
    """A wrapper that has all attributes of what it wraps, as C{functools.wraps} makes it."""

    @functools.wraps(balancer)
    def wrapper(statuses: Sequence[Status]) -> Status:
        seen.append(len(statuses))
        return balancer(statuses)

    return wrapper


@pytest.mark.parametrize("how", ["group", "select"])
def test_a_balancer_that_wraps_pick_two_is_asked_itself(how: str) -> None:
    rig = Sourced("abc", limit=3)
    for name in "abc":
        rig.at(name).release()
    seen: list[Any] = []
    balancer = forwarding(pick_two(), seen)
    if how == "group":
        asked = rig.pool.group(list(rig.known.values())[:3], balancer).connect("us")
    else:
        asked = rig.pool.select("us", list(rig.known.values())[:3], balancer)
    result_of(asked).release()
    assert seen == [3]


class Part(Sequence[Status]):
    """Some of a group's statuses. Whatever else is asked of it, the group's sequence answers."""

    def __init__(self, statuses: Sequence[Status], places: Sequence[int]) -> None:
        self._statuses = statuses
        self._places = places

    def __getitem__(self, place: Any) -> Any:
        return self._statuses[self._places[place]]

    def __len__(self) -> int:
        return len(self._places)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._statuses, name)


@pytest.mark.parametrize("how", ["group", "select"])
@pytest.mark.parametrize(
    "make",
    [
        pick_two,
        lambda: fill_first,
        lambda: idle_first,
        lambda: least_leased,
        round_robin,
        lambda: consistent(7),
        lambda: prefer_zone("", idle_first),
        lambda: prefer_zone("", consistent(7)),
    ],
)
def test_what_wraps_the_statuses_is_asked_not_what_it_wraps(how: str, make: Any) -> None:
    rig = Sourced("abcd", limit=3)
    for name in "abcd":
        rig.at(name).release()
    balancer = make()

    def choose(statuses: Sequence[Status]) -> Status:
        chosen: Status = balancer(Part(statuses, [2, 3]))
        return chosen

    for _ in range(4):
        if how == "group":
            asked = rig.ask(balancer=choose)
        else:
            asked = rig.pool.select("us", list(rig.known.values()), choose)
        lease = result_of(asked)
        assert names([lease]) in "cd"
        lease.release()


def test_a_balancer_that_is_set_later_chooses_from_then_on() -> None:
    rig = Sourced("abc", pick_two(), limit=3)
    for name in "abc":
        rig.at(name).release()
    rig.lease().release()
    for place, name in enumerate("abc"):
        rig.group.balancer = itemgetter(place)
        for ask in (rig.lease, partial(rig.group.try_connect, "us")):
            lease: Any = ask()
            assert names([lease]) == name
            lease.release()
    rig.tell("ab")
    rig.group.balancer = itemgetter(1)
    rig.tell("ba")
    lease = rig.lease()
    assert names([lease]) == "a"
    lease.release()
    rig.group.balancer = pick_two()
    rig.lease().release()


def test_a_balancer_that_is_set_later_hears_the_leases_and_the_one_before_no_more() -> None:
    heard: list[str] = []

    class Learning:
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, statuses: Sequence[Status]) -> Status:
            return statuses[0]

        def observe(self, backend: Backend, seconds: float) -> None:
            heard.append(self.name)

    first, then = Learning("first"), Learning("then")
    rig = Sourced("ab", first)
    rig.lease().release()
    rig.group.balancer = then
    rig.lease().release()
    rig.tell("ba")
    rig.at("a").release()
    assert heard == ["first", "then", "then"]
    rig.group.close()
    rig.group.balancer = first
    rig.at("a").release()
    assert heard == ["first", "then", "then"]


def test_what_is_no_balancer_cannot_be_set() -> None:
    rig = Sourced("ab")
    with pytest.raises(TypeError, match="balancer must be callable"):
        rig.group.balancer = "pick_two"  # type: ignore[assignment]
    assert rig.group.balancer is fill_first

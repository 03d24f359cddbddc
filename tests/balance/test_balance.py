"""The balancers, with statuses made by hand."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
from twisted.internet.task import Clock

from kolus import Backend, Status, balance
from kolus.balance import NAMES, Rank, fill_first, idle_first, least_leased, pick_two, prefer_zone
from kolus.status import State


@functools.cache
def backend(name: str, weight: float, zone: str) -> Backend:
    return Backend(f"unix:/{name}", name=name, weight=weight, zone=zone)


def status(name: str, *, weight: float = 1.0, zone: str = "", **numbers: Any) -> Status:
    values: dict[str, Any] = {
        "backend": backend(name, weight, zone),
        "manager": None,
        "ident": "us",
        "idle": 0,
        "leased": 0,
        "connecting": 0,
        "unused": 2,
        "waiting": 0,
        "limit": 2,
        "state": State.OPEN,
    }
    return Status(**values | numbers)


def absent(name: str) -> Status:
    return status(name, idle=None, unused=None, state=State.ABSENT)


class Looked(Sequence[Status]):
    """A lazy list: it makes a status whenever it is asked for one, and refuses to be walked."""

    def __init__(self, count: int, make: Callable[[int], Status]) -> None:
        self.looks = 0
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: Any) -> Any:
        if not 0 <= at < self._count:
            raise IndexError(at)
        self.looks += 1
        return self._make(at)

    def __iter__(self) -> Any:
        raise AssertionError("a balancer walked the list")


class Walkable(Looked):
    """One for balancers that have to look at all."""

    __iter__ = Sequence.__iter__


class Indexed(Looked):
    """One that has an index for each rank, as a group has; it notes the ranks it is asked for."""

    def __init__(self, count: int, make: Callable[[int], Status]) -> None:
        super().__init__(count, make)
        self.ranks: set[Rank] = set()

    def lowest(self, rank: Rank) -> Status:
        self.ranks.add(rank)
        return min([self._make(at) for at in range(len(self))], key=rank)


def names(balancer: balance.Balancer, statuses: Sequence[Status], times: int) -> list[str]:
    return [str(balancer(statuses).backend) for _ in range(times)]


FULL = {"leased": 2, "unused": 0}
DRAINING = {"state": State.DRAINING, "leased": 0}


def test_fill_first_takes_the_first_with_room() -> None:
    assert str(fill_first([status("a", leased=1, unused=1), status("b")]).backend) == "a"
    assert str(fill_first([status("a", **FULL), status("b"), status("c")]).backend) == "b"


def test_fill_first_looks_no_further_than_the_first_with_room() -> None:
    statuses = Looked(10_000, lambda at: status(str(at), **FULL) if at < 3 else status(str(at)))
    assert str(fill_first(statuses).backend) == "3"
    assert statuses.looks == 4


def test_fill_first_counts_those_who_wait_already() -> None:
    busy = status("a", connecting=2, unused=0, waiting=2)
    assert str(fill_first([busy, absent("b")]).backend) == "b"


def test_fill_first_takes_the_shortest_queue_when_all_are_full() -> None:
    statuses = [status("a", waiting=3, **FULL), status("b", waiting=1, **FULL)]
    assert str(fill_first(statuses).backend) == "b"


def test_idle_first_takes_the_first_that_has_a_connection_ready() -> None:
    statuses = [absent("a"), status("b", leased=1), status("c", leased=1, idle=1)]
    assert str(idle_first(statuses).backend) == "c"


def test_idle_first_leaves_what_is_idle_to_those_who_wait_for_it() -> None:
    assert str(idle_first([status("a", idle=1, waiting=1), status("b", idle=1)]).backend) == "b"


def test_idle_first_takes_the_least_leased_when_none_is_ready() -> None:
    assert str(idle_first([status("a", leased=1), absent("b")]).backend) == "b"


def test_least_leased_weighs_the_load() -> None:
    statuses = [status("a", leased=3, weight=4.0), status("b", leased=1)]
    assert str(least_leased(statuses).backend) == "a"


def test_least_leased_counts_waiters() -> None:
    statuses = [status("a", leased=1, waiting=2), status("b", leased=2)]
    assert str(least_leased(statuses).backend) == "b"


@pytest.mark.parametrize("balancer", [fill_first, idle_first, least_leased])
def test_a_group_is_asked_for_its_lowest_by_the_same_rank_each_time(
    balancer: balance.Balancer,
) -> None:
    statuses = Indexed(5, lambda at: status(str(at), idle=int(at == 0)))
    assert names(balancer, statuses, 3) == ["0", "0", "0"]
    assert len(statuses.ranks) == 1
    assert statuses.looks == 0


@pytest.mark.parametrize("balancer", [fill_first, idle_first, least_leased])
def test_a_group_and_a_list_give_the_same(balancer: balance.Balancer) -> None:
    rng = Random(9)
    for _ in range(200):
        made = [
            status(
                str(at),
                idle=rng.choice([0, 0, 1]),
                leased=rng.randrange(3),
                unused=rng.randrange(2),
                waiting=rng.randrange(3),
                state=rng.choice([State.OPEN, State.ABSENT, State.EJECTED]),
            )
            for at in range(6)
        ]
        assert balancer(made) is balancer(Indexed(len(made), made.__getitem__))


def test_a_slow_start_weighs_less() -> None:
    statuses = [status("a", ramp=0.1), status("b", leased=5)]
    assert str(least_leased(statuses).backend) == "b"


def test_pick_two_takes_the_less_loaded_of_two() -> None:
    balancer = pick_two(Random(1))
    statuses = [status("busy", leased=2), status("free")]
    assert {str(balancer(statuses).backend) for _ in range(50)} == {"free"}


def test_pick_two_never_draws_one_backend_twice() -> None:
    balancer = pick_two(Random(2))
    statuses = [status("busy", leased=2), status("a"), status("b")]
    assert "busy" not in {str(balancer(statuses).backend) for _ in range(500)}


def test_pick_two_draws_evenly() -> None:
    balancer = pick_two(Random(3))
    statuses = [status(name) for name in "abcd"]
    drawn = Counter(str(balancer(statuses).backend) for _ in range(4000))
    assert all(900 < drawn[name] < 1100 for name in "abcd")


def test_pick_two_among_one_takes_it() -> None:
    only = status("a")
    assert pick_two()([only]) is only


def test_pick_two_looks_at_two_of_any_number() -> None:
    for count in (2, 10, 10_000):
        statuses = Looked(count, lambda at: status(str(at)))
        names(pick_two(Random(4)), statuses, 100)
        assert statuses.looks == 200


def test_pick_two_draws_again_when_neither_takes_requests() -> None:
    statuses = Looked(
        10_000, lambda at: status(str(at), state=State.OPEN if at % 2 else State.EJECTED)
    )
    assert all(int(name) % 2 for name in names(pick_two(Random(5)), statuses, 1000))


def test_pick_two_finds_the_only_one_of_a_few_that_takes_requests() -> None:
    statuses = [status(name, **DRAINING) for name in "abcdefghijklmno"] + [status("p", leased=9)]
    assert set(names(pick_two(Random(6)), statuses, 1000)) == {"p"}


def test_pick_two_settles_for_something_when_none_of_many_takes_requests() -> None:
    statuses = Looked(10_000, lambda at: status(str(at), **DRAINING))
    assert len(set(names(pick_two(Random(7)), statuses, 100))) > 90
    assert statuses.looks == 100 * 17  # and the one that it settles for


def test_pick_two_does_not_draw_again_where_there_are_only_two() -> None:
    statuses = Looked(2, lambda at: status(str(at), **DRAINING))
    assert set(names(pick_two(Random(8)), statuses, 100)) == {"0", "1"}
    assert statuses.looks == 100 * 3  # and the one that it settles for


def most_of_a_thousand(choose: Callable[[Sequence[Status]], Status]) -> int:
    """The largest load when each of 1000 requests to 1000 backends is held for ever."""
    leased: Counter[int] = Counter()
    statuses = Looked(1000, lambda at: status(str(at), leased=leased[at]))
    for _ in range(1000):
        leased[int(str(choose(statuses).backend))] += 1
    return max(leased.values())


def test_pick_two_is_far_more_even_than_chance() -> None:
    for seed in range(10):
        rng = Random(seed)
        assert most_of_a_thousand(pick_two(rng)) <= 4
        assert most_of_a_thousand(lambda each, rng=rng: each[rng.randrange(1000)]) >= 5


# prefer_zone


def test_the_zone_preferred_is_chosen_from() -> None:
    statuses = [status("far"), status("near", zone="here", leased=2)]
    assert set(names(prefer_zone("here"), statuses, 50)) == {"near"}


def test_all_are_chosen_from_when_the_zone_takes_no_requests() -> None:
    statuses = [status("far"), status("near", zone="here", **DRAINING)]
    assert set(names(prefer_zone("here"), statuses, 50)) == {"far"}


def test_all_are_chosen_from_when_nobody_is_in_the_zone() -> None:
    balancer = prefer_zone("here", pick_two(Random(1)))
    assert set(names(balancer, [status("a"), status("b")], 50)) == {"a", "b"}


def test_within_the_zone_another_balancer_decides() -> None:
    statuses = [
        status("far"),
        status("near", zone="here", leased=2),
        status("free", zone="here"),
    ]
    assert str(prefer_zone("here", least_leased)(statuses).backend) == "free"


def test_what_the_other_balancer_observes_and_whether_it_binds_pass_through() -> None:
    quicker = balance.peak_ewma(Clock())
    nearest: Any = prefer_zone("here", quicker)
    assert nearest.observe == quicker.observe
    assert not hasattr(nearest, "bound")
    bound: Any = prefer_zone("here", balance.consistent("a key", spill=None))
    assert bound.bound is True
    assert not hasattr(bound, "observe")


# All of them


@pytest.mark.parametrize("name", sorted(NAMES))
def test_what_takes_no_requests_is_chosen_last(name: str) -> None:
    balancer = NAMES[name](Clock())
    statuses = [status("gone", **DRAINING), status("busy", leased=1, waiting=1, idle=0)]
    assert {str(balancer(statuses).backend) for _ in range(20)} == {"busy"}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_balancer_chooses_one_of_those_it_was_given(name: str) -> None:
    balancer = NAMES[name](Clock())
    for statuses in ([status("a", **DRAINING)], [absent("a"), absent("b")]):
        assert balancer(statuses) in statuses


@pytest.mark.parametrize("name", sorted(NAMES))
def test_what_is_returned_is_the_very_status_that_was_looked_at(name: str) -> None:
    """Each look makes another one, and a pool accepts only what it gave."""
    made: list[Status] = []

    def make(at: int) -> Status:
        made.append(status(str(at)))
        return made[-1]

    chosen = NAMES[name](Clock())(Walkable(20, make))
    assert any(chosen is each for each in made)

"""Balancers, on statuses made by hand."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from kolus import Backend, Status
from kolus.backend import State
from kolus.balance import NAMES, fill_first, idle_first, least_leased, pick_two, round_robin


def status(name: str, *, weight: float = 1.0, **numbers: Any) -> Status:
    values: dict[str, Any] = {
        "backend": Backend("tcp:localhost:1", name=name, weight=weight),
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


FULL = {"leased": 2, "unused": 0}
DRAINING = {"state": State.DRAINING, "leased": 0}


def test_fill_first_takes_the_first_with_room() -> None:
    assert str(fill_first([status("a", leased=1, unused=1), status("b")]).backend) == "a"
    assert str(fill_first([status("a", **FULL), status("b"), status("c")]).backend) == "b"


def test_fill_first_counts_those_who_wait_already() -> None:
    busy = status("a", connecting=2, unused=0, waiting=2)
    assert str(fill_first([busy, absent("b")]).backend) == "b"


def test_fill_first_takes_the_shortest_queue_when_all_are_full() -> None:
    statuses = [status("a", waiting=3, **FULL), status("b", waiting=1, **FULL)]
    assert str(fill_first(statuses).backend) == "b"


def test_idle_first_takes_the_first_that_has_a_connection_ready() -> None:
    statuses = [absent("a"), status("b", leased=1), status("c", leased=1, idle=1)]
    assert str(idle_first(statuses).backend) == "c"


def test_idle_first_takes_the_least_leased_when_none_is_ready() -> None:
    assert str(idle_first([status("a", leased=1), absent("b")]).backend) == "b"


def test_least_leased_weighs_the_load() -> None:
    statuses = [status("a", leased=3, weight=4.0), status("b", leased=1)]
    assert str(least_leased(statuses).backend) == "a"


def test_least_leased_counts_waiters() -> None:
    statuses = [status("a", leased=1, waiting=2), status("b", leased=2)]
    assert str(least_leased(statuses).backend) == "b"


def test_round_robin_takes_turns() -> None:
    balancer = round_robin()
    statuses = [status("a"), status("b"), status("c")]
    chosen = [str(balancer(statuses).backend) for _ in range(6)]
    assert chosen == ["a", "b", "c", "a", "b", "c"]


def test_two_round_robins_know_nothing_of_each_other() -> None:
    statuses = [status("a"), status("b")]
    assert {str(round_robin()(statuses).backend) for _ in range(5)} == {"a"}


def test_round_robin_goes_on_when_the_list_shrinks() -> None:
    balancer = round_robin()
    statuses = [status("a"), status("b"), status("c")]
    for _ in range(3):
        balancer(statuses)
    assert str(balancer(statuses[:1]).backend) == "a"


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


@pytest.mark.parametrize("name", sorted(NAMES))
def test_what_takes_no_requests_is_chosen_last(name: str) -> None:
    balancer = NAMES[name]()
    statuses = [status("gone", **DRAINING), status("busy", leased=1, waiting=1, idle=0)]
    assert {str(balancer(statuses).backend) for _ in range(20)} == {"busy"}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_balancer_chooses_one_of_those_it_was_given(name: str) -> None:
    balancer = NAMES[name]()
    for statuses in ([status("a", **DRAINING)], [absent("a"), absent("b")]):
        assert balancer(statuses) in statuses

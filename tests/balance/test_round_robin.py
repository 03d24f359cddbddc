"""C{round_robin}: backends in turn, by weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest

from kolus import Status
from kolus.balance import round_robin
from kolus.status import State
from tests.balance.test_balance import Indexed, Looked, names, status


def weighted(*weights: float) -> list[Status]:
    return [status(str(at), weight=weight) for at, weight in enumerate(weights)]


def longest_run(chosen: Sequence[str], name: str) -> int:
    longest = run = 0
    for each in chosen:
        run = run + 1 if each == name else 0
        longest = max(longest, run)
    return longest


def furthest_from_share(chosen: Sequence[str], name: str, share: float) -> float:
    """The most by which its count in any stretch differs from its share of that stretch."""
    ahead = least = most = 0.0
    for each in chosen:
        ahead += (each == name) - share
        least, most = min(least, ahead), max(most, ahead)
    return most - least


def test_round_robin_takes_turns() -> None:
    assert names(round_robin(), [status("a"), status("b"), status("c")], 6) == [*"abcabc"]


def test_round_robin_begins_where_chance_says() -> None:
    statuses = [status("a"), status("b"), status("c")]
    assert {str(round_robin(Random(at))(statuses).backend) for at in range(20)} == {*"abc"}
    taken = names(round_robin(Random(1)), statuses, 6)
    assert taken[:3] == taken[3:]
    assert Counter(taken) == dict.fromkeys("abc", 2)


def test_two_round_robins_know_nothing_of_each_other() -> None:
    statuses = [status("a"), status("b")]
    assert {str(round_robin()(statuses).backend) for _ in range(5)} == {"a"}


def test_round_robin_goes_on_when_the_list_shrinks() -> None:
    balancer = round_robin()
    statuses = [status("a"), status("b"), status("c")]
    assert names(balancer, statuses, 3) == [*"abc"]
    assert str(balancer(statuses[:1]).backend) == "a"


def test_round_robin_goes_on_with_one_that_is_new() -> None:
    balancer = round_robin()
    assert names(balancer, weighted(1, 1), 2) == ["0", "1"]
    assert names(balancer, weighted(1, 1, 1), 4) == ["2", "0", "1", "2"]


def test_equal_weights_are_an_exact_rotation_whatever_the_weight() -> None:
    assert names(round_robin(), weighted(*[0.3] * 7), 700) == [*"0123456"] * 100


def test_those_that_take_no_requests_are_passed_over() -> None:
    statuses = [status("a"), status("b", state=State.EJECTED), status("c")]
    assert names(round_robin(), statuses, 5) == [*"acaca"]


def test_a_heavy_one_is_spread_out() -> None:
    for weights in ((5, 1, 1), (1, 5, 1), (1, 1, 5)):
        heavy = str(weights.index(5))
        chosen = names(round_robin(), weighted(*weights), 700)
        assert longest_run(chosen, heavy) == 3  # ceil(5 / 2)
        assert all(longest_run(chosen, name) == 1 for name in {*"012"} - {heavy})


@pytest.mark.parametrize("weights", [(5, 1, 1), (1, 1, 5), (4, 3, 2, 1), (1, 2, 3, 4), (10, 1)])
def test_each_has_its_share_of_any_stretch_within_one_and_a_half(weights: Sequence[int]) -> None:
    chosen = names(round_robin(), weighted(*weights), 100 * sum(weights))
    for at, weight in enumerate(weights):
        assert furthest_from_share(chosen, str(at), weight / sum(weights)) <= 1.5


def test_each_of_many_has_its_share_of_any_stretch_within_two() -> None:
    rng = Random(1)
    weights = [rng.randint(1, 10) for _ in range(100)]
    balancer, statuses = round_robin(), weighted(*weights)
    names(balancer, statuses, 200)  # the heaviest stands behind the sixteenth, perhaps
    chosen = names(balancer, statuses, 10 * sum(weights))
    for at, weight in enumerate(weights):
        assert furthest_from_share(chosen, str(at), weight / sum(weights)) < 2


@pytest.mark.parametrize(
    "weights",
    [(5, 1, 1), (1, 1, 5), (0.7, 0.2, 0.1), (3, 7, 11, 2, 2), (60, 1), (40, *[1] * 30)],
)
def test_in_the_long_run_the_shares_are_exact(weights: Sequence[float]) -> None:
    rounds = 200
    whole = weights if sum(weights) > 1 else [each * 10 for each in weights]
    chosen = Counter(names(round_robin(), weighted(*weights), rounds * round(sum(whole))))
    assert [chosen[str(at)] for at in range(len(weights))] == [
        pytest.approx(rounds * each, abs=1) for each in whole
    ]


def test_the_light_ones_do_not_bunch() -> None:
    chosen = names(round_robin(), weighted(10, *[1] * 10), 2000)
    assert longest_run(["light" if name != "0" else name for name in chosen], "light") <= 2
    assert longest_run(chosen, "0") <= 2


def test_one_that_starts_slowly_is_taken_less_often() -> None:
    statuses = [status("a"), status("b", ramp=0.25)]
    chosen = Counter(names(round_robin(), statuses, 1000))
    assert chosen == {"a": 800, "b": 200}


def test_a_heaviest_behind_many_is_learnt_along_the_way() -> None:
    balancer, statuses = round_robin(), weighted(*[1] * 99, 11)
    names(balancer, statuses, 1000)
    chosen = Counter(names(balancer, statuses, 1100))
    assert chosen["99"] == pytest.approx(110, abs=2)


def test_when_the_heaviest_has_gone_the_others_are_a_rotation_again() -> None:
    balancer, statuses = round_robin(), weighted(1, 1, 1, 1000)
    names(balancer, statuses, 500)
    names(balancer, statuses[:3], 3)
    chosen = names(balancer, statuses[:3], 30)
    assert chosen[:3] * 10 == chosen
    assert sorted(chosen[:3]) == ["0", "1", "2"]


def test_when_the_heaviest_has_gone_one_is_looked_at_again() -> None:
    balancer, statuses = round_robin(), weighted(1000, *[1] * 99)
    names(balancer, statuses, 100)
    rest = Looked(99, lambda at: statuses[at + 1])
    names(balancer, rest, 200)
    rest.looks = 0
    names(balancer, rest, 99)
    assert rest.looks == 99


def test_a_changed_list_keeps_the_credit_of_those_that_stay() -> None:
    balancer, statuses = round_robin(), weighted(10, 1, 1)
    chosen = names(balancer, statuses, 50)
    for at in range(200):
        chosen += names(balancer, [*statuses, status(f"guest {at}", weight=0.01)], 5)
    assert furthest_from_share([each for each in chosen if each in "012"], "1", 1 / 12) <= 1.5


def test_those_that_have_gone_are_forgotten() -> None:
    balancer = round_robin()
    for at in range(300):
        statuses = weighted(2) + [status(f"{at}, {each}") for each in range(10)]
        names(balancer, statuses, 15)
    assert len(balancer._credits) + len(balancer._old_credits) <= 2 * 11  # type: ignore[attr-defined]


def looks_of_a_thousand(count: int, weights: Sequence[float]) -> int:
    made = weighted(*weights)
    statuses = Looked(count, lambda at: made[at % len(made)])
    names(round_robin(), statuses, 1000)
    return statuses.looks


def test_of_equal_weights_one_is_looked_at_of_any_number() -> None:
    assert looks_of_a_thousand(16, [1]) == looks_of_a_thousand(10_000, [1]) == 1016
    assert looks_of_a_thousand(10, [1]) == 1010


def test_how_many_are_looked_at_depends_on_the_weights_alone() -> None:
    few, many = (looks_of_a_thousand(count, [5, 1, 1, 3, 2]) for count in (10, 10_000))
    assert few == pytest.approx(1000 * 5 / 2.4, rel=0.02)
    assert many == pytest.approx(few, rel=0.02)


def test_one_that_outweighs_all_others_costs_no_more_than_64_looks() -> None:
    light, heavy = status("light"), status("heavy", weight=1e6)
    statuses = Looked(10_000, lambda at: light if at else heavy)
    balancer = round_robin()
    balancer(statuses)
    for _ in range(1000):
        before = statuses.looks
        balancer(statuses)
        assert statuses.looks - before <= 64


def test_what_cannot_wait_for_its_credit_pays_later() -> None:
    balancer, statuses = round_robin(), weighted(1e6, *[1] * 63, *[0.5] * 63)
    names(balancer, statuses, 2000)
    chosen = Counter(names(balancer, statuses, 64 * 63))
    assert max(chosen[str(at)] for at in range(1, 127)) <= 64


def test_many_in_a_row_that_take_no_requests_are_left_to_the_index() -> None:
    statuses = Indexed(
        1000, lambda at: status(str(at), state=State.OPEN if at > 900 else State.DRAINING)
    )
    balancer = round_robin()
    assert str(balancer(statuses).backend) == "901"
    assert statuses.looks == 16 + 64


def test_when_none_takes_requests_they_are_taken_in_turn_all_the_same() -> None:
    few = [status(name, state=State.EJECTED) for name in "abc"]
    assert names(round_robin(), few, 6) == [*"abcabc"]
    many = Indexed(100, lambda at: status(str(at), state=State.EJECTED))
    assert names(round_robin(), many, 200) == [str(at) for at in range(100)] * 2

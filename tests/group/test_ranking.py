"""C{Ranking}: finds the lowest of many ranks without looking at each."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kolus.group.ranking import Ranking


class Ranks:
    """Ranks that a test changes, and that count how often one is looked at."""

    def __init__(self, *ranks: Any) -> None:
        self.now = list(ranks)
        self.looks = 0
        self.ranking = Ranking(len(ranks), self.look)
        self.looks = 0

    def look(self, place: int) -> Any:
        self.looks += 1
        rank = self.now[place]
        if isinstance(rank, Exception):
            raise rank
        return rank

    def say(self, place: int, rank: Any) -> None:
        """Change a rank and tell."""
        self.now[place] = rank
        self.ranking.changed(place)

    def lowest(self, *exclude: int) -> int:
        return self.ranking.lowest(exclude)

    def brute(self, *exclude: int) -> int:
        places = [each for each in range(len(self.now)) if each not in exclude]
        return min(places, key=self.now.__getitem__)


def test_the_lowest_is_found() -> None:
    assert Ranks(3, 1, 2).lowest() == 1


def test_the_first_of_equals_is_found() -> None:
    assert Ranks(2, 1, 1, 1).lowest() == 1


def test_the_first_of_equals_is_found_after_others_have_come_to_equal_it() -> None:
    ranks = Ranks(1, 2, 0)
    assert ranks.lowest() == 2
    ranks.now[2] = 1
    ranks.say(1, 1)
    assert ranks.lowest() == 0


def test_a_rank_that_became_lower_is_found_when_told() -> None:
    ranks = Ranks(1, 2, 3)
    ranks.say(2, 0)
    assert ranks.lowest() == 2


def test_a_rank_that_became_higher_is_noticed_untold() -> None:
    ranks = Ranks(1, 2, 3)
    ranks.now[0] = 9
    assert ranks.lowest() == 1
    ranks.now[1] = 8
    assert ranks.lowest() == 2


def test_a_rank_that_went_up_and_down_again_is_found() -> None:
    ranks = Ranks(1, 2)
    ranks.now[0] = 3
    assert ranks.lowest() == 1
    ranks.say(0, 1)
    assert ranks.lowest() == 0


def test_a_place_that_is_excluded_is_passed_over_and_found_again_later() -> None:
    ranks = Ranks(1, 2, 3)
    assert ranks.lowest(0, 1) == 2
    assert ranks.lowest(0) == 1
    assert ranks.lowest() == 0


@pytest.mark.parametrize("exclude", [(), (0, 1)])
def test_where_nothing_is_left_that_is_an_index_error(exclude: tuple[int, ...]) -> None:
    ranks = Ranks(*([1, 2] if exclude else []))
    with pytest.raises(IndexError):
        ranks.lowest(*exclude)


def test_excluding_all_loses_none_of_them() -> None:
    ranks = Ranks(1, 2)
    with pytest.raises(IndexError):
        ranks.lowest(0, 1)
    assert ranks.lowest() == 0
    assert ranks.lowest(0) == 1


def test_a_rank_that_raises_fails_who_asks_for_the_lowest_and_not_who_tells_of_a_change() -> None:
    ranks = Ranks(2, 1)
    ranks.say(1, ArithmeticError())
    with pytest.raises(ArithmeticError):
        ranks.lowest()
    with pytest.raises(ArithmeticError):
        ranks.lowest()


def test_a_rank_that_raised_once_loses_no_place() -> None:
    ranks = Ranks(1, 2, 3)
    ranks.now[1] = ArithmeticError()
    ranks.now[0] = 9
    with pytest.raises(ArithmeticError):
        ranks.lowest(2)
    ranks.say(1, 2)
    assert ranks.lowest() == 1
    assert ranks.lowest(1) == 2
    assert ranks.lowest(1, 2) == 0


@pytest.mark.parametrize("seed", range(10))
def test_the_lowest_is_always_what_looking_at_each_would_find(seed: int) -> None:
    rng = random.Random(seed)
    ranks = Ranks(*[rng.randrange(5) for _ in range(rng.randint(2, 12))])
    count = len(ranks.now)
    for _ in range(2000):
        place = rng.randrange(count)
        rank = rng.randrange(5)
        if rank > ranks.now[place]:
            ranks.now[place] = rank  # higher: nobody need tell
        else:
            ranks.say(place, rank)
        if rng.random() < 0.5:
            exclude = rng.sample(range(count), rng.randint(0, count - 1))
            assert ranks.lowest(*exclude) == ranks.brute(*exclude)
            assert ranks.lowest() == ranks.brute()


def test_changes_that_nobody_asks_about_take_no_room() -> None:
    ranks = Ranks(*range(10))
    for each in range(10_000):
        ranks.say(each % 10, -each)
    assert len(ranks.ranking._heap) < 200


@pytest.mark.parametrize("count", [100, 10_000])
def test_how_many_ranks_are_looked_at_does_not_grow_with_their_number(count: int) -> None:
    ranks = Ranks(*[0] * count)
    for lap in range(50):
        place = ranks.lowest()
        ranks.now[place] = 1
        if lap % 2:
            ranks.say(place, 0)
    assert ranks.looks < 250

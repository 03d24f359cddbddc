"""Connections expire at different times, and none after its lifetime."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kolus.manager.connections.lifetimes import Lifetimes

EPOCH = 1.7e9
"""A time that the reactor's clock tells, so that rounding is what it will be."""

chances = st.floats(0, 1, exclude_max=True)
jitters = st.floats(0, 0.95)


class Aging:
    expires_at = math.inf

    def __init__(self, chance: float = 0.5) -> None:
        self.chance = chance


def assert_apart(agings: Iterable[Aging], spacing: float) -> None:
    times = sorted(each.expires_at for each in agings)
    for before, after in pairwise(times):
        assert after - before >= spacing - 32 * math.ulp(times[-1])


def burst(lifetimes: Lifetimes[Aging], chances: list[float], now: float = 0.0) -> list[Aging]:
    """As many at once as there are chances, and as may be."""
    made = [Aging(each) for each in chances]
    for aging in made:
        lifetimes.add(aging, now, len(made))
    return made


def test_one_that_is_alone_expires_when_the_jitter_says() -> None:
    lifetimes: Lifetimes[Aging] = Lifetimes(100.0, 0.2, 5.0)
    lifetimes.add(aging := Aging(0.5), 1000.0, 10)
    assert aging.expires_at == 1090


def test_the_second_expires_apart_from_the_first_and_near_its_own_time() -> None:
    lifetimes: Lifetimes[Aging] = Lifetimes(100.0, 0.2, 5.0)
    first, second, third = Aging(0.5), Aging(0.5), Aging(0.5)
    for aging in (first, second, third):
        lifetimes.add(aging, 0.0, 50)
    assert [first.expires_at, second.expires_at, third.expires_at] == [90, 92, 88]


def test_the_connections_of_another_time_are_regarded() -> None:
    lifetimes: Lifetimes[Aging] = Lifetimes(100.0, 0.0, 5.0)
    lifetimes.add(old := Aging(), 0.0, 10)
    lifetimes.add(young := Aging(), 4.0, 10)
    lifetimes.add(younger := Aging(), 12.0, 10)
    assert [old.expires_at, young.expires_at, younger.expires_at] == [100, 90, 110]


@settings(deadline=None)
@given(jitters, st.lists(chances, min_size=1, max_size=60), st.sampled_from([0.0, 7.3, EPOCH]))
def test_connections_made_at_once_expire_apart_and_in_time(
    jitter: float, chances: list[float], now: float
) -> None:
    made = burst(Lifetimes(1800.0, jitter, 5.0), chances, now)
    assert_apart(made, 1800.0 / len(made))
    assert all(now < each.expires_at <= now + 1800.0 for each in made)


@pytest.mark.long
@settings(max_examples=50, deadline=None)
@given(
    jitters,
    st.lists(chances, min_size=1, max_size=12),
    st.randoms(use_true_random=False),
    st.sampled_from([0.0, EPOCH]),
)
def test_a_full_manager_that_replaces_each_as_it_expires_stays_spread_out(
    jitter: float, chances: list[float], rng: random.Random, now: float
) -> None:
    lifetimes: Lifetimes[Aging] = Lifetimes(1800.0, jitter, 0.0)
    alive, limit = set(burst(lifetimes, chances, now)), len(chances)
    for _ in range(5 * limit):
        now = lifetimes.next_due() + rng.choice([0.0, 0.0, rng.uniform(0, 1000)])
        for old in lifetimes.pop_expired(now):
            alive.remove(old)
            lifetimes.add(new := Aging(rng.random()), now, limit)
            alive.add(new)
            assert now < new.expires_at <= now + 1800.0
        assert_apart(alive, 1800.0 / limit)
    assert len(lifetimes) == limit


def test_a_full_manager_does_not_replace_more_often_than_it_must() -> None:
    rng = random.Random(1)
    lifetimes: Lifetimes[Aging] = Lifetimes(1800.0, 0.2, 0.0)
    burst(lifetimes, [rng.random() for _ in range(10)], EPOCH)
    now, replaced = EPOCH, 0
    while (now := lifetimes.next_due()) < EPOCH + 100 * 1800:
        for _ in lifetimes.pop_expired(now):
            lifetimes.add(Aging(rng.random()), now, 10)
            replaced += 1
    assert replaced <= 100 * 10


@settings(deadline=None)
@given(jitters, st.integers(1, 8), st.data())
def test_connections_that_come_and_go_expire_apart(
    jitter: float, limit: int, data: st.DataObject
) -> None:
    lifetimes: Lifetimes[Aging] = Lifetimes(100.0, jitter, 5.0)
    alive: list[Aging] = []
    now = EPOCH
    for passes in data.draw(st.lists(st.floats(0, 60), max_size=30)):
        now += passes
        for old in lifetimes.pop_expired(now):
            alive.remove(old)
        if alive and (len(alive) == limit or data.draw(st.booleans())):
            gone = alive.pop(data.draw(st.integers(0, len(alive) - 1)))
            lifetimes.remove(gone)
        lifetimes.add(new := Aging(data.draw(chances)), now, limit)
        alive.append(new)
        assert now < new.expires_at <= now + 100
        assert_apart(alive, 100 / limit)
        assert len(lifetimes) == len(alive)


def test_ten_thousand_made_at_once_do_not_expire_at_once() -> None:
    """HikariCP's issue 2099, the storm of recycling."""
    rng = random.Random(2099)
    began = time.process_time()
    made = burst(Lifetimes(1800.0, 0.2, 5.0), [rng.random() for _ in range(10_000)], EPOCH)
    assert time.process_time() - began < 2
    assert_apart(made, 0.18)
    assert all(EPOCH < each.expires_at <= EPOCH + 1800 for each in made)


def test_many_whose_chances_are_against_them_are_added_as_fast() -> None:
    chances = [0.0, 0.9999, *[0.5] * 9_998]
    began = time.process_time()
    assert_apart(burst(Lifetimes(1800.0, 0.9, 5.0), chances), 0.18)
    assert time.process_time() - began < 2


@settings(deadline=None)
@given(jitters, st.data())
def test_when_the_limit_changes_new_ones_expire_apart_by_half_at_least(
    jitter: float, data: st.DataObject
) -> None:
    lifetimes: Lifetimes[Aging] = Lifetimes(100.0, jitter, 5.0)
    alive: list[Aging] = []
    now = EPOCH
    for limit in data.draw(st.lists(st.integers(1, 8), max_size=6)):
        now += data.draw(st.floats(0, 60))
        for old in lifetimes.pop_expired(now):
            alive.remove(old)
        while len(alive) >= limit or (alive and data.draw(st.booleans())):
            lifetimes.remove(alive.pop(data.draw(st.integers(0, len(alive) - 1))))
        while len(alive) < limit:
            lifetimes.add(new := Aging(data.draw(chances)), now, limit)
            assert now < new.expires_at <= now + 100
            for each in alive:
                assert abs(new.expires_at - each.expires_at) >= 100 / limit * 0.499
            alive.append(new)


def test_with_more_than_the_limit_a_new_one_goes_where_there_is_room() -> None:
    lifetimes: Lifetimes[Aging] = Lifetimes(100.0, 0.2, 5.0)
    burst(lifetimes, [0.0] * 8)
    lifetimes.add(new := Aging(), 0.0, 2)
    assert new.expires_at == pytest.approx(6.25)


@pytest.mark.parametrize(("lifetime", "expires_at"), [(0.0, 7.0), (math.inf, math.inf)])
def test_a_lifetime_may_be_nothing_or_without_an_end(lifetime: float, expires_at: float) -> None:
    lifetimes: Lifetimes[Aging] = Lifetimes(lifetime, 0.2, 0.0)
    for _ in range(3):
        lifetimes.add(aging := Aging(), 7.0, 3)
        assert aging.expires_at == expires_at


def test_each_is_named_once_to_be_replaced_and_then_expires() -> None:
    lifetimes: Lifetimes[Aging] = Lifetimes(100.0, 0.0, 5.0)
    late, early = burst(lifetimes, [0.0, 0.0])
    assert (early.expires_at, late.expires_at) == (50, 100)
    assert lifetimes.next_due() == 45
    assert lifetimes.due_to_replace(44.9) == []
    assert lifetimes.due_to_replace(45) == [early]
    assert lifetimes.due_to_replace(46) == []
    assert lifetimes.next_due() == 50
    assert lifetimes.pop_expired(49.9) == []
    assert lifetimes.pop_expired(50) == [early]
    assert lifetimes.next_due() == 95
    assert lifetimes.pop_expired(200) == [late]
    assert lifetimes.due_to_replace(200) == []
    assert lifetimes.next_due() == math.inf
    assert len(lifetimes) == 0


def test_one_whose_life_is_shorter_than_the_lead_is_named_before_older_ones() -> None:
    lifetimes: Lifetimes[Aging] = Lifetimes(10.0, 0.0, 6.0)
    first = Aging()
    lifetimes.add(first, 0.0, 4)
    assert lifetimes.due_to_replace(4) == [first]
    others = [Aging() for _ in range(3)]
    for aging in others:
        lifetimes.add(aging, 4.0, 4)
    assert lifetimes.next_due() == min(each.expires_at for each in others) - 6
    named = lifetimes.due_to_replace(9.0)
    assert named == sorted(others, key=lambda each: each.expires_at)


def test_one_that_was_removed_is_neither_named_nor_expires() -> None:
    lifetimes: Lifetimes[Aging] = Lifetimes(100.0, 0.0, 5.0)
    late, early = burst(lifetimes, [0.0, 0.0])
    lifetimes.remove(early)
    lifetimes.remove(early)
    lifetimes.remove(Aging())
    assert len(lifetimes) == 1
    assert lifetimes.due_to_replace(200) == [late]
    lifetimes.remove(late)
    assert lifetimes.pop_expired(200) == []


def test_of_those_that_expire_together_the_right_one_is_removed() -> None:
    lifetimes: Lifetimes[Aging] = Lifetimes(0.0, 0.0, 0.0)
    one, two, three = burst(lifetimes, [0.0] * 3)
    lifetimes.remove(two)
    assert lifetimes.pop_expired(0.0) == [one, three]

"""Whether the gauge of the soak tells what leaks from what only crowds."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from tests.net.soak_gauge import MIB, Reading, growth


def grown(resident: Callable[[int], int]) -> bool:
    """Whether resident memory grew too much in forty readings, while crowds come and go."""
    crowd = Random(1)
    readings = [
        Reading(60 * MIB + resident(at), 230_000 + crowd.randrange(40_000), 8) for at in range(40)
    ]
    (found,) = growth(readings, [])
    return not found.allowed


def test_a_step_of_resident_memory_is_no_leak() -> None:
    for begin in range(40):
        assert not grown(lambda at, begin=begin: 5 * MIB * (at >= begin))


def test_two_steps_of_resident_memory_are_no_leak() -> None:
    assert not grown(lambda at: 3 * MIB * ((at >= 14) + (at >= 25)))


@pytest.mark.parametrize("page", [4096, MIB // 4, MIB])
def test_resident_memory_that_rises_all_the_time_is_a_leak(page: int) -> None:
    assert grown(lambda at: at * MIB // 4 // page * page)


@pytest.mark.parametrize(("blocks", "allowed"), [(-9000, True), (900, True), (1100, False)])
def test_blocks_that_are_left_at_rest_are_a_leak(blocks: int, allowed: bool) -> None:
    rests = [Reading(60 * MIB, 230_000, 8), Reading(60 * MIB, 230_000 + blocks, 8)]
    assert [each.allowed for each in growth([], rests)] == [allowed]


def test_a_run_too_short_to_have_quarters_says_nothing() -> None:
    assert growth([Reading(MIB, 1, 8)] * 3, []) == []

"""The delays of C{Backoff}: their growth and their jitter."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from kolus.backoff import Backoff


def test_the_bound_doubles_up_to_the_most() -> None:
    backoff = Backoff()
    assert [backoff.bound(n) for n in range(1, 10)] == [0.25, 0.5, 1, 2, 2, 2, 2, 2, 2]


def test_a_long_outage_does_not_overflow() -> None:
    assert Backoff().bound(100_000) == 2


def test_a_delay_is_never_none_at_all() -> None:
    class Nothing:
        def random(self) -> float:
            return 0.0

    assert Backoff().delay(1, Nothing()) == 0.25


def test_a_delay_is_uniform_between_nothing_and_the_bound() -> None:
    rng = Random(7)
    delays = sorted(Backoff().delay(3, rng) for _ in range(10_000))
    assert 0 <= delays[0] < 0.01
    assert 0.99 < delays[-1] < 1
    assert delays[5000] == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("first", "x"),
        ("factor", True),
        ("first", 0),
        ("first", -1),
        ("factor", 0.5),
        ("most", 0.1),
        ("most", float("nan")),
    ],
)
def test_a_number_out_of_its_range_is_refused_and_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must"):
        Backoff(**{name: value})

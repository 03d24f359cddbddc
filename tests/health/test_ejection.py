"""The value C{Ejection}: when a backend is ejected, and for how long."""

from __future__ import annotations

import dataclasses
import math
import random
from typing import Any

import pytest

from kolus import Ejection, Policy


class Drawn:
    """Chance that always draws the same."""

    def __init__(self, drawn: float) -> None:
        self._drawn = drawn

    def random(self) -> float:
        return self._drawn


def times(ejection: Ejection, drawn: float, count: int) -> list[float]:
    return [ejection.time(each, Drawn(drawn)) for each in range(1, count + 1)]


def test_five_failures_in_a_row_eject_a_backend_for_5_s_at_first_and_60_s_at_most() -> None:
    ejection = Ejection()
    assert (ejection.failures, ejection.first, ejection.most) == (5, 5.0, 60.0)
    assert ejection.slow_start == 0.0


def test_the_time_doubles_up_to_the_most() -> None:
    assert times(Ejection(), 1.0, 9) == [5, 10, 20, 40, 60, 60, 60, 60, 60]


def test_the_time_is_at_least_half_of_its_bound() -> None:
    assert times(Ejection(), 0.0, 8) == [2.5, 5, 10, 20, 30, 30, 30, 30]


def test_the_time_is_spread_over_the_upper_half_of_its_bound() -> None:
    rng = random.Random(1)
    drawn = [Ejection().time(1, rng) for _ in range(1000)]
    assert 2.5 <= min(drawn) < 2.6
    assert 4.9 < max(drawn) <= 5.0
    assert sum(drawn) / len(drawn) == pytest.approx(3.75, abs=0.1)


def test_the_time_is_a_number_after_however_many_ejections() -> None:
    assert Ejection().time(10**6, Drawn(1.0)) == 60.0
    assert math.isfinite(Ejection(first=1e-300, most=1e300).time(10**9, Drawn(1.0)))


def test_no_time_is_longer_than_the_longest() -> None:
    longest = [Ejection().is_longest(each) for each in range(9)]
    assert longest == [False] * 5 + [True] * 4
    assert Ejection(first=5, most=5).is_longest(1)


def test_an_ejection_is_a_value() -> None:
    ejection = Ejection(failures=3)
    assert ejection == Ejection(3, 5.0, 60.0, 0.0)
    assert hash(ejection) == hash(Ejection(failures=3))
    with pytest.raises(dataclasses.FrozenInstanceError):
        ejection.failures = 4  # type: ignore[misc]


@pytest.mark.parametrize("name", ["failures", "first", "most", "slow_start"])
@pytest.mark.parametrize("value", [-1, math.nan, "5", None, True])
def test_an_error_names_the_field_and_the_value(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name) as caught:
        Ejection(**{name: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("failures", 0), ("failures", 2.0), ("first", 0), ("first", math.inf), ("most", math.inf)],
)
def test_a_number_out_of_its_range_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name) as caught:
        Ejection(**{name: value})
    assert repr(value) in str(caught.value)


def test_the_most_is_not_below_the_first() -> None:
    with pytest.raises(ValueError, match=r"most must be at least first \(400\), not 60"):
        Ejection(first=400)
    assert Ejection(first=400, most=400).time(3, Drawn(1.0)) == 400


def test_a_slow_start_that_never_ends_is_refused() -> None:
    with pytest.raises(ValueError, match="slow_start"):
        Ejection(slow_start=math.inf)


def test_a_policy_takes_an_ejection_or_none_and_nothing_else() -> None:
    assert Policy().ejection == Ejection()
    assert Policy(ejection=None).ejection is None
    assert Policy.erlang().ejection is None
    with pytest.raises(TypeError, match="ejection must be an Ejection or None, not 5"):
        Policy(ejection=5)  # type: ignore[arg-type]

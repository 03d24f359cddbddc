"""The checks of numbers and times."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest

from kolus.support import check_seconds, is_duration


@pytest.mark.parametrize("value", [0, 0.5, 10**300, sys.float_info.max, math.inf, None])
def test_a_length_of_time_is_accepted(value: Any) -> None:
    check_seconds("timeout", value)


@pytest.mark.parametrize(
    "value", [math.nan, 10**400, "5", True, b"", [], -1, -0.5, -math.inf, -(10**400)]
)
def test_what_is_no_length_of_time_is_refused_and_named(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^timeout must .*, not "):
        check_seconds("timeout", value)


def test_nothing_and_infinity_are_lengths_of_time_only_where_they_mean_something() -> None:
    with pytest.raises(ValueError, match="seconds must be a number of seconds, not None"):
        check_seconds("seconds", None, optional=False)
    with pytest.raises(ValueError, match="seconds must be a number of seconds, not inf"):
        check_seconds("seconds", math.inf, endless=False)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((each, True) for each in (1e-9, 1, sys.float_info.max)),
        *((each, False) for each in (0, -1, math.nan, math.inf, 10**400, True, None, "5")),
    ],
)
def test_a_duration_is_a_finite_number_above_0(value: Any, expected: bool) -> None:
    assert is_duration(value) is expected

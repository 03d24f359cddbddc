"""The checks of numbers and times."""

from __future__ import annotations

import math
import sys
from enum import IntEnum
from typing import Any

import pytest

from kolus.support import (
    check_duration,
    check_flag,
    check_seconds,
    check_whole,
    check_word,
    did_you_mean,
    nearest,
)


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


@pytest.mark.parametrize("value", [1e-9, 1, sys.float_info.max])
def test_a_duration_is_a_finite_number_above_0(value: Any) -> None:
    check_duration("decay", value)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 10**400, True, None, "5"])
def test_what_is_no_duration_is_refused_and_named(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^decay must be a number of seconds above 0, not "):
        check_duration("decay", value)


def test_a_duration_may_be_left_out_where_that_means_something() -> None:
    check_duration("keepalive", None, optional=True)


@pytest.mark.parametrize("value", [0, 5, 1.0, True, None, "1"])
def test_a_whole_number_is_within_its_bounds(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^port must be a whole number from 1 to 4, not "):
        check_whole("port", value, 1, 4)
    check_whole("port", 4, 1, 4)
    check_whole("port", None, 1, 4, optional=True)


def test_a_member_of_an_enum_of_whole_numbers_is_one() -> None:
    check_whole("port", IntEnum("Ports", ["FIRST"])["FIRST"], 1, 4)


@pytest.mark.parametrize("value", [0, 1, None, "no", b""])
def test_a_flag_is_true_or_false(value: Any) -> None:
    with pytest.raises(TypeError, match="fresh must be True or False, not "):
        check_flag("fresh", value)
    with pytest.raises(ValueError, match="debug must be True or False, not "):
        check_flag("debug", value, ValueError)
    check_flag("fresh", False)
    check_flag("fresh", True)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("addres", ": did you mean 'address'\\?"),
        ("Fixed", ": did you mean 'fixed'\\?"),
        (5, ""),
        ("", ""),
    ],
)
def test_the_nearest_of_a_few_words_is_told(given: Any, hint: str) -> None:
    with pytest.raises(ValueError, match=f'^ident must be "fixed" or "address", not .*{hint}$'):
        check_word("ident", given, ("fixed", "address"))


def test_what_is_said_of_an_unknown_word() -> None:
    assert did_you_mean("mian", ["main", "other"]) == "did you mean 'main'?"
    assert did_you_mean("xyzzy", ["main", "carts"]) == "expected one of carts, main"
    assert did_you_mean("main", []) == "there is none"


def test_the_nearest_word_is_found_whatever_its_letters() -> None:
    assert nearest("certkey", ["certKey", "privateKey"]) == "certKey"
    assert nearest("colour", ["certKey", "privateKey"]) is None

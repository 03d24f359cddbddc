"""Checks of numbers, times and words from callers."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

__all__ = [
    "check_duration",
    "check_flag",
    "check_seconds",
    "check_whole",
    "check_word",
    "did_you_mean",
    "nearest",
]


def check_flag(name: str, value: object, error: type[Exception] = TypeError) -> None:
    """Check that a value is true or false.

    @param error: what is raised otherwise; C{ValueError} for a setting, as the other checks.
    """
    if not isinstance(value, bool):
        raise error(f"{name} must be True or False, not {value!r}")


def check_word(name: str, value: object, words: Sequence[str]) -> None:
    """Check that a value is one of two words or more.

    @raise ValueError: it is none of them.
    """
    if value not in words:
        *others, last = [f'"{each}"' for each in words]
        near = nearest(value, words) if isinstance(value, str) else None
        hint = "" if near is None else f": did you mean {near!r}?"
        raise ValueError(f"{name} must be {', '.join(others)} or {last}, not {value!r}{hint}")


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the nearest known one, or all of them."""
    words = sorted(known)
    near = nearest(given, words)
    if near is None:
        return f"expected one of {', '.join(words)}" if words else "there is none"
    return f"did you mean {near!r}?"


def nearest(given: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant; C{None} if none is near."""
    by_lower = {each.lower(): each for each in sorted(known)}
    near = get_close_matches(given.lower(), by_lower, 1)
    return by_lower[near[0]] if near else None


def check_whole(
    name: str, value: object, least: int, most: int | None = None, *, optional: bool = False
) -> None:
    """Check a whole number.

    @param most: the largest that is allowed; C{None}: any.
    @param optional: whether C{None} is allowed.
    @raise ValueError: C{value} is not a whole number, or is not in these bounds.
    """
    if value is None and optional:
        return
    if (
        not isinstance(value, int)
        or isinstance(value, bool)
        or value < least
        or (most is not None and value > most)
    ):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be a whole number {bounds}, not {value!r}")


def check_seconds(name: str, value: object, *, optional: bool = True, endless: bool = True) -> None:
    """Check a number of seconds.

    @param optional: whether C{None} is allowed.
    @param endless: whether infinity is allowed.
    @raise ValueError: C{value} is not a number of at least 0, or is too large for a float.
    """
    if value is None and optional:
        return
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not (value <= sys.float_info.max or (endless and value == math.inf))
    ):
        raise ValueError(f"{name} must be a number of seconds, not {value!r}")
    if value < 0:
        raise ValueError(f"{name} must not be negative, not {value!r}")


def check_duration(name: str, value: object, *, optional: bool = False) -> None:
    """Check a finite number of seconds above 0.

    @param optional: whether C{None} is allowed.
    @raise ValueError: C{value} is none.
    """
    if value is None and optional:
        return
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 < value <= sys.float_info.max
    ):
        raise ValueError(f"{name} must be a number of seconds above 0, not {value!r}")

"""Checks of numbers and times from callers."""

from __future__ import annotations

import math
import sys

__all__ = ["check_flag", "check_seconds", "check_whole", "is_duration"]


def check_flag(name: str, value: object) -> None:
    """
    @raise TypeError: C{value} is neither true nor false.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")


def check_whole(name: str, value: object, least: int) -> None:
    """Check a whole number.

    @raise ValueError: C{value} is not a whole number, or is below C{least}.
    """
    if type(value) is not int or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")


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


def is_duration(value: object) -> bool:
    """Whether the value is a finite number of seconds above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 < value <= sys.float_info.max

"""With how many arguments a user's callable can be called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["fewest_arguments", "name_of"]


def fewest_arguments(function: Callable[..., Any], least: int, most: int) -> int | None:
    """The smallest number of positional arguments that a callable can be called with.

    An argument that has a default, and C{*args}, do not count as needed.

    @return: from C{least} to C{most}; C{least} if the callable does not tell its signature, as some
        that are written in C; C{None} if it can be called with none of these numbers.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return least
    for count in range(least, most + 1):
        try:
            signature.bind(*[None] * count)
        except TypeError:
            continue
        return count
    return None


def name_of(function: Any) -> str:
    """The name of a callable for messages: never its C{repr}, which may show its arguments."""
    while hasattr(function, "func"):  # a partial
        function = function.func
    return str(getattr(function, "__qualname__", type(function).__qualname__))

"""A password that is asked for at each connect, so that it may change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Password", "ask_password", "check_password"]

Password = str | Callable[[], Any] | None
"""A password, or a function that gives it, or a Deferred or a coroutine of it."""


def check_password(password: object) -> None:
    """
    @raise TypeError: it is neither a string nor a function.
    """
    if not (password is None or isinstance(password, str) or callable(password)):
        raise TypeError(f"password must be a string or a function, not {type(password).__name__}")


async def ask_password(password: Password) -> str | None:
    """
    @raise TypeError: the function gives no string, such as the bytes of a file.
    """
    given: Any = password() if callable(password) else password
    if hasattr(given, "__await__"):
        given = await given
    if not (given is None or isinstance(given, str)):
        raise TypeError(f"the password function must give a string, not {type(given).__name__}")
    return given

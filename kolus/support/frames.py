"""Looks into exceptions: their causes, and their tracebacks, which can be removed.

An attempt to connect begins within a caller's call. So the traceback of its error refers to the
caller's frames and their variables: to owners, and to leases, which then could not be reclaimed. A
failed attempt's error is kept until the next attempt, without its traceback.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from twisted.internet.defer import FirstError
from twisted.internet.error import ConnectError, ConnectionClosed

__all__ = ["causes", "drop_frames", "traceback_text"]

_LIBRARIES = {"OpenSSL", "kolus", "psycopg", "psycopg_binary", "psycopg_c", "twisted"}


def traceback_text(error: BaseException) -> str:
    """The traceback for a log; empty if it has no line of the user's code, as when a certificate
    is refused."""
    if isinstance(error, ConnectError | ConnectionClosed):
        return ""  # Twisted reuses one object for all losses: its traceback may be of any of them
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__")).partition(".")[0] not in _LIBRARIES:
            return "".join(traceback.format_exception(error)).rstrip()
    return ""


def drop_frames(error: BaseException) -> None:
    """Remove the tracebacks of an exception, of its causes, and of the exceptions in a group.

    It also removes the reference to the exception's context, but leaves the context itself alone:
    a caller may be about to print it with its traceback.
    """
    for each in causes(error):
        for name in ("__traceback__", "__context__"):
            # Its class may refuse attributes, as a frozen dataclass does.
            BaseException.__setattr__(each, name, None)
        if isinstance(each, FirstError):
            failure = each.subFailure
            failure.frames = failure.frames  # computes the names and lines, which stay
            failure.tb = None


def causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, its causes, and the exceptions in a group, each once."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        left.append(each.__cause__)
        if isinstance(each, BaseExceptionGroup):
            left.extend(each.exceptions)
        elif isinstance(each, FirstError):
            left.append(each.subFailure.value)

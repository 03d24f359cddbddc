"""The place in the user's program that called kolus, as text for messages."""

from __future__ import annotations

import inspect
import linecache
import sys
import traceback
from collections.abc import Callable, Iterator
from itertools import islice
from types import FrameType

__all__ = ["place", "place_of_mistake", "stack"]

_MOST_FRAMES = 12


def place() -> str:
    """The nearest line of the call stack outside of kolus and of Twisted's Deferreds."""
    for frame in _callers():
        return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
    return "nowhere outside of kolus"


def stack() -> str:
    """The nearest twelve such lines, in the format and order of a traceback: the nearest last."""
    calls: list[str] = []
    for frame in islice(_callers(), _MOST_FRAMES):
        code, line = frame.f_code, frame.f_lineno
        # Not with the module traceback: it is slower, because it checks each file on disk.
        source = linecache.getline(code.co_filename, line, frame.f_globals).strip()
        call = f'  File "{code.co_filename}", line {line}, in {code.co_qualname}\n'
        calls.append(f"{call}    {source}\n" if source else call)
    return "".join(reversed(calls))


def place_of_mistake(error: BaseException, called: Callable[..., object]) -> str:
    """The first line of the user's code in an exception's traceback. If C{called} did not even
    begin, because it takes other arguments: where it is defined."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = frame.f_globals.get("__name__", "")
        if not _is_ours(name) and name.partition(".")[0] != "twisted":
            return f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_qualname}"
    makes: object = inspect.unwrap(called)
    if isinstance(makes, type):
        makes = inspect.getattr_static(makes, "__init__")
    code = getattr(makes, "__code__", None)
    if code is None:
        return repr(called)
    return f"{code.co_filename}:{code.co_firstlineno} in {code.co_qualname}"


def _callers() -> Iterator[FrameType]:
    """The frames of the call stack outside of kolus and of Twisted's Deferreds, the nearest
    first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not _is_ours(name) and name != "twisted.internet.defer":
            yield frame
        frame = frame.f_back


def _is_ours(module: str) -> bool:
    return module == "kolus" or module.startswith("kolus.")

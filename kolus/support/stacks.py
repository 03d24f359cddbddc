"""Where in the program something was asked for, as messages tell it."""

from __future__ import annotations

import linecache
import sys
from types import FrameType

__all__ = ["place", "stack"]

_MOST_FRAMES = 12


def place() -> str:
    """The caller's caller: the nearest line outside of kolus and of Twisted's Deferreds."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not _is_ours(name) and name != "twisted.internet.defer":
            return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
        frame = frame.f_back
    return "nowhere outside of kolus"


def stack() -> str:
    """The last twelve such calls, the nearest last, as a traceback shows them."""
    calls: list[str] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(calls) < _MOST_FRAMES:
        name = frame.f_globals.get("__name__", "")
        if not _is_ours(name) and name != "twisted.internet.defer":
            code, line = frame.f_code, frame.f_lineno
            # By hand: traceback asks the file system about every file, which takes longer.
            source = linecache.getline(code.co_filename, line, frame.f_globals).strip()
            call = f'  File "{code.co_filename}", line {line}, in {code.co_qualname}\n'
            calls.append(f"{call}    {source}\n" if source else call)
        frame = frame.f_back
    return "".join(reversed(calls))


def _is_ours(module: str) -> bool:
    return module == "kolus" or module.startswith("kolus.")

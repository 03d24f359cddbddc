"""C{lines_of}: the line of each key in a TOML file. Python's parser does not tell it.

A text that is cut off after a line can be parsed if no value goes on in the next line. So the line
in which a key appears is found by parsing ever longer parts. This is done only to report a mistake.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from kolus.config.mistakes import Path

__all__ = ["lines_of"]

_CLOSERS = ("", "]", "]\n]", "}", '"""', "'''")


def lines_of(text: str) -> dict[Path, int]:
    """The number, from 1, of the line in which each key, and each entry of a list, begins."""
    found: dict[Path, int] = {}
    lines = text.splitlines()
    for count in range(1, len(lines) + 1):
        line = lines[count - 1].strip()
        if line and not line.startswith("#"):
            for path in _paths(_parsed("\n".join(lines[:count]))):
                found.setdefault(path, count)
    return found


def _parsed(text: str) -> Any:
    for closer in _CLOSERS:
        try:
            return tomllib.loads(f"{text}\n{closer}")
        except tomllib.TOMLDecodeError:
            continue
    return {}


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    entries: Any = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        entries = enumerate(value)
    for key, each in entries:
        yield (*path, key)
        yield from _paths(each, (*path, key))

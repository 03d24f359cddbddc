"""C{Lines}: the line of each key in a TOML file. Python's parser does not tell it.

A text that is cut off after a line can be parsed, if need be with what closes an open list or text.
So the line in which a key appears is found by parsing parts of the text, each half as far off as
the one before. This is done only to report a mistake.

Its state is the parts that were parsed.
"""

from __future__ import annotations

import tomllib
from typing import Any

from kolus.config.mistakes import Path
from kolus.support import Work

__all__ = ["Lines"]

_CLOSERS = ("", "]", "]\n]", "}", '"""', "'''")


class Lines:
    """The lines of one text, which is valid TOML."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()
        self._parsed: dict[int, Any] = {0: {}}

    def of(self, path: Path) -> Work[int]:
        """The number, from 1, of the line in which a key, or an entry of a list, begins. If it is
        not in the text: that of the nearest table or list around it; 1 if there is none."""
        without, within = 0, len(self._lines)
        while path and not _has(self._part(within), path):
            path = path[:-1]
            yield
        while path and within - without > 1:
            at = middle = (without + within) // 2
            while at > without and self._part(at) is None:
                at -= 1
                yield
            yield
            if at == without:
                without = middle  # none of these parts can be parsed
            elif _has(self._part(at), path):
                within = at
            else:
                without = at
        return within if path else 1

    def _part(self, count: int) -> Any:
        """The first lines as they are parsed; C{None} if they cannot be."""
        if count not in self._parsed:
            self._parsed[count] = _parsed("\n".join(self._lines[:count]))
        return self._parsed[count]


def _parsed(text: str) -> Any:
    for closer in _CLOSERS:
        try:
            return tomllib.loads(f"{text}\n{closer}")
        except tomllib.TOMLDecodeError:
            continue
    return None


def _has(value: Any, path: Path) -> bool:
    try:
        for each in path:
            value = value[each]
    except (KeyError, IndexError, TypeError):
        return False
    return True

"""C{Mistake}: one thing that is wrong in a configuration; C{ConfigError}: all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["ConfigError", "Mistake", "Mistakes", "Path", "told_at"]

_VERBS = ("must", "is", "has", "does", "needs")

Path = tuple[str | int, ...]
"""Where a value is: the keys and, in a list, the indices that lead to it."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake.

    @ivar path: where it is.
    @ivar why: what is wrong, and what is expected.
    """

    path: Path
    why: str


Mistakes = list[Mistake]


class ConfigError(ValueError):
    """A configuration is invalid.

    @ivar lines: one line of text for each mistake: where it is, what is wrong, what is expected.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.lines,), self.__dict__


def told_at(where: str, path: Path, why: str) -> str:
    """A message with its place in front, in place of the key if the message is about that.

    @param path: the path of the key, or of an entry of its list.
    """
    key = [each for each in path if isinstance(each, str)][-1]
    is_about_it = why.startswith(tuple([f"{key} {verb} " for verb in _VERBS]))
    why = why[len(key) + 1 :] if is_about_it else why.removeprefix(f"{key}: ")
    return f"{where} {why}" if why.startswith(("must ", "is ", "has ")) else f"{where}: {why}"

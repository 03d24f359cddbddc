"""C{make_settings}: makes settings from the values of a table, and notes all that they refuse.

The settings check themselves, and tell the first thing that is wrong: they raise C{ValueError} with
a message that begins with the key. That value, or that entry of a list, is then left out, and the
rest is tried, until nothing is refused. C{_Making} has the values that are left, and changes them.
"""

from __future__ import annotations

import re
import types
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Generic, TypeVar, get_type_hints

from kolus.config.hints import NONE, is_list, is_required, kinds_of
from kolus.config.mistakes import Mistake, Mistakes, Path

__all__ = ["make_settings"]

S = TypeVar("S")

_STAND_IN = ("-",)
"""In place of a list that must be given and is not, so that the other keys can be checked."""


def make_settings(
    cls: type[S],
    values: dict[str, Any],
    table: Mapping[str, Any],
    path: Path,
    mistakes: Mistakes,
) -> S | None:
    """
    @param cls: a frozen dataclass.
    @param values: the values of its fields, as far as they could be read.
    @param table: what was given for them.
    @param path: where the table is.
    @param mistakes: every mistake is added to it.
    @return: the settings without what is wrong; C{None} if none can be made.
    """
    making = _Making(cls, values, table, path, mistakes)
    while True:
        try:
            made = making.attempt(making.values)
        except ValueError as error:
            if not making.leave_out(str(error)):
                return None
        else:
            return None if making.lacking() else made


class _Making(Generic[S]):
    """
    @ivar values: those that are not found wrong.
    """

    def __init__(
        self,
        cls: type[S],
        values: dict[str, Any],
        table: Mapping[str, Any],
        path: Path,
        mistakes: Mistakes,
    ) -> None:
        known = fields(cls)  # type: ignore[arg-type]
        self.values = values
        self._cls, self._table, self._path, self._mistakes = cls, table, path, mistakes
        self._hints = get_type_hints(cls)
        self._needed = {each.name for each in known if is_required(each)}
        self._left_out = {each.name for each in known} & table.keys() - values.keys()
        self._indices: dict[str, list[int]] = {}
        """Of the entries that are left, in the list that was given."""
        for key in values:
            if is_list(self._hints[key]) and isinstance(table[key], list):
                noted = self._noted_in(key)
                self._indices[key] = [at for at in range(len(table[key])) if at not in noted]

    def _noted_in(self, key: str) -> set[str | int]:
        """The entries of a list in which a mistake was noted."""
        here, depth = (*self._path, key), len(self._path) + 1
        paths = [each.path for each in self._mistakes]
        return {path[depth] for path in paths if path[:depth] == here != path}

    def lacking(self) -> set[str]:
        """What must be given, and is not, or is wrong."""
        return self._needed - self.values.keys()

    def attempt(self, values: Mapping[str, Any]) -> S:
        """
        @raise ValueError: the settings refuse a value.
        """
        return self._cls(**values, **dict.fromkeys(self.lacking(), _STAND_IN))

    def leave_out(self, why: str) -> bool:
        """Note what the settings say, and leave out what that is about.

        @return: whether another attempt can be made.
        """
        key = why.replace(":", " ").split(" ", 1)[0]
        if key not in self.values:
            if key not in self._table:
                self._note(self._path, why)
            return False
        if self._indices.get(key):
            at, why = self._wrong_entry(key)
            self._note((*self._path, key, self._indices[key].pop(at)), why)
            self.values[key] = self.values[key][:at] + self.values[key][at + 1 :]
            if self.values[key]:
                return True
        elif not any(re.search(rf"\b{each}\b", why) for each in self._left_out):
            self._note((*self._path, key), why + _unbound(self._hints[key], key, why))
        del self.values[key]
        self._left_out.add(key)
        return True

    def _note(self, path: Path, why: str) -> None:
        self._mistakes.append(Mistake(path, why))

    def _wrong_entry(self, key: str) -> tuple[int, str]:
        """The first entry of a list with which the settings refuse the list: its index, and why."""
        entries = self.values[key]
        why: dict[int, str] = {}

        def is_refused(count: int) -> bool:
            try:
                self.attempt({**self.values, key: entries[:count]})
            except ValueError as error:
                why[count] = str(error)
            return why.get(count, "").startswith(key)

        at = bisect_left(range(1, len(entries)), True, key=is_refused)
        is_refused(at + 1)
        return at, why[at + 1]


def _unbound(hint: Any, key: str, why: str) -> str:
    """What to add to a message about a number that may be without a bound."""
    kinds = kinds_of(hint)
    may_be_none = types.NoneType in kinds and kinds & {int, float}
    return f'; "{NONE}" takes the bound away' if may_be_none and f"{key} must " in why else ""

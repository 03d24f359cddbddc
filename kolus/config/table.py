"""Reads a table of keys and values into a frozen dataclass of settings, and notes every mistake.

The fields of the class are the keys. What a value has to be is checked by the class itself, which
raises C{ValueError} with a message that begins with the key. That value is then left out, and the
rest is tried, until all mistakes are found.
"""

from __future__ import annotations

import types
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from kolus.backend import Backend
from kolus.config.mistakes import Mistake, Path, did_you_mean
from kolus.sources import backend_from_entry
from kolus.support import hide_secrets

__all__ = ["NONE", "Mistakes", "class_of", "is_list", "is_required", "kinds_of", "read_table"]

S = TypeVar("S")

NONE = "none"
"""In a file and on a command line, which have no C{None}: a number that has no bound."""

_MISTAKE = object()

_KINDS: Mapping[type, str] = defaultdict(
    lambda: "a date or time",
    {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a table"},
)
"""What a value is called. A text may be a secret, so that what stands in its place is not shown."""

Mistakes = list[Mistake]


def read_table(
    cls: type[S], table: object, path: Path, mistakes: Mistakes, others: tuple[str, ...] = ()
) -> S | None:
    """Make settings from a table.

    @param cls: a frozen dataclass.
    @param others: keys that the table may have, too; whoever calls this reads them.
    @param path: where the table is, for the mistakes.
    @param mistakes: every mistake is added to it.
    @return: C{None} if there is a mistake in the table.
    """
    if not isinstance(table, Mapping):
        mistakes.append(Mistake(path, f"must be a table, not {_shown(table)}"))
        return None
    known = {each.name: each for each in fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    before = len(mistakes)
    values: dict[str, Any] = {}
    for key, given in table.items():
        if key in others:
            continue
        if key not in known:
            hint = did_you_mean(key, {*known, *others})
            mistakes.append(Mistake((*path, key), f"unknown key: {hint}"))
            continue
        read = _value(hints[key], given, (*path, key), mistakes)
        if read is not _MISTAKE:
            values[key] = read
    needed = {name for name, each in known.items() if is_required(each)}
    missing = sorted(needed - set(table))
    for name in missing:
        mistakes.append(Mistake(path, f"{name} is missing"))
    while needed <= set(values):
        try:
            made = cls(**values)
        except ValueError as error:
            key = str(error).replace(":", " ").split(" ", 1)[0]
            if key in values:
                mistakes.append(Mistake((*path, key), str(error)))
                del values[key]  # to find what else is wrong
                continue
            if key not in table:
                mistakes.append(Mistake(path, str(error)))
            return None
        return None if len(mistakes) > before else made
    return None


def _value(hint: Any, given: Any, path: Path, mistakes: Mistakes) -> Any:
    """The value as the settings take it; C{_MISTAKE} if one was noted."""
    inner = class_of(hint)
    if inner is not None:
        made = read_table(inner, given, path, mistakes)
        return _MISTAKE if made is None else made
    if not is_list(hint):
        return _single(hint, given, path, mistakes)
    entries = [given] if isinstance(given, str) else given
    if not isinstance(entries, list):
        mistakes.append(Mistake(path, f"must be a list, not {_shown(given)}"))
        return _MISTAKE
    if get_args(hint)[0] is Backend:
        return _backends(entries, path, mistakes)
    for at, entry in enumerate(entries):
        if not isinstance(entry, str):
            mistakes.append(Mistake((*path, at), f"must be a string, not {_shown(entry)}"))
            return _MISTAKE
    return tuple(entries)


def _single(hint: Any, given: Any, path: Path, mistakes: Mistakes) -> Any:
    """Texts, yes or no, and C{NONE}. The settings themselves check numbers and words."""
    kinds = kinds_of(hint)
    if bool in kinds and not isinstance(given, bool):
        mistakes.append(Mistake(path, f"must be true or false, not {_shown(given)}"))
        return _MISTAKE
    if not kinds & {str, bytes}:
        return None if given == NONE and types.NoneType in kinds else given
    if not isinstance(given, str):
        mistakes.append(Mistake(path, f"must be a text in quotes, not {_KINDS[type(given)]}"))
        return _MISTAKE
    return given.encode() if bytes in kinds else given


def _backends(entries: list[Any], path: Path, mistakes: Mistakes) -> Any:
    made = []
    for at, entry in enumerate(entries):
        if not isinstance(entry, str | dict):
            why = f'must be a text such as "tcp:10.0.0.7:6379", or a table, not {_shown(entry)}'
            mistakes.append(Mistake((*path, at), why))
            continue
        try:
            made.append(
                backend_from_entry({"endpoint": entry} if isinstance(entry, str) else entry)
            )
        except (TypeError, ValueError) as error:
            mistakes.append(Mistake((*path, at, *_key_in(entry, str(error))), str(error)))
    return tuple(made) if len(made) == len(entries) else _MISTAKE


def _key_in(entry: object, why: str) -> Path:
    """The key of an entry that a message begins with, if there is one."""
    keys = entry if isinstance(entry, dict) else ()
    return tuple([each for each in keys if why.startswith((f"{each} ", f"unknown key {each!r}"))])


def _shown(value: object) -> str:
    return hide_secrets(repr(value))


def class_of(hint: Any) -> type[Any] | None:
    """The class of settings that a field holds; C{None}: it holds a value."""
    for each in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,):
        if is_dataclass(each) and isinstance(each, type) and each is not Backend:
            return each
    return None


def kinds_of(hint: Any) -> set[Any]:
    """The types that a value may have; those of its words if it is one of several words."""
    origin = get_origin(hint)
    if origin is Literal:
        return {type(each) for each in get_args(hint)}
    if origin in (Union, types.UnionType):
        return {kind for each in get_args(hint) for kind in kinds_of(each)}
    return {hint}


def is_list(hint: Any) -> bool:
    """Whether a field holds several values."""
    return get_origin(hint) is tuple


def is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING

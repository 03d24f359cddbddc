"""Reads a table of keys and values into a frozen dataclass of settings, and notes every mistake.

The fields of the class are the keys, and their types say whether a text, a list or a table is
expected. What a value has to be besides is checked by the class itself, see C{make_settings}.
"""

from __future__ import annotations

import types
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, get_args, get_type_hints

from kolus.backend import Backend
from kolus.config.hints import NONE, class_of, is_list, is_required, kinds_of
from kolus.config.making import make_settings
from kolus.config.mistakes import Mistake, Mistakes, Path
from kolus.errors import shown
from kolus.sources import backend_from_entry
from kolus.support import Work, did_you_mean

__all__ = ["read_table"]

S = TypeVar("S")

_MISTAKE = object()

_KINDS: Mapping[type, str] = defaultdict(
    lambda: "a date or time",
    {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a table"},
)
"""What a value is called. A text may be a secret, so that what stands in its place is not shown."""


def read_table(
    cls: type[S], table: object, path: Path, mistakes: Mistakes, others: tuple[str, ...] = ()
) -> Work[S | None]:
    """Make settings from a table. Each backend is a piece of the work.

    @param cls: a frozen dataclass.
    @param others: keys that the table may have, too; the caller reads them.
    @param path: where the table is, for the mistakes.
    @param mistakes: every mistake is added to it.
    @return: the settings without what is wrong, so that they can be looked at further; C{None} if
        none can be made.
    """
    if not isinstance(table, Mapping):
        mistakes.append(Mistake(path, f"must be a table, not {shown(table)}"))
        return None
    known = {each.name: each for each in fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, given in table.items():
        if key in others:
            continue
        if key not in known:
            hint = did_you_mean(key, {*known, *others})
            mistakes.append(Mistake((*path, key), f"unknown key: {hint}"))
            continue
        read = yield from _value(hints[key], given, (*path, key), mistakes)
        if read is not _MISTAKE:
            values[key] = read
    for name in sorted({name for name, each in known.items() if is_required(each)} - table.keys()):
        mistakes.append(Mistake(path, f"{name} is missing"))
    return make_settings(cls, values, table, path, mistakes)


def _value(hint: Any, given: Any, path: Path, mistakes: Mistakes) -> Work[Any]:
    """The value as the settings take it; C{_MISTAKE} if one was noted."""
    inner = class_of(hint)
    if inner is not None:
        made = yield from read_table(inner, given, path, mistakes)
        return _MISTAKE if made is None else made
    if not is_list(hint):
        return _single(hint, given, path, mistakes)
    entries = [given] if isinstance(given, str) else given
    if not isinstance(entries, list):
        mistakes.append(Mistake(path, f"must be a list, not {shown(given)}"))
        return _MISTAKE
    if get_args(hint)[0] is Backend:
        return (yield from _backends(entries, path, mistakes))
    wrong = [at for at, entry in enumerate(entries) if not isinstance(entry, str)]
    for at in wrong:
        mistakes.append(Mistake((*path, at), f"must be a string, not {shown(entries[at])}"))
    kept = tuple([each for each in entries if isinstance(each, str)])
    return _MISTAKE if wrong and not kept else kept


def _single(hint: Any, given: Any, path: Path, mistakes: Mistakes) -> Any:
    """Texts, yes or no, and C{NONE}. The settings themselves check numbers and words."""
    kinds = kinds_of(hint)
    if bool in kinds and not isinstance(given, bool):
        mistakes.append(Mistake(path, f"must be true or false, not {shown(given)}"))
        return _MISTAKE
    if not kinds & {str, bytes}:
        return None if given == NONE and types.NoneType in kinds else given
    if not isinstance(given, str):
        mistakes.append(Mistake(path, f"must be a text in quotes, not {_KINDS[type(given)]}"))
        return _MISTAKE
    return given.encode() if bytes in kinds else given


def _backends(entries: list[Any], path: Path, mistakes: Mistakes) -> Work[Any]:
    made = []
    for at, entry in enumerate(entries):
        yield
        if not isinstance(entry, str | dict):
            why = f'must be a text such as "tcp:10.0.0.7:6379", or a table, not {shown(entry)}'
            mistakes.append(Mistake((*path, at), why))
            continue
        try:
            made.append(
                backend_from_entry({"endpoint": entry} if isinstance(entry, str) else entry)
            )
        except (TypeError, ValueError) as error:
            mistakes.append(Mistake((*path, at, *_key_in(entry, str(error))), str(error)))
    return _MISTAKE if entries and not made else tuple(made)


def _key_in(entry: object, why: str) -> Path:
    """The key of an entry that a message begins with, if there is one."""
    keys = entry if isinstance(entry, dict) else ()
    return tuple([each for each in keys if why.startswith((f"{each} ", f"unknown key {each!r}"))])

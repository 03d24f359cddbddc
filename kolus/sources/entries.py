"""Parses the backends in a TOML or JSON file, and finds the line of an error in it.

::

    [[backend]]                         {"backend": [
    endpoint = "tcp:10.0.0.7:6379"        {"endpoint": "tcp:10.0.0.7:6379"},
    [[backend]]                           {"host": "10.0.0.8", "port": 6379, "weight": 2}
    host = "10.0.0.8"                   ]}
    port = 6379
    weight = 2
"""

from __future__ import annotations

import codecs
import json
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from kolus.backend import Backend
from kolus.errors import describe, shown
from kolus.support import did_you_mean

__all__ = ["READERS", "BadEntry", "backend_from_entry", "read_backends"]

Check = Callable[[Backend], object]

_WHERE = ("endpoint", "host", "port")
_WHAT = ("name", "limit", "weight", "zone")
_TOML_HEADER = re.compile(r"""^[ \t]*\[\[[ \t]*["']?backend["']?[ \t]*\]\]""", re.MULTILINE)
_JSON_HEAD = re.compile(r'\s*\{\s*"backend"\s*:\s*\[')
_JSON_GAP = re.compile(r"[\s,]*")


class BadEntry(ValueError):
    """The file is not a valid list of backends.

    @ivar line: the line of the error, counted from 1; C{None} if it is unknown.
    """

    def __init__(self, line: int | None, why: str) -> None:
        super().__init__(why)
        self.line = line

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.line, str(self)), self.__dict__


def read_backends(data: bytes, suffix: str, check: Check | None = None) -> list[Backend]:
    """The backends in the file, in its order; at least one.

    @param suffix: the suffix of the file's name: C{.toml} or C{.json}.
    @param check: called with each backend; raises C{ValueError} if the backend is unusable.
    @raise BadEntry: the file lists no backend, or has an invalid entry.
    """
    parse, find_lines = READERS[suffix]
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadEntry(data.count(b"\n", 0, error.start) + 1, "it is not UTF-8") from error
    content = _parsed(parse, text)
    if not isinstance(content, dict):
        raise BadEntry(1, 'expected {"backend": [...]}')
    for key in content:
        if key != "backend":
            raise BadEntry(_line_with(text, key), f"unknown key {key!r}; expected 'backend'")
    entries = content.get("backend")
    if not entries:
        raise BadEntry(1, "it lists no backend")
    if not isinstance(entries, list):
        raise BadEntry(_line_with(text, "backend"), "'backend' must be a list of tables")
    try:
        return _backends(entries, check)
    except _Wrong as wrong:
        lines = find_lines(text, len(entries))
        line, first = lines[wrong.at], None if wrong.first is None else lines[wrong.first]
        end = lines[wrong.at + 1] if wrong.at + 1 < len(lines) else None
        line = _line_of_key(text, line, end, entries[wrong.at], str(wrong))
        where = f" (first in line {first})" if first not in (None, line) else ""
        raise BadEntry(line, f"{wrong}{where}") from wrong.__cause__


def _parsed(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except BadEntry:
        raise
    except RecursionError as error:
        raise BadEntry(1, "it is nested too deeply") from error
    except Exception as error:  # for example: a number has more digits than Python converts
        most = sys.get_int_max_str_digits()
        digits = re.search(rf"[0-9_]{{{most + 1},}}", text) if most else None
        line = _line_at(text, digits.start()) if digits else None
        raise BadEntry(line, describe(error)) from error


class _Wrong(Exception):
    """An entry is invalid.

    @ivar at: the index of the entry. Its line is searched only after an error.
    @ivar first: the index of the earlier entry that this one repeats.
    """

    def __init__(self, at: int, why: str, first: int | None = None) -> None:
        super().__init__(why)
        self.at = at
        self.first = first


def _backends(entries: list[Any], check: Check | None) -> list[Backend]:
    found: dict[Backend, int] = {}
    for at, entry in enumerate(entries):
        try:
            backend = backend_from_entry(entry)
            if check is not None:
                check(backend)
        except (TypeError, ValueError) as error:
            raise _Wrong(at, str(error)) from error
        first = found.setdefault(backend, at)
        if first != at:
            raise _Wrong(at, f"the backend {backend.endpoint} is given twice", first)
    return list(found)


def backend_from_entry(entry: Any) -> Backend:
    """The backend that a table describes.

    @raise ValueError: the table has an unknown key or a wrong value.
    @raise TypeError: the endpoint has a wrong type.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"a backend is a table, not {shown(entry)}")
    for key, value in entry.items():
        if isinstance(value, str):
            value.encode()  # refuse lone surrogates, which JSON can escape but no log can print
        if key not in _WHERE + _WHAT:
            raise ValueError(f"unknown key {key!r}; {did_you_mean(str(key), _WHERE + _WHAT)}")
    where = {key for key in _WHERE if key in entry}
    if where == {"endpoint"}:
        endpoint: Any = entry["endpoint"]
        if not isinstance(endpoint, str):
            raise ValueError(f"endpoint must be a string, not {endpoint!r}")
    elif where == {"host", "port"}:
        endpoint = (entry["host"], entry["port"])
    else:
        given = f"not {' and '.join(sorted(where))}" if where else "it has neither"
        raise ValueError(f"a backend has either an endpoint, or a host and a port; {given}")
    return Backend(endpoint, **{key: entry[key] for key in _WHAT if key in entry})


# For each format: how to parse it, and how to find the line in which an entry begins


def _parse_toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Python 3.11 gives the line only in the message, and no line at the end of the file.
        line = re.search(r"\(at line (\d+), column \d+\)$", str(error))
        last = len(text.splitlines()) or 1
        raise BadEntry(int(line[1]) if line else last, str(error)) from error


def _toml_lines(text: str, count: int) -> list[int]:
    headers = [header.end() for header in _TOML_HEADER.finditer(text)]
    if len(headers) == count:
        return _lines_at(text, headers)
    return [_line_with(text, "backend")] * count  # a list of inline tables: "backend = [{...}]"


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise BadEntry(error.lineno, str(error)) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):  # TOML forbids this too: nobody can tell which value counts
        twice = Counter([key for key, _ in pairs]).most_common(1)[0][0]
        raise BadEntry(None, f"the key {twice!r} is given twice in one object")
    return made


def _json_lines(text: str, count: int) -> list[int]:
    head = _JSON_HEAD.match(text)
    if head is None:  # the key is written with escapes
        return [1] * count
    decoder = json.JSONDecoder()
    starts, end = [], head.end()
    for _ in range(count):
        gap = _JSON_GAP.match(text, end)
        start = gap.end() if gap else end
        starts.append(start)
        _, end = decoder.raw_decode(text, start)
    return _lines_at(text, starts)


def _line_of_key(text: str, line: int, end: int | None, entry: object, why: str) -> int:
    """The line of the key that a message about an entry begins with.

    @param line: the first line of the entry, which is the answer if the message names no key.
    @param end: the first line of the next entry; C{None}: there is none.
    """
    for name in entry if isinstance(entry, dict) else ():
        if why.startswith((f"{name} ", f"unknown key {name!r}")):
            key = re.compile(rf"""(?<![\w-]){re.escape(name)}["']?\s*[=:]""")
            last = None if end is None else max(line, end - 1)
            for number, each in enumerate(text.split("\n")[line - 1 : last], line):
                if key.search(each):
                    return number
    return line


def _line_with(text: str, word: str) -> int:
    return _line_at(text, max(text.find(word), 0))


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _lines_at(text: str, positions: list[int]) -> list[int]:
    """The line numbers of positions, which must be in ascending order."""
    spans = zip([0, *positions], positions, strict=False)
    return list(accumulate([text.count("\n", start, end) for start, end in spans], initial=1))[1:]


_Reader = tuple[Callable[[str], Any], Callable[[str, int], list[int]]]

READERS: dict[str, _Reader] = {
    ".json": (_parse_json, _json_lines),
    ".toml": (_parse_toml, _toml_lines),
}
"""For each suffix of a file: the parser, and the function that finds the lines of entries."""

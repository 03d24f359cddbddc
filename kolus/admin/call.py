"""C{Call}: one request to the admin server, and C{Answer}: what it gets."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from kolus.admin.problem import Problem
from kolus.support import Work

__all__ = ["Answer", "Call", "Text", "answer", "joined", "json_bytes", "json_pieces"]

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets.

    @ivar pieces: make the body. They are taken over several turns of the reactor if they take long.
    @ivar content_type: the media type of the body.
    """

    pieces: Iterable[bytes]
    content_type: str = JSON
    status: int = 200


@dataclass(frozen=True, slots=True)
class Text:
    """A long text in JSON.

    @ivar parts: are made when they are needed.
    """

    parts: Iterator[str]


def json_bytes(value: object) -> bytes:
    """A value as JSON; infinity and what JSON lacks as null."""
    try:
        return _dumped(value)
    except ValueError:  # seldom: to look for it each time would take as long as the rest
        return _dumped(_plain(value))


def _dumped(value: object) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def json_pieces(value: object) -> Iterator[bytes]:
    """A value as JSON, in pieces: of iterators and C{Text} in it one entry after the other."""
    if isinstance(value, Text):
        yield b'"'
        for part in value.parts:
            yield _dumped(part)[1:-1]
        yield b'"'
    elif isinstance(value, Iterator):
        yield from _within((json_pieces(each) for each in value), b"[]")
    elif isinstance(value, dict) and _grows(value):
        entries = (_entry(name, each) for name, each in value.items())
        yield from _within(entries, b"{}")
    else:
        yield json_bytes(value)


def joined(pieces: Iterable[bytes]) -> Work[bytes]:
    """All pieces in one."""
    made = []
    for piece in pieces:
        made.append(piece)
        yield
    return b"".join(made)


def _within(entries: Iterable[Iterator[bytes]], around: bytes) -> Iterator[bytes]:
    yield around[:1]
    for number, entry in enumerate(entries):
        first = next(entry)
        yield b"," + first if number else first
        yield from entry
    yield around[1:]


def _entry(name: str, value: object) -> Iterator[bytes]:
    yield json_bytes(name) + b":"
    yield from json_pieces(value)


def _grows(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_grows, value.values()))
    return isinstance(value, Iterator | Text)


def answer(value: object) -> Answer:
    """The answer that is a value as JSON."""
    return Answer(chain(json_pieces(value), [b"\n"]))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


@dataclass(slots=True)
class Call:
    """One request, as far as a route has to know it.

    @ivar names: the names in the path, such as C{group} and C{backend}.
    @ivar fields: the object in the body; empty without one.
    @ivar who: the client that asks, for the log.
    @ivar accept: the header C{Accept}.
    """

    names: dict[str, str]
    who: str
    accept: str = ""
    fields: dict[str, Any] = field(default_factory=dict)

    def read(self, body: bytes, allowed: tuple[str, ...]) -> None:
        """Take the fields from a body.

        @raise Problem: it is no JSON object, or has other fields.
        """
        if not body.strip():
            return
        try:
            found = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Problem(400, f"the body is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise Problem(422, f"the body must be a JSON object, not {_kind(found)}")
        for name in found:
            if name not in allowed:
                takes = ", ".join(allowed) or "no fields"
                raise Problem(422, f"unknown field {name!r}: this call takes {takes}")
        self.fields = found

    def whole(self, name: str) -> int:
        """A field that is a whole number."""
        value = self._given(name)
        if isinstance(value, float) and value.is_integer():  # in JSON 7.0 is a whole number, too
            value = int(value)
        if type(value) is not int or value < 1:
            raise Problem(422, f"{name} must be a whole number of at least 1, not {_told(value)}")
        if value > 1_000_000_000:
            raise Problem(422, f"{name} must be at most 1000000000")
        return value

    def number(self, name: str) -> float:
        """A field that is a number."""
        value = self._given(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Problem(422, f"{name} must be a number, not {_told(value)}")
        try:
            return float(value)
        except OverflowError:
            raise Problem(422, f"{name} is too large") from None

    def _given(self, name: str) -> object:
        if name not in self.fields:
            raise Problem(422, f"{name} is missing; give a body such as {{{json.dumps(name)}: 10}}")
        return self.fields[name]


def _kind(value: object) -> str:
    kinds = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")


def _told(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."

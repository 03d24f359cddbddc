"""Reads the daemon's TOML file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path as File
from typing import Any

from kolus.config.from_tables import Check, config_from_tables, is_joined, no_check
from kolus.config.lines import Lines
from kolus.config.mistakes import ConfigError, Mistake, told_at
from kolus.config.settings import Config
from kolus.support import Work

__all__ = ["read_config"]


_QUOTES = 'a text is in quotes, such as "tcp:127.0.0.1:6379"; others are 5, true, [...] and {...}'
_HINTS = {
    "Invalid value": _QUOTES,
    "Expected newline or end of document after a statement": _QUOTES,
    "Expected '=' after a key": "write KEY = VALUE",
    "Unclosed array": "it ends with ], and a comma is between two entries",
    "Cannot overwrite a value": "it stands there before",
}
"""What to write, by the begin of what the parser says."""


def read_config(name: str, check: Check = no_check) -> Work[Config]:
    """Read a configuration.

    @param name: the name of the TOML file.
    @param check: finds mistakes that the file alone does not show.
    @raise ConfigError: it cannot be read, or has mistakes: a line for each, with the file's name,
        the line and the path of the key.
    """
    try:
        content = File(name).read_bytes()
        text = content.decode("utf-8-sig")  # some editors write a mark of three bytes first
    except OSError as error:
        raise ConfigError([f"{name}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        why = f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise ConfigError([f"{name}, line {line}: {why}"]) from error
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", str(error))
        if found is None:
            raise ConfigError([f"{name}, line {len(text.splitlines()) or 1}: {error}"]) from error
        hints = [f"; {hint}" for begin, hint in _HINTS.items() if found[1].startswith(begin)]
        why = "".join([found[1], *hints])
        raise ConfigError([f"{name}, line {found[2]}, column {found[3]}: {why}"]) from error
    mistakes: list[Mistake] = []
    yield
    config = yield from config_from_tables(tables, check, mistakes)
    if config is None:
        lines = Lines(text)
        places = []
        for each in mistakes:
            line = yield from lines.of(each.path)
            places.append((line, each))
        places.sort(key=lambda place: place[0])
        raise ConfigError(f"{name}, line {line}: {_told(each, tables)}" for line, each in places)
    return config


def _told(mistake: Mistake, tables: dict[str, Any]) -> str:
    where = ""
    for each in mistake.path:
        where += f"[{each}]" if isinstance(each, int) else f".{each}"
    if not where:
        return mistake.why
    told = told_at(where[1:], mistake.path, mistake.why)
    if is_joined(tables, mistake.path):
        told += '; several are a list: ["...", "..."]'
    return told

"""Reads the daemon's TOML file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path as File

from kolus.config.lines import Lines
from kolus.config.mistakes import ConfigError, Mistake, told_at
from kolus.config.settings import Config
from kolus.config.whole import Check, no_check, whole

__all__ = ["read_config"]


_QUOTES = 'a text is in quotes, such as "tcp:127.0.0.1:6379"; others are 5, true, [...] and {...}'


def read_config(name: str, check: Check = no_check) -> Config:
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
        why = f"{found[1]}; {_QUOTES}" if found[1] == "Invalid value" else found[1]
        raise ConfigError([f"{name}, line {found[2]}, column {found[3]}: {why}"]) from error
    mistakes: list[Mistake] = []
    config = whole(tables, check, mistakes)
    if config is None:
        lines = Lines(text)
        places = [(lines.of(each.path), each) for each in mistakes]
        places.sort(key=lambda place: place[0])
        raise ConfigError(f"{name}, line {line}: {_told(each)}" for line, each in places)
    return config


def _told(mistake: Mistake) -> str:
    where = ""
    for each in mistake.path:
        where += f"[{each}]" if isinstance(each, int) else f".{each}"
    if not where:
        return mistake.why
    return told_at(where[1:], mistake.path[-1], mistake.why)

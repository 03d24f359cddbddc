"""Reads the daemon's TOML file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path as File

from kolus.config.lines import Lines
from kolus.config.mistakes import ConfigError, Mistake
from kolus.config.settings import Config
from kolus.config.whole import Check, no_check, whole

__all__ = ["read_config"]


def read_config(name: str, check: Check = no_check) -> Config:
    """Read a configuration.

    @param name: the name of the TOML file.
    @param check: finds mistakes that the file alone does not show.
    @raise ConfigError: it cannot be read, or has mistakes: a line for each, with the file's name,
        the line and the path of the key.
    """
    try:
        text = File(name).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{name}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{name}: it is not UTF-8"]) from error
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column \d+\)$", str(error))
        line = int(found[1]) if found else len(text.splitlines()) or 1
        raise ConfigError([f"{name}, line {line}: {error}"]) from error
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
    why = mistake.why.removeprefix(f"{mistake.path[-1]}").lstrip(": ")
    return f"{where[1:]} {why}" if why.startswith("must") else f"{where[1:]}: {why}"

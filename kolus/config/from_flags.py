"""Makes a C{Config} from the flags of the command line.

They are the keys of one group and one listener, both named C{default}.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from kolus.config.flag import FLAGS, Flag, flag_at
from kolus.config.from_tables import Check, config_from_tables, is_joined, no_check
from kolus.config.hints import is_list, kinds_of
from kolus.config.mistakes import ConfigError, Mistake, told_at
from kolus.config.settings import Config
from kolus.support import Work

__all__ = ["config_from_flags"]


def config_from_flags(given: Sequence[tuple[str, str]], check: Check = no_check) -> Work[Config]:
    """Make a configuration from flags.

    @param given: the name of each flag and its text, in the order of the command line.
    @param check: finds mistakes that the flags alone do not show.
    @raise ConfigError: a line for each mistake, which names the flag.
    """
    tables: dict[str, Any] = {}
    mistakes: list[Mistake] = []
    for name, text in given:
        flag = FLAGS[name]
        table = tables
        for key in flag.path[:-1]:
            table = table.setdefault(str(key), {})
        key = str(flag.path[-1])
        if is_list(flag.hint):
            if text in table.setdefault(key, []):
                mistakes.append(Mistake(flag.path, f"{text} is given twice; leave one out"))
            else:
                table[key].append(text)
        elif key in table:
            mistakes.append(Mistake(flag.path, "is given twice: leave one out"))
        else:
            table[key] = _read(text, flag)
    _check_presence(tables)
    config = yield from config_from_tables(tables, check, mistakes)
    if config is None:
        raise ConfigError(_told(each, tables) for each in mistakes)
    return config


def _check_presence(tables: dict[str, Any]) -> None:
    group = tables.get("groups", {}).get("default", {})
    if not (group.get("backends") or "source" in group):
        raise ConfigError(
            [
                "no --backend and no --source: say where to connect to, for example --backend "
                "tcp:127.0.0.1:6379 or --source file:backends.toml, or see a demo: --demo 10"
            ]
        )
    if not tables.get("listeners", {}).get("default", {}).get("listen"):
        raise ConfigError(
            ["no --listen: say where clients connect, as --listen tcp:6380:interface=127.0.0.1"]
        )


def _read(text: str, flag: Flag) -> Any:
    """The text as TOML would have it. What is no number stays a text, and is then refused."""
    kinds = kinds_of(flag.hint)
    if bool in kinds:
        return {"yes": True, "true": True, "no": False, "false": False}.get(text.lower(), text)
    for kind in (int, float):
        if kinds & {int, float} and text.isascii() and len(text) < 30:
            try:
                return kind(text)
            except ValueError:
                continue
    return text


def _told(mistake: Mistake, tables: dict[str, Any]) -> str:
    key = re.split("[ :]", mistake.why, maxsplit=1)[0]  # often it has the key
    flag = flag_at((*mistake.path, key))
    if flag is None:
        return mistake.why
    told = told_at(f"--{flag.name}", flag.path, mistake.why)
    if is_joined(tables, mistake.path):
        told += f"; for several give --{flag.name} several times"
    return told

"""The flags of the command line: the keys of one group and one listener, both named C{default}.

A flag is its key with dashes. Keys of C{tls} and C{check} have a prefix.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, get_type_hints

from kolus.checking import HealthCheck
from kolus.config.mistakes import ConfigError, Mistake, Path, told_at
from kolus.config.settings import AdminSettings, Config, GroupSettings, ListenerConfig
from kolus.config.table import NONE, class_of, is_list, kinds_of
from kolus.config.whole import Check, no_check, whole
from kolus.tls import BackendTLS, ListenerTLS
from kolus.tunnel import ListenerSettings

__all__ = ["FLAGS", "Flag", "config_from_flags"]

_GROUP: Path = ("groups", "default")
_LISTENER: Path = ("listeners", "default")
_RENAMED = {
    (*_GROUP, "backends"): "backend",
    (*_GROUP, "tcp_keepalive"): "backend-tcp-keepalive",
    (*_GROUP, "tcp_user_timeout"): "backend-tcp-user-timeout",
    (*_LISTENER, "queue_timeout"): "wait",
    ("name_servers",): "name-server",
}
_PLACES: tuple[tuple[type[Any], Path, str], ...] = (
    (GroupSettings, _GROUP, ""),
    (BackendTLS, (*_GROUP, "tls"), "backend-tls-"),
    (HealthCheck, (*_GROUP, "check"), "check-"),
    (ListenerConfig, _LISTENER, ""),
    (ListenerSettings, _LISTENER, ""),
    (ListenerTLS, (*_LISTENER, "tls"), "tls-"),
    (AdminSettings, ("admin",), "admin-"),
    (Config, (), ""),
)
_NOT_FLAGS = ("groups", "listeners", "admin", "group", "settings")


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag of the command line.

    @ivar name: its name without the dashes in front.
    @ivar path: the path of the key in a file.
    @ivar hint: the type of the value that the key has.
    @ivar about: what it does, with the default.
    """

    name: str
    path: Path
    hint: Any
    about: str


def _flags() -> Iterator[Flag]:
    for cls, path, prefix in _PLACES:
        hints, about = get_type_hints(cls), _about(cls)
        for each in fields(cls):
            hint = hints[each.name]
            if each.name in _NOT_FLAGS or class_of(hint) is not None:
                continue
            here = (*path, each.name)
            name = _RENAMED.get(here, prefix + each.name.replace("_", "-"))
            yield Flag(name, here, hint, about[each.name] + _default(each))


def _about(cls: type[Any]) -> dict[str, str]:
    """What each field is, from the docstring of the class."""
    found = {}
    for each in re.split(r"^@ivar (?=\w+:)", inspect.getdoc(cls) or "", flags=re.M)[1:]:
        name, _, text = each.partition(":")
        text = re.sub(r"[CL]\{([^{}]*)\}", r"\1", " ".join(text.split()))
        text = text.replace("None:", f"{NONE}:").replace("False:", "no:")
        found[name] = text[:1].upper() + text[1:]
    return found


def _default(field: Any) -> str:
    default = field.default
    if default is MISSING or default in (None, (), "", b""):
        return ""
    shown = f"{default:g}" if isinstance(default, float) else str(default)
    return f" [default: {shown.lower() if isinstance(default, bool) else shown}]"


FLAGS: Mapping[str, Flag] = {each.name: each for each in _flags()}
"""Every flag by its name."""


def config_from_flags(given: Sequence[tuple[str, str]], check: Check = no_check) -> Config:
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
    config = whole(tables, check, mistakes)
    if config is None:
        raise ConfigError(_told(each) for each in mistakes)
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


def _told(mistake: Mistake) -> str:
    names = {each.path: name for name, each in FLAGS.items()}
    path = (*mistake.path, re.split("[ :]", mistake.why, maxsplit=1)[0])  # often it has the key
    while path and path not in names:
        path = path[:-1]
    if not path:
        return mistake.why
    return told_at(f"--{names[path]}", path[-1], mistake.why)

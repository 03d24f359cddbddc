"""C{Flag}: a flag of the command line, and the key of a file that it stands for.

A flag is its key with dashes, unless another key has that name. Keys of C{tls} and C{check} have a
prefix.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, get_type_hints

from kolus.checking import HealthCheck
from kolus.config.hints import NONE, class_of
from kolus.config.mistakes import Path
from kolus.config.settings import AdminSettings, Config, GroupSettings, ListenerConfig
from kolus.tls import BackendTLS, ListenerTLS
from kolus.tunnel import ListenerSettings

__all__ = ["FLAGS", "Flag", "flag_at"]

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


_BY_PATH: Mapping[Path, Flag] = {each.path: each for each in FLAGS.values()}


def flag_at(path: Path) -> Flag | None:
    """The flag of a key, or of the list that an entry is in.

    @param path: where the key is in a file, whatever the names of groups and listeners are there.
    """
    if len(path) > 1 and path[0] in ("groups", "listeners"):
        path = (path[0], "default", *path[2:])
    while path and path not in _BY_PATH:
        path = path[:-1]
    return _BY_PATH.get(path)

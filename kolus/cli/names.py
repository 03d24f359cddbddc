"""C{find_backend}: the group and the backend that a name on the command line means."""

from __future__ import annotations

from typing import Any

from kolus.cli.client import Failed
from kolus.cli.hint import hint

__all__ = ["find_backend", "only_group"]


def find_backend(status: dict[str, Any], name: str, group: str | None) -> tuple[str, str]:
    """
    @param status: the status of the daemon.
    @param name: the name of the backend, or its endpoint string.
    @param group: the name of its group, if that was given.
    @return: the names of the group and of the backend.
    @raise Failed: there is none, or several groups have one.
    """
    groups = {each["name"]: each for each in status["groups"]}
    if group is not None and group not in groups:
        raise Failed(f"no group {group!r}; {hint(group, groups)}")
    found, known = [], []
    for each in groups.values():
        if group in (None, each["name"]):
            for backend in each["backends"]:
                known.append(backend["name"])
                if name in (backend["name"], backend["endpoint"]):
                    found.append((each["name"], backend["name"]))
    if not found:
        raise Failed(f"no backend {name!r}; {hint(name, known)}")
    if len(found) > 1:
        names = ", ".join([each for each, _ in found])
        raise Failed(f"several groups have a backend {name!r}: choose one of {names} with --group")
    return found[0]


def only_group(status: dict[str, Any]) -> str:
    """The name of the group if there is one only.

    @raise Failed: there are several.
    """
    names = [each["name"] for each in status["groups"]]
    if len(names) != 1:
        raise Failed(f"say which group: --group, one of {', '.join(names)}")
    return str(names[0])

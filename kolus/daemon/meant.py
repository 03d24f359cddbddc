"""C{what_was_meant}: what is said of an option that there is not, with the nearest one there is."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from kolus.config import FLAGS
from kolus.support import nearest

__all__ = ["what_was_meant"]

_OTHERS = ("check-config", "config", "demo", "help", "version")
_HELP = "see twistd kolus --help"


def what_was_meant(message: str, parent: Any = None) -> str:
    """Put what getopt says of an option into plain words.

    @param message: any message about the command line; one that is not getopt's stays as it is.
    @param parent: the options of the program itself, which stand before C{kolus}.
    """
    found = re.fullmatch(r"option (--?)(\S+) (\w+ .*|not recognized)", message)
    if found is None:
        return message
    option, name, what = found[1] + found[2], found[2], found[3]
    if what == "requires argument":
        return f"{option} needs a value: {_HELP}"
    if what == "must not have an argument":
        return f"{option} takes no value: leave out what follows the ="
    if _is_of(parent, name):
        return f"{option} is no option of kolus: write it before the word kolus"
    if what == "not a unique prefix":
        return f"unknown option {option}: expected one of {', '.join(_beginning_with(name))}"
    if found[1] == "-":
        return f"unknown option {option}: options have long names, such as --config; {_HELP}"
    near = _near(name.replace("_", "-"))
    hint = f"did you mean {' or '.join(near)}?" if near else _HELP
    return f"unknown option {option}: {hint}"


def _beginning_with(name: str) -> list[str]:
    return sorted([f"--{each}" for each in (*FLAGS, *_OTHERS) if each.startswith(name)])


def _near(name: str) -> list[str]:
    """The options with the nearest name; a flag is found by the name of its key, too."""
    known = defaultdict(list)
    for each in FLAGS.values():
        known[str(each.path[-1]).replace("_", "-")].append(f"--{each.name}")
    known.update({each: [f"--{each}"] for each in (*FLAGS, *_OTHERS)})
    near = nearest(name, known)
    return [] if near is None else known[near]


def _is_of(options: Any, name: str) -> bool:
    """Whether other options have one of this name."""
    longs = [each.rstrip("=") for each in getattr(options, "longOpt", ())]
    return name in longs or (len(name) == 1 and name in getattr(options, "shortOpt", ""))

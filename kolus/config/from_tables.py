"""Makes a C{Config} from nested tables: of a TOML file, or those that flags are turned into."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from kolus.checking import HealthCheck
from kolus.config.flag import FLAGS, flag_at
from kolus.config.hints import is_list
from kolus.config.mistakes import Mistake, Mistakes, Path
from kolus.config.settings import AdminSettings, Config, GroupSettings, ListenerConfig
from kolus.config.table import read_table
from kolus.errors import shown
from kolus.support import Work, did_you_mean, nearest
from kolus.tls import BackendTLS, ListenerTLS
from kolus.tunnel import ListenerSettings

__all__ = ["Check", "config_from_tables", "is_joined", "no_check"]

_HOMES: Mapping[str, tuple[type[Any], ...]] = {
    "before the first table": (Config,),
    "in [groups.NAME]": (GroupSettings,),
    "in [groups.NAME.check]": (HealthCheck,),
    "in [groups.NAME.tls]": (BackendTLS,),
    "in [listeners.NAME]": (ListenerConfig, ListenerSettings),
    "in [listeners.NAME.tls]": (ListenerTLS,),
    "in [admin]": (AdminSettings,),
}

_KEYS = {each.name for classes in _HOMES.values() for its in classes for each in fields(its)}

Check = Callable[[Config], Iterable[Mistake | None]]
"""Finds mistakes that the values alone do not show. C{None}: one piece more is looked at."""


def config_from_tables(
    tables: Mapping[str, Any], check: Check, mistakes: Mistakes
) -> Work[Config | None]:
    """Make the configuration.

    @param check: finds mistakes in it that its values alone do not show. What they show to be wrong
        is left out of what it looks at, so that all mistakes are found at once.
    @param mistakes: every mistake is added to it.
    @return: C{None} if there is a mistake, also one that was there before.
    """
    named, groups = _named(tables, "groups", mistakes), {}
    for name, table in named.items():
        groups[name] = yield from _group(name, table, mistakes)
    listeners = {}
    for name, table in _named(tables, "listeners", mistakes).items():
        listeners[name] = yield from _listener(name, table, named, mistakes)
    admin, steered = tables.get("admin"), None
    if admin is not None:
        steered = yield from read_table(AdminSettings, admin, ("admin",), mistakes)
    rest = {**tables, "groups": {}, "listeners": {}}
    single = yield from read_table(Config, rest, (), mistakes, ("admin",))
    mistakes[:] = map(_with_home, mistakes)
    if single is None:
        return None
    parts: Any = {"groups": _made(groups), "listeners": _made(listeners), "admin": steered}
    config = replace(single, **parts)
    for mistake in check(config):
        yield
        if mistake is not None:
            mistakes.append(mistake)
    return None if mistakes else config


def _made(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: each for name, each in settings.items() if each is not None}


def _group(name: str, table: Any, mistakes: Mistakes) -> Work[GroupSettings | None]:
    before = len(mistakes)
    group = yield from read_table(GroupSettings, table, ("groups", name), mistakes)
    if group is None or group.backends or group.source is not None:
        return group
    told = {each.path[2] for each in mistakes[before:] if len(each.path) > 2}
    if not told & {"backends", "source"}:
        why = "no backends and no source: say where to connect to, for example "
        mistakes.append(Mistake(("groups", name), f'{why}backends = ["tcp:127.0.0.1:6379"]'))
    return group


def _with_home(mistake: Mistake) -> Mistake:
    """The same; of a key that stands in a wrong table, has the name of its flag, or is nearly a key
    of another table, it says which is the right one."""
    if not mistake.why.startswith("unknown key: "):
        return mistake
    key = str(mistake.path[-1])
    flag, near_here = FLAGS.get(key.replace("_", "-")), mistake.why.partition("did you mean ")[2]
    near = nearest(key, _KEYS)
    if key in _KEYS:
        hint = f"; or did you mean {near_here}" if near_here else ""
        why = f"unknown key here: it belongs {_homes(key)}{hint}"
    elif flag is not None:
        why = f"unknown key: in a file --{flag.name} is {flag.path[-1]!r} {_home_of(flag.path)}"
    elif near is not None and near_here != f"{near!r}?":
        why = f"unknown key: did you mean {near!r}? It belongs {_homes(near)}"
    else:
        return mistake
    return Mistake(mistake.path, why)


def _homes(key: str) -> str:
    return " or ".join([home for home, classes in _HOMES.items() if _has(classes, (key,))])


def _home_of(path: Path) -> str:
    table = ".".join("NAME" if each == "default" else str(each) for each in path[:-1])
    return f"in [{table}]" if table else "before the first table"


def is_joined(tables: Mapping[str, Any], path: Path) -> bool:
    """Whether a text with a comma is where a list may be."""
    flag = flag_at(path)
    value: Any = tables
    for each in path:
        try:
            value = value[each]
        except (KeyError, IndexError, TypeError):
            break
    texts = value if isinstance(value, list) else [value]
    commas = any(isinstance(each, str) and "," in each for each in texts)
    return flag is not None and is_list(flag.hint) and commas


def _has(classes: tuple[type[Any], ...], keys: Path) -> bool:
    return any(each.name in keys for its in classes for each in fields(its))


def no_check(config: Config) -> Iterable[Mistake]:
    """A check that finds nothing."""
    return ()


def _named(tables: Mapping[str, Any], key: str, mistakes: Mistakes) -> Mapping[str, Any]:
    found = tables.get(key)
    if not isinstance(found, Mapping) or not found:
        one = key.removesuffix("s")
        mistakes.append(Mistake((key,), f"must have a table for each {one}, such as [{key}.main]"))
        return {}
    for name in found:
        if not name or not name.isprintable():
            mistakes.append(
                Mistake((key, name), f"not a name: {name!r}; expected for example main")
            )
    return found


def _listener(
    name: str, table: Any, groups: Mapping[str, object], mistakes: Mistakes
) -> Work[ListenerConfig | None]:
    path = ("listeners", name)
    if not isinstance(table, Mapping):
        mistakes.append(Mistake(path, f"must be a table, not {shown(table)}"))
        return None
    settings = yield from read_table(ListenerSettings, table, path, mistakes, ("listen", "group"))
    group, listen = table.get("group"), table.get("listen")
    addresses = [listen] if listen and isinstance(listen, str) else listen
    its: Path = (*path, "listen")
    if not addresses or not isinstance(addresses, list):
        addresses, wrong = [], [its]
    else:
        wrong = [(*its, at) for at, each in enumerate(addresses) if not isinstance(each, str)]
    why = 'listen must say where clients connect, such as "tcp:6380:interface=127.0.0.1"'
    mistakes += [Mistake(each, why) for each in wrong]
    if group is None and len(groups) == 1:
        group = next(iter(groups))
    if group is None and groups:
        why = f"group is missing: say which, one of {', '.join(sorted(groups))}"
        mistakes.append(Mistake((*path, "group"), why))
    elif groups and (not isinstance(group, str) or group not in groups):
        why = (
            f"group must be the name of a group, not {group!r}: {did_you_mean(str(group), groups)}"
        )
        mistakes.append(Mistake((*path, "group"), why))
    if settings is None or wrong:
        return None
    return ListenerConfig(listen=tuple(addresses), group=str(group), settings=settings)

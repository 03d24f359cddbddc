"""Makes a C{Config} from nested tables, as a TOML file has them and as flags are turned into."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from kolus.checking import HealthCheck
from kolus.config.mistakes import Mistake, Path, did_you_mean
from kolus.config.settings import AdminSettings, Config, GroupSettings, ListenerConfig
from kolus.config.table import Mistakes, read_table
from kolus.support import hide_secrets
from kolus.tls import BackendTLS, ListenerTLS
from kolus.tunnel import ListenerSettings

__all__ = ["Check", "no_check", "whole"]

_HOMES: Mapping[str, tuple[type[Any], ...]] = {
    "before the first table": (Config,),
    "in [groups.NAME]": (GroupSettings,),
    "in [groups.NAME.check]": (HealthCheck,),
    "in [groups.NAME.tls]": (BackendTLS,),
    "in [listeners.NAME]": (ListenerConfig, ListenerSettings),
    "in [listeners.NAME.tls]": (ListenerTLS,),
    "in [admin]": (AdminSettings,),
}

Check = Callable[[Config], Iterable[Mistake]]


def whole(tables: Mapping[str, Any], check: Check, mistakes: Mistakes) -> Config | None:
    """Make the configuration.

    @param check: finds mistakes in it that its values alone do not show. It is called if they show
        none.
    @param mistakes: every mistake is added to it.
    @return: C{None} if there is a mistake, also one that was there before.
    """
    groups = {
        name: read_table(GroupSettings, table, ("groups", name), mistakes)
        for name, table in _named(tables, "groups", mistakes).items()
    }
    for name, group in groups.items():
        if group is not None and not group.backends and group.source is None:
            why = "no backends and no source: say where to connect to, for example "
            mistakes.append(Mistake(("groups", name), f'{why}backends = ["tcp:127.0.0.1:6379"]'))
    listeners = {
        name: _listener(name, table, groups, mistakes)
        for name, table in _named(tables, "listeners", mistakes).items()
    }
    admin = tables.get("admin")
    steered = None if admin is None else read_table(AdminSettings, admin, ("admin",), mistakes)
    single = read_table(Config, {**tables, "groups": {}, "listeners": {}}, (), mistakes, ("admin",))
    mistakes[:] = map(_with_home, mistakes)
    if single is None or mistakes:
        return None
    parts: Any = {"groups": groups, "listeners": listeners, "admin": steered}
    config = replace(single, **parts)
    mistakes.extend(check(config))
    return None if mistakes else config


def _with_home(mistake: Mistake) -> Mistake:
    """The same; of a key that stands in a wrong table it says which is the right one."""
    homes = [home for home, classes in _HOMES.items() if _has(classes, mistake.path[-1:])]
    if not (homes and mistake.why.startswith("unknown key: ")):
        return mistake
    near = mistake.why.partition("did you mean ")[2]
    hint = f"; or did you mean {near}" if near else ""
    return Mistake(mistake.path, f"unknown key here: it belongs {' or '.join(homes)}{hint}")


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
) -> ListenerConfig | None:
    path = ("listeners", name)
    if not isinstance(table, Mapping):
        mistakes.append(Mistake(path, f"must be a table, not {hide_secrets(repr(table))}"))
        return None
    settings = read_table(ListenerSettings, table, path, mistakes, ("listen", "group"))
    listen, group = table.get("listen"), table.get("group")
    listen = [listen] if isinstance(listen, str) else listen
    if not listen or not isinstance(listen, list) or not all(type(each) is str for each in listen):
        why = 'listen must say where clients connect, such as "tcp:6380:interface=127.0.0.1"'
        mistakes.append(Mistake((*path, "listen"), why))
        return None
    if group is None and len(groups) == 1:
        group = next(iter(groups))
    if group is None and groups:
        why = f"group is missing: say which, one of {', '.join(sorted(groups))}"
        mistakes.append(Mistake((*path, "group"), why))
        return None
    if groups and (not isinstance(group, str) or group not in groups):
        why = (
            f"group must be the name of a group, not {group!r}: {did_you_mean(str(group), groups)}"
        )
        mistakes.append(Mistake((*path, "group"), why))
        return None
    if settings is None or not isinstance(group, str):
        return None
    return ListenerConfig(listen=tuple(listen), group=group, settings=settings)

"""Writes the tables of the reference from the docstrings: python docs/tables.py [--check]

A page has a pair of comments for each table, such as C{<!-- policy -->} and C{<!-- /policy -->};
what is between them is replaced. With C{--check} nothing is written, and the status is 1 if a page
is out of date.
"""

from __future__ import annotations

import inspect
import re
import sys
import typing
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock

from kolus import errors, events, metrics
from kolus.admin import AdminService
from kolus.checking import HealthCheck
from kolus.config import FLAGS, AdminSettings, GroupSettings
from kolus.policy import Policy
from kolus.tls import BackendTLS, ListenerTLS
from kolus.tunnel import ListenerSettings

FOLDER = Path(__file__).parent / "reference"
PAGES = ("policy", "events", "metrics", "errors", "listener", "admin")


def plain(text: str) -> str:
    """Epytext as a cell of a table in Markdown."""
    text = re.sub(r"[CL]\{([^{}]*)\}", r"`\1`", " ".join(text.split()))
    return text.replace("|", r"\|")


def described(cls: type[Any]) -> tuple[str, dict[str, str]]:
    """The text of a class's docstring, and that of each of its attributes."""
    text, *attributes = re.split(r"^@[ic]var (?=\w+:)", inspect.getdoc(cls) or "", flags=re.M)
    found = {}
    for each in attributes:
        name, _, about = re.split(r"^@raise", each, flags=re.M)[0].partition(":")
        found[name] = plain(about)
    return plain(text.partition("\n\n")[0]), found


def unit(name: str, annotation: str) -> str:
    """What the value of a setting is."""
    if name.endswith("_jitter"):
        return "share, from 0 to below 1"
    for kind, what in (("bool", "yes or no"), ("float", "seconds"), ("int", "number")):
        if re.search(rf"\b{kind}\b", annotation) and "Callable" not in annotation:
            return what
    if annotation.startswith("Literal"):
        return "word"
    return "callable" if re.search(r"Hook|Callable|Balancer", annotation) else annotation


def policy() -> Iterator[str]:
    yield "| setting | `Policy()` | `Policy.erlang()` | unit | meaning |"
    yield "| --- | --- | --- | --- | --- |"
    _, about = described(Policy)
    for each in fields(Policy):
        defaults = [_shown(getattr(made, each.name)) for made in (Policy(), Policy.erlang())]
        what = unit(each.name, str(each.type)).removesuffix(" | None")
        cells = (f"`{each.name}`", *defaults, what, about[each.name])
        yield f"| {' | '.join(cells)} |"


def settings(cls: type[Any]) -> typing.Callable[[], Iterator[str]]:
    """The rows of the settings that an operator writes."""

    def rows() -> Iterator[str]:
        yield "| key | default | meaning |\n| --- | --- | --- |"
        _, about = described(cls)
        for each in fields(cls):
            default = "required" if each.default is MISSING else _default(each.default)
            text = re.sub(r"`?\bNone\b`?:", "none:", about[each.name])
            yield f"| `{each.name}` | {default} | {text.replace('`False`:', 'false:')} |"

    return rows


def _default(value: Any) -> str:
    if value is None or value == () or value == b"":
        return "none"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else _shown(value)


def _shown(value: Any) -> str:
    if inspect.isfunction(value):
        return f"`{value.__name__}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{value!r}`"


def event() -> Iterator[str]:
    yield "| event | when | what it tells |\n| --- | --- | --- |"
    for each in sorted(_classes(events, events.Event), key=lambda cls: cls.__name__):
        text, about = described(each)
        if issubclass(each, events.Settled):
            about = described(events.Settled)[1] | about
        told = "<br>".join(f"`{name}`: {what}" for name, what in about.items())
        yield f"| `{each.__name__}` | {text} | {told} |"


def why() -> Iterator[str]:
    yield "| `Why` | in metrics | meaning |\n| --- | --- | --- |"
    _, about = described(events.Why)
    for each in events.Why:
        yield f"| `{each.name}` | `{each.value}` | {about[each.name]} |"


def metric() -> Iterator[str]:
    yield "| count | meaning |\n| --- | --- |"
    counts = metrics.Counts
    for name, what in described(counts)[1].items():
        yield f"| `{name}` | {what} |"
    for name, its in vars(counts).items():
        if isinstance(its, property):
            yield f"| `{name}` | {plain(inspect.getdoc(its) or '')} |"


def error() -> Iterator[str]:
    yield "| error | is a | meaning | attributes |\n| --- | --- | --- | --- |"
    for each in _classes(errors, errors.KolusError):
        text, about = described(each)
        told = "<br>".join(f"`{name}`: {what}" for name, what in about.items())
        bases = ", ".join(f"`{_name(base)}`" for base in each.__bases__)
        yield f"| `{each.__name__}` | {bases} | {text} | {told} |"


def _name(cls: type[Any]) -> str:
    is_known = cls.__module__ in ("builtins", errors.__name__)
    return cls.__name__ if is_known else f"{cls.__module__}.{cls.__name__}"


def _classes(module: Any, base: type[Any]) -> list[type[Any]]:
    return [
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, base) and each is not base
    ]


def flags() -> Iterator[str]:
    yield "| option | key in the file |"
    yield "| --- | --- |"
    for name, flag in FLAGS.items():
        where = ".".join(str(each).replace("default", "NAME") for each in flag.path)
        yield f"| `--{name}` | `{where}` |"


def _admin() -> AdminService:
    """An admin server of a daemon without groups and listeners."""
    nothing: Any = SimpleNamespace(groups={}, listeners={}, certificates=[])
    place: Any = object()
    return AdminService(Clock(), nothing, AdminSettings(listen=("unix:x",)), lambda text: place)


def calls() -> Iterator[str]:
    yield "| call | body | what it does |\n| --- | --- | --- |"
    for route in _admin().routes.all:
        body = ", ".join([f"`{each}`" for each in route.takes])
        yield f"| `{route.method} {route.path}` | {body} | {route.about} |"


def prometheus() -> Iterator[str]:
    yield "| metric | type | meaning |\n| --- | --- | --- |"
    told = b"".join(_admin().scrape("").pieces).decode()
    for name, what, kind in re.findall(r"# HELP (\w+) (.*)\n# TYPE \w+ (\w+)", told):
        yield f"| `{name}` | {kind} | {what} |"


TABLES: dict[str, typing.Callable[[], Iterator[str]]] = {
    "policy": policy,
    "events": event,
    "why": why,
    "metrics": metric,
    "errors": error,
    "flags": flags,
    "group": settings(GroupSettings),
    "listener": settings(ListenerSettings),
    "listener tls": settings(ListenerTLS),
    "backend tls": settings(BackendTLS),
    "check": settings(HealthCheck),
    "admin": settings(AdminSettings),
    "calls": calls,
    "prometheus": prometheus,
}


def filled(text: str) -> str:
    """A page with its tables as the code has them."""
    for name, rows in TABLES.items():
        mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        table = "\n".join(rows())
        text = mark.sub(lambda found, table=table: f"{found[1]}\n{table}\n\n{found[2]}", text)
    return text


def main(arguments: list[str]) -> int:
    stale = []
    for page in PAGES:
        path = FOLDER / f"{page}.md"
        text = path.read_text(encoding="utf-8")
        if filled(text) != text:
            stale.append(path.name)
            if "--check" not in arguments:
                path.write_text(filled(text), encoding="utf-8")
    print("out of date: " + ", ".join(stale) if stale else "the tables are up to date")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The figures of the clients, and what the page says of them: two tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from importlib.metadata import version
from os import cpu_count
from platform import python_version
from statistics import median
from typing import Any

from tests.bench.core import processor_name

__all__ = [
    "CALLERS",
    "LIMIT",
    "Figures",
    "Row",
    "is_bare",
    "machine",
    "rate_and_cpu",
    "table",
    "verdicts",
]

LIMIT = 10
CALLERS = {"http": (1, 50, 500), "redis": (1, 50, 500), "postgres": (1, 10, 50, 200, 500)}
"""How many callers there are, by kind of server."""

PACKAGES = (
    *("twisted", "txredisapi", "aiohttp", "httpx", "redis", "psycopg", "psycopg_pool"),
    *("asyncpg", "psycopg2-binary"),
)

PEERS = {
    "http": {"HTTPConnectionPool": None, "aiohttp": ("Agent", "aiohttp"), "httpx": None},
    "redis": {"txredisapi": None, "redis.asyncio": ("Twisted", "asyncio")},
    "postgres": {"adbapi": None, "psycopg_pool": ("Twisted", "asyncio"), "asyncpg": None},
}
"""The other pools of each kind of server; and the rows, if there are such, that tell what the
protocols of kolus and of the peer cost without a pool."""

Row = tuple[str, str, int]
"""A kind of server, a client, and the number of callers; 0: 50 of them, and the server is killed
and started again after a third of the time."""

Figures = dict[Row, list[dict[str, Any]]]
"""What each turn of each row told."""


def is_bare(client: str) -> bool:
    """Whether it is no pool, but what pools are made of."""
    return client.startswith("no pool")


def machine(turns: int) -> str:
    """Where and when the figures were taken."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"Measured on {date.today()}: {processor_name()}, {cpu_count()} cores, Python "
        f"{python_version()}, {versions}. {turns} turns. Limit {LIMIT}."
    )


def rate_and_cpu(callers: int, turns: list[dict[str, Any]]) -> tuple[float, float]:
    """Calls per second, and CPU for one: a quarter of the turns were better, since other load only
    makes both worse. The medians if the server was killed: how long it is away differs."""
    rates, costs = (sorted([each[name] for each in turns]) for name in ("rate", "cpu"))
    if not callers:
        return median(rates), median(costs)
    place = len(turns) // 4
    return rates[-1 - place], costs[place]


def table(figures: Figures, clients: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The lines of the table, in Markdown."""
    for kind, counts in CALLERS.items():
        yield f"\n| {kind} | callers | calls/s | CPU us/call | opened | longest ms | failures |"
        yield "| --- | --- | --- | --- | --- | --- | --- |"
        for callers in (*counts, 0):
            for its, client in clients:
                turns = figures.get((kind, client, callers), [])
                if its != kind or not turns:
                    continue
                rate, cpu = rate_and_cpu(callers, turns)
                longest, failures = (
                    median([each[name] for each in turns]) for name in ("longest", "failures")
                )
                each_opened = [each["opened"] for each in turns]
                opened = each_opened[0] if callers else median(each_opened)
                who = str(callers) if callers else "50, server killed"
                yield (
                    f"| {client} | {who} | {rate:.0f} | {cpu:.0f} | {opened:.0f} | "
                    f"{1000 * longest:.0f} | {failures:.0f} |"
                )


def verdicts(figures: Figures) -> Iterator[str]:
    """The lines of the table that compares kolus with each peer, in Markdown.

    What kolus takes more is a difference for each turn: what else the machine did in that turn hit
    both alike.
    """
    yield "\n| kolus beside | callers | calls/s | CPU us/call | protocols alone | the goal |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for kind, peers in PEERS.items():
        for peer, bare in peers.items():
            for callers in CALLERS[kind]:
                ours, theirs = (figures.get((kind, each, callers)) for each in ("kolus", peer))
                if not (ours and theirs):
                    continue
                more = _more_cpu(ours, theirs)
                alone = _protocols_alone(figures, kind, callers, bare)
                allowed = 0 if alone is None else max(0, median(alone))
                yield (
                    f"| {kind}, {peer} | {callers} | {_more_calls(callers, ours, theirs)} | "
                    f"{_told(more)} | {'' if alone is None else _told(alone)} | "
                    f"{_verdict(more, allowed)} |"
                )


def _more_calls(callers: int, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str:
    """How many more calls a second kolus makes."""
    rate, its_rate = (rate_and_cpu(callers, each)[0] for each in (ours, theirs))
    return f"{100 * (rate / its_rate - 1):+.0f} %"


def _more_cpu(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[float]:
    """How much more CPU a call takes, in each turn."""
    return [one["cpu"] - other["cpu"] for one, other in zip(ours, theirs, strict=False)]


def _protocols_alone(
    figures: Figures, kind: str, callers: int, bare: tuple[str, str] | None
) -> list[float] | None:
    """The same of the protocols of kolus and of a peer, without a pool."""
    if bare is None:
        return None
    ours, theirs = (figures.get((kind, f"no pool, {each}", callers)) for each in bare)
    return _more_cpu(ours, theirs) if ours and theirs else None


def _quartiles(numbers: list[float]) -> tuple[float, float, float]:
    """The lower quartile, the median, and the upper quartile."""
    ordered, place = sorted(numbers), len(numbers) // 4
    return ordered[place], median(ordered), ordered[-1 - place]


def _told(numbers: list[float]) -> str:
    low, middle, high = _quartiles(numbers)
    return f"{middle:+.0f} ({low:+.0f} to {high:+.0f})"


def _verdict(more: list[float], allowed: float) -> str:
    """
    @param more: how many microseconds of CPU more a call takes with kolus, in each turn.
    @param allowed: how many more its protocol and reactor take.
    """
    low, middle, _ = _quartiles(more)
    if middle <= 0:
        return "ahead"
    if middle <= allowed:
        return "met: behind by no more than its protocol is"
    if low <= allowed:
        return "even: what is left is within the noise"
    return f"missed by {middle - allowed:.0f} us"

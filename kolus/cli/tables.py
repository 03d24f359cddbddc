"""The tables of C{kolus status} and C{kolus top}, 80 columns wide."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

__all__ = ["WIDTH", "clients_table", "fitting", "status_table"]

WIDTH = 80
_BACKEND = "{:<23.23} {:<8.8} {:>5} {:>5} {:>5} {:>5} {:>5} {:>8} {:>8}"
_LISTENER = "{:<16.16} {:<23.23} {:>7} {:>10} {:>8} {:>11}"
_CLIENT = "{:>8} {:<26.26} {:<8} {:>8} {:>8} {:<17.17}"


def fitting(lines: list[str], columns: int, rows: int) -> list[str]:
    """What a terminal has room for, so that the first lines stay in sight."""
    return [each[:columns] for each in lines[: rows - 1]]


def status_table(status: dict[str, Any], before: dict[str, Any] | None = None) -> Iterator[str]:
    """The lines that show a status.

    @param before: the status some time before; the rates are those since then, or since the start.
    """
    elapsed = status["time"] - (status["started_at"] if before is None else before["time"])
    clients = sum(each["clients"] for each in status["listeners"])
    up = _span(status["time"] - status["started_at"])
    now = time.strftime("%H:%M:%S", time.localtime(status["time"]))
    yield f"kolus  up {up}, {clients} clients".ljust(WIDTH - len(now)) + now
    for group in status["groups"]:
        yield ""
        yield from _group(group, _of(before, "groups", group["name"]), elapsed)
    yield ""
    yield _LISTENER.format("listener", "address", "clients", "served", "refused", "bytes")
    for each in status["listeners"]:
        moved = _bytes(each["sent"] + each["received"])
        address = ", ".join(each["addresses"])
        numbers = each["clients"], each["served"], each["refused"], moved
        yield _LISTENER.format(each["name"], address, *numbers)


def clients_table(clients: list[dict[str, Any]]) -> Iterator[str]:
    """The lines that show the clients of a listener."""
    yield _CLIENT.format("number", "address", "state", "age", "waited", "backend")
    for each in clients:
        times = _span(each["age"]), _span(each["waited"] or 0.0)
        yield _CLIENT.format(
            each["number"], each["address"], each["state"], *times, each["backend"] or ""
        ).rstrip()


def _group(group: dict[str, Any], before: Any, elapsed: float) -> Iterator[str]:
    oldest = group["oldest_wait"]
    waiting = f"{group['waiting']} waiting"
    if oldest is not None:
        waiting += f", the oldest for {_span(oldest)}"
    panic = ", in panic: all may be chosen" if group["panics"] else ""
    yield f"group {group['name']}: {waiting}{panic}"[:WIDTH]
    yield _BACKEND.format(
        *("backend", "state", "idle", "used", "conn", "limit", "wait", "lease/s", "failures")
    )
    for each in group["backends"]:
        earlier = _of(before, "backends", each["name"])
        leases = each["counters"]["leases"] - (earlier["counters"]["leases"] if earlier else 0)
        yield _BACKEND.format(
            each["name"],
            each["state"],
            each["idle"],
            each["leased"],
            each["connecting"],
            each["limit"],
            each["waiting"],
            f"{max(0.0, leases / max(elapsed, 0.001)):.3g}",
            each["counters"]["connect_failures"],
        )


def _of(parent: Any, kind: str, name: str) -> Any:
    if parent is None:
        return None
    return next((each for each in parent[kind] if each["name"] == name), None)


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 100 * 3600 else f"{seconds / 86400:.0f} d"


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.4g} TB"

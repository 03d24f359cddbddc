"""C{Snapshot}: the state of the daemon as plain values, ready for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from kolus.admin.call import Text
from kolus.admin.finder import Finder
from kolus.admin.measures import Measures
from kolus.admin.running import RunningGroup, RunningListener
from kolus.backend import Backend, labelled
from kolus.errors import describe, hide_secrets
from kolus.status import Status
from kolus.support import Histogram, time_of_day
from kolus.watching import ManagerExplanation

__all__ = ["Snapshot"]

_MOST_TEXT = 300
_MOST_WAITERS = 1000
_MOST_CLIENTS = 10_000


class Snapshot:
    """Makes values of what a daemon is doing. What grows with the backends or the clients is an
    iterator, whose entries are true at the time when each is made."""

    def __init__(self, finder: Finder, measures: Measures, run: str, started_at: float) -> None:
        """
        @param run: tells this run of the daemon from others.
        @param started_at: seconds since 1970.
        """
        self._finder = finder
        self._measures = measures
        self._run = run
        self._started_at = started_at

    def everything(self) -> dict[str, Any]:
        """All groups and listeners, without their single waiters and clients."""
        running = self._finder.running
        return {
            "run": self._run,
            "started_at": self._started_at,
            "time": time_of_day(),
            "groups": (self.group(*each) for each in tuple(running.groups.items())),
            "listeners": (self.listener(*each) for each in tuple(running.listeners.items())),
            "certificates": [asdict(each) for each in running.certificates],
        }

    def group(self, name: str, group: RunningGroup) -> dict[str, Any]:
        """A group, its backends and its managers."""
        its = None if group.group is None else group.group.status(())
        return {
            "name": name,
            "started": its is not None,
            "waiting": 0 if its is None else its.waiting,
            "oldest_wait": None if its is None else its.oldest_wait,
            "ejected": 0 if its is None else its.ejected,
            "panics": its is not None and its.panics,
            "panicked": 0 if its is None else its.panicked,
            "limit": group.pool.limit,
            "counters": asdict(group.pool.counters()),
            "backends": (
                self.backend(group, each, label, name)
                for each, label in labelled(self._finder.backends(group))
            ),
            "managers": (_manager(each.status()) for each in group.pool.managers()),
        }

    def backend(
        self, group: RunningGroup, backend: Backend, label: str, group_name: str
    ) -> dict[str, Any]:
        """A backend, with what happened there."""
        (status,) = group.pool.status([backend])
        measured = self._measures.of(group_name)
        durations = measured.durations.of(backend)
        counts = measured.metrics.of(backend)
        return {
            "name": label,
            "endpoint": _endpoint(backend),
            "zone": backend.zone,
            "weight": backend.weight,
            **_numbers(status),
            "ramp": status.ramp,
            "counters": asdict(group.pool.counters(backend)),
            "closes": dict(counts.closes),
            "ejections": counts.ejections,
            "wait": _histogram(durations.wait),
            "connect": _histogram(durations.connect),
            "hold": _histogram(durations.hold),
        }

    def backend_named(self, group_name: str, name: str) -> dict[str, Any]:
        """A backend by its label or endpoint string.

        @raise Problem: there is none of that name.
        """
        group = self._finder.group(group_name)
        return self.backend(group, *self._finder.backend(group, name), group_name)

    def listener(self, name: str, listener: RunningListener) -> dict[str, Any]:
        """A listener, without its single clients."""
        front = listener.front
        return {
            "name": name,
            "addresses": list(listener.addresses),
            "group": listener.group,
            "clients": len(front.clients),
            "served": front.served,
            "refused": front.refused,
            "refusals": dict(front.refusals.counts),
            "timed_out": dict(front.times_out),
            "sent": front.sent,
            "received": front.received,
            "session": _histogram(front.clients.durations),
        }

    def clients(self, listener: RunningListener) -> Iterator[dict[str, Any]]:
        """The clients of a listener, the oldest first."""
        return map(asdict, listener.front.clients.status(_MOST_CLIENTS))

    def explanation(self) -> dict[str, Any]:
        """Why requests wait, of every manager; the text is for an operator."""
        groups = tuple(self._finder.running.groups.items())
        told: dict[str, list[ManagerExplanation]] = {name: [] for name, _ in groups}
        return {
            "managers": (
                _explained(name, _kept(told[name], each))
                for name, group in groups
                for each in group.pool.explanations()
            ),
            "text": Text(_lines(groups, told)),
        }


def _kept(told: list[ManagerExplanation], each: ManagerExplanation) -> ManagerExplanation:
    told.append(each)
    return each


def _lines(
    groups: tuple[tuple[str, RunningGroup], ...], told: dict[str, list[ManagerExplanation]]
) -> Iterator[str]:
    """The lines for an operator, when all managers are explained."""
    between = ""
    for name, group in groups:
        yield f"{between}group {name}"
        for line in group.pool.explain(told[name]).lines():
            yield f"\n{line}"
        between = "\n\n"


def _numbers(status: Status) -> dict[str, Any]:
    return {
        "state": status.state.value,
        "limit": status.limit,
        "idle": status.idle or 0,
        "leased": status.leased,
        "connecting": status.connecting,
        "unused": status.limit if status.unused is None else max(0, status.unused),
        "waiting": status.waiting,
        "detached": status.detached,
    }


def _manager(status: Status) -> dict[str, Any]:
    return {"backend": str(status.backend), "ident": _ident(status.ident), **_numbers(status)}


def _ident(ident: object) -> str:
    return str(ident)[:_MOST_TEXT]


def _endpoint(backend: Backend) -> str | None:
    """Its endpoint string without secrets; C{None} if it is an object."""
    return hide_secrets(backend.endpoint) if isinstance(backend.endpoint, str) else None


def _histogram(histogram: Histogram) -> dict[str, Any]:
    return {
        "count": histogram.count,
        "sum": histogram.sum,
        "bounds": list(histogram.bounds),
        "counts": list(histogram.counts),
    }


def _explained(group: str, told: ManagerExplanation) -> dict[str, Any]:
    error = told.last_error
    return {
        "group": group,
        **_manager(told.status),
        "why": told.why,
        "last_error": None if error is None else describe(error)[:_MOST_TEXT],
        "retry_in": told.retry_in,
        "waiters": [
            {
                "position": each.position,
                "why": each.why,
                "waited": each.waited,
                "deadline_in": each.deadline_in,
            }
            for each in told.waiters[:_MOST_WAITERS]
        ],
        "leases": [
            {"doing": each.doing, "held": each.held, "uses": each.uses}
            for each in told.leases[:_MOST_WAITERS]
        ],
    }

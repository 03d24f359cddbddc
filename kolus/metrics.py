"""C{Metrics}: an observer that adds up what it is told, per backend and overall.

Its state is one C{Counts} per backend that it was told of, changed by its events alone; what is
overall is the sum of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from kolus.backend import AnyBackend, Backend
from kolus.events import (
    Admitted,
    Connected,
    ConnectFailure,
    Ejected,
    Event,
    Finished,
    Forgotten,
    Leased,
    Lost,
    Overdue,
    Paused,
    ProbeDue,
    Rejection,
    Released,
    Resized,
    Resumed,
    Retired,
    TimedOut,
)

__all__ = ["Counts", "Metrics"]


@dataclass(slots=True)
class Counts:
    """What has happened at one backend, or at several together."""

    connects: int = 0
    """Connections that were made and prepared."""
    connect_failures: int = 0
    """Attempts without a usable connection."""
    closes: Counter[str] = field(default_factory=Counter)
    """Connections that have ended, by the value of their C{Why}, or C{"lost"}."""
    leases: int = 0
    """Leases given."""
    waits: int = 0
    """Leases whose request was in the queue."""
    waited: float = 0.0
    """Seconds that these requests waited, in sum."""
    longest_wait: float = 0.0
    """Seconds that the one waited that waited longest."""
    releases: int = 0
    """Leases settled with C{release()}."""
    finishes: int = 0
    """Leases settled with C{finished()}."""
    forgotten: int = 0
    """Leases reclaimed because nobody referred to them any more."""
    overdue: int = 0
    """Leases that may have leaked, settled since or not."""
    held_for: float = 0.0
    """Seconds for which leases that are over were held, in sum."""
    longest_held: float = 0.0
    """Seconds of the one that was held longest."""
    timeouts: int = 0
    """Requests that waited in vain."""
    rejections: Counter[str] = field(default_factory=Counter)
    """Requests that were refused at once, by the class of the error."""
    pauses: int = 0
    resumes: int = 0
    resizes: int = 0
    ejections: int = 0
    probes: int = 0
    """How often an ejected backend became due to be probed."""
    admissions: int = 0
    others: Counter[str] = field(default_factory=Counter)
    """Events of classes that this module does not know, by class: whoever tells of something new
    sees that it arrives."""

    @property
    def open(self) -> int:
        """Connections that are ready or leased now: what was connected and has not ended."""
        return self.connects - self.closes.total()

    @property
    def held(self) -> int:
        """Leases that are out now: what was given and has not been settled."""
        return self.leases - self.releases - self.finishes - self.forgotten

    def add(self, other: Counts) -> None:
        """Count what C{other} has counted, too."""
        for each in fields(self):
            mine, others = getattr(self, each.name), getattr(other, each.name)
            is_most = each.name.startswith("longest")
            setattr(self, each.name, max(mine, others) if is_most else mine + others)

    def snapshot(self) -> dict[str, Any]:
        """Everything in plain numbers, C{open} and C{held} among them, and dicts of such."""
        plain: dict[str, Any] = {"open": self.open, "held": self.held}
        for each in fields(self):
            value = getattr(self, each.name)
            plain[each.name] = dict(value) if isinstance(value, Counter) else value
        return plain


class Metrics:
    """Counts every event that it is called with: C{Pool(..., observers=[metrics])}."""

    def __init__(self) -> None:
        self._backends: dict[Backend, Counts] = {}

    def __call__(self, event: Event) -> None:
        counts = self._backends.get(event.backend)
        if counts is None:
            counts = self._backends[event.backend] = Counts()
        _COUNT.get(type(event), _count_other)(counts, event)

    def of(self, backend: AnyBackend) -> Counts:
        """What has happened at one backend so far.

        @return: a copy; all zero if nothing has.
        """
        counts = self._backends.get(Backend.of(backend))
        return _sum([] if counts is None else [counts])

    def total(self) -> Counts:
        """What has happened at all backends together so far."""
        return _sum(self._backends.values())

    def snapshot(self) -> dict[str, Any]:
        """Everything in plain numbers, strings, lists and dicts, ready for JSON.

        @return: C{"total"} is the snapshot of the total; C{"backends"} a list of the backends'
            snapshots, each with C{"backend"}, its name, which need not be unique.
        """
        backends = [
            {"backend": str(backend)} | counts.snapshot()
            for backend, counts in self._backends.items()
        ]
        return {"total": self.total().snapshot(), "backends": backends}


def _sum(them: Iterable[Counts]) -> Counts:
    total = Counts()
    for each in them:
        total.add(each)
    return total


def _one_more(name: str) -> Callable[[Counts, Any], None]:
    def count(counts: Counts, event: Event) -> None:
        setattr(counts, name, getattr(counts, name) + 1)

    return count


def _one_settled(name: str) -> Callable[[Counts, Any], None]:
    count = _one_more(name)

    def count_settled(counts: Counts, event: Released | Finished | Forgotten) -> None:
        count(counts, event)
        counts.held_for += event.held
        counts.longest_held = max(counts.longest_held, event.held)

    return count_settled


def _count_lease(counts: Counts, event: Leased) -> None:
    counts.leases += 1
    if event.waited:
        counts.waits += 1
        counts.waited += event.waited
        counts.longest_wait = max(counts.longest_wait, event.waited)


def _count_rejection(counts: Counts, event: Rejection) -> None:
    counts.rejections[type(event.reason).__name__] += 1


def _count_loss(counts: Counts, event: Lost) -> None:
    counts.closes["lost"] += 1


def _count_retired(counts: Counts, event: Retired) -> None:
    counts.closes[event.why.value] += 1


def _count_other(counts: Counts, event: Event) -> None:
    counts.others[type(event).__name__] += 1


_COUNT: dict[type[Event], Callable[[Counts, Any], None]] = {
    Admitted: _one_more("admissions"),
    Connected: _one_more("connects"),
    ConnectFailure: _one_more("connect_failures"),
    Ejected: _one_more("ejections"),
    Finished: _one_settled("finishes"),
    Forgotten: _one_settled("forgotten"),
    Leased: _count_lease,
    Lost: _count_loss,
    Overdue: _one_more("overdue"),
    Paused: _one_more("pauses"),
    ProbeDue: _one_more("probes"),
    Rejection: _count_rejection,
    Released: _one_settled("releases"),
    Resized: _one_more("resizes"),
    Resumed: _one_more("resumes"),
    Retired: _count_retired,
    TimedOut: _one_more("timeouts"),
}

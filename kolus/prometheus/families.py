"""The families of metrics of pools: names, help texts, and where each value comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric

from kolus.backend import Backend, labelled
from kolus.durations import BackendDurations, Durations
from kolus.metrics import Counts, Metrics
from kolus.status import Counters, State, Status
from kolus.support import Histogram

__all__ = ["Family", "Observed", "histogram_family", "pool_families", "whole"]

_AT = ("pool", "backend")
_STATES = ("idle", "leased", "connecting", "unused", "detached")

_GAUGES = {
    "kolus_waiting_requests": ("Requests in the queue.", "status.waiting"),
    "kolus_connection_limit": ("Most connections at a time.", "status.limit"),
    "kolus_backend_weight": ("The weight that counts now, with slow start.", "weight"),
}
"""The gauges, and below the other families: the help text, and which attribute of a row it is."""

_COUNTERS = {
    "kolus_leases": ("Leases given.", "counters.leases"),
    "kolus_releases": ("Leases settled by release.", "counters.releases"),
    "kolus_finishes": ("Leases settled by finished.", "counters.finishes"),
    "kolus_forgotten_leases": (
        "Leases that nobody settled, reclaimed as garbage.",
        "counters.forgotten",
    ),
    "kolus_revoked_leases": (
        "Leases that were held for longer than hold_limit.",
        "counters.revoked",
    ),
    "kolus_overdue_leases": (
        "Leases that were held for longer than leak_after.",
        "counters.overdue",
    ),
    "kolus_timeouts": ("Requests that were not served before their deadline.", "counters.timeouts"),
    "kolus_cancels": ("Requests that were cancelled in the queue.", "counters.cancels"),
    "kolus_connects": ("Connections made and prepared.", "counters.connects"),
    "kolus_connect_failures": (
        "Attempts to connect that gave no usable connection.",
        "counters.connect_failures",
    ),
    "kolus_waits": ("Leases whose request was in the queue.", "counts.waits"),
    "kolus_ejections": ("How often the backend was ejected.", "counts.ejections"),
    "kolus_admissions": ("How often it was admitted again.", "counts.admissions"),
    "kolus_recoveries": (
        "Connects that succeeded after one that had failed.",
        "counts.recoveries",
    ),
}

_REASONS = {
    "kolus_closes": ("Connections that have ended, by reason.", "counts.closes"),
    "kolus_rejections": ("Requests that were refused at once, by error.", "counts.rejections"),
}

_HISTOGRAMS = {
    "kolus_wait_seconds": ("From the request to the lease.", "durations.wait"),
    "kolus_hold_seconds": ("From the lease to its end.", "durations.hold"),
    "kolus_connect_seconds": (
        "How long connects took that succeeded, with prepare.",
        "durations.connect",
    ),
}


@dataclass(frozen=True, slots=True)
class Observed:
    """A pool and what observes it.

    @ivar name: the value of the label C{pool}.
    @ivar pool: the C{Pool}.
    @ivar backends: those to tell of; C{None}: those that have managers.
    """

    name: str
    pool: Any
    metrics: Metrics
    durations: Durations
    backends: tuple[Backend, ...] | None = None

    def rows(self) -> Iterator[_Row]:
        """The values of each backend, taken one by one."""
        backends = self.backends
        if backends is None:
            backends = tuple(dict.fromkeys(each.backend for each in self.pool.status()))
        for backend, label in labelled(backends):
            yield _Row(
                at=(self.name, label),
                status=self.pool.status([backend])[0],
                counters=self.pool.counters(backend),
                counts=self.metrics.of(backend),
                durations=self.durations.of(backend),
            )


@dataclass(frozen=True, slots=True)
class _Row:
    """A backend: the values of the labels, and what is known of it."""

    at: tuple[str, str]
    status: Status
    counters: Counters
    counts: Counts
    durations: BackendDurations

    @property
    def weight(self) -> float:
        """The weight that counts now."""
        return self.status.backend.weight * self.status.ramp

    def connections(self, state: str) -> int:
        """The number of connections in a state; those unused are no fewer than 0."""
        status = self.status
        if state == "unused":
            return status.limit if status.unused is None else max(0, status.unused)
        return getattr(status, state) or 0


@dataclass(frozen=True, slots=True)
class Family:
    """A family of metrics whose values are added one by one.

    @ivar metric: the family, without values.
    @ivar adding: adds the values of one more backend, or whatever it tells of, at each step.
    """

    metric: Metric
    adding: Iterator[object] = field(default_factory=lambda: iter(()))


def whole(families: Iterable[Family]) -> Iterator[Metric]:
    """The families with all their values."""
    for family in families:
        for _ in family.adding:
            pass
        yield family.metric


def pool_families(pools: Iterable[Observed]) -> Iterator[Family]:
    """All families, with the values of all pools. Nothing is counted but here. Statuses and
    counters are those at the time when the first family is added to."""
    seen: list[_Row] = []
    yield _connections(_noted((row for its in pools for row in its.rows()), seen))
    yield _states(seen)
    for name, (text, value) in _GAUGES.items():
        gauge = GaugeMetricFamily(name, text, labels=_AT)
        yield Family(gauge, _one_each(gauge, seen, attrgetter(value)))
    for name, (text, value) in _COUNTERS.items():
        counter = CounterMetricFamily(name, text, labels=_AT)
        yield Family(counter, _one_each(counter, seen, attrgetter(value)))
    for name, (text, value) in _REASONS.items():
        counter = CounterMetricFamily(name, text, labels=(*_AT, "reason"))
        yield Family(counter, _by_reason(counter, seen, attrgetter(value)))
    for name, (text, value) in _HISTOGRAMS.items():
        yield histogram_family(name, text, _AT, _histograms(seen, attrgetter(value)))


def histogram_family(
    name: str,
    text: str,
    names: tuple[str, ...],
    histograms: Iterable[tuple[tuple[str, ...], Histogram]],
) -> Family:
    """A family of histograms, each with the values of its labels."""
    family = HistogramMetricFamily(name, text, labels=names)

    def adding() -> Iterator[None]:
        for values, each in histograms:
            family.add_metric(values, each.cumulative(), each.sum)
            yield

    return Family(family, adding())


def _noted(rows: Iterable[_Row], seen: list[_Row]) -> Iterator[_Row]:
    for row in rows:
        seen.append(row)
        yield row


def _connections(rows: Iterable[_Row]) -> Family:
    text = "Connections by state; unused: how many more the limits allow."
    family = GaugeMetricFamily("kolus_connections", text, labels=(*_AT, "state"))

    def adding() -> Iterator[None]:
        for row in rows:
            for state in _STATES:
                family.add_metric((*row.at, state), row.connections(state))
            yield

    return Family(family, adding())


def _states(rows: Iterable[_Row]) -> Family:
    text = "1 for the state that the backend is in, 0 for the others."
    family = GaugeMetricFamily("kolus_backend_state", text, labels=(*_AT, "state"))

    def adding() -> Iterator[None]:
        for row in rows:
            for state in State:
                family.add_metric((*row.at, state.value), row.status.state is state)
            yield

    return Family(family, adding())


def _one_each(family: Any, rows: Iterable[_Row], value: Callable[[_Row], float]) -> Iterator[None]:
    for row in rows:
        yield family.add_metric(row.at, value(row))


def _by_reason(
    family: Any, rows: Iterable[_Row], numbers: Callable[[_Row], Mapping[str, int]]
) -> Iterator[None]:
    for row in rows:
        for reason, number in numbers(row).items():
            yield family.add_metric((*row.at, reason), number)


def _histograms(
    rows: Iterable[_Row], histogram: Callable[[_Row], Histogram]
) -> Iterator[tuple[tuple[str, ...], Histogram]]:
    for row in rows:
        yield row.at, histogram(row)

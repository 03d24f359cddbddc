"""The families of metrics of pools: names, help texts, and where each value comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric

from kolus.backend import Backend, labels
from kolus.durations import BackendDurations, Durations
from kolus.metrics import Counts, Metrics
from kolus.status import Counters, State, Status
from kolus.support import Histogram

__all__ = ["Observed", "histogram_family", "pool_families"]

_AT = ("pool", "backend")

_STATES: dict[str, Callable[[Status], int | None]] = {
    "idle": lambda status: status.idle,
    "leased": lambda status: status.leased,
    "connecting": lambda status: status.connecting,
    "unused": lambda status: status.limit if status.unused is None else max(0, status.unused),
    "detached": lambda status: status.detached,
}

_GAUGES: dict[str, tuple[str, Callable[[Status], float]]] = {
    "kolus_waiting_requests": ("Requests in the queue.", lambda status: status.waiting),
    "kolus_connection_limit": ("Most connections at a time.", lambda status: status.limit),
    "kolus_backend_weight": (
        "The weight that counts now, with slow start.",
        lambda status: status.backend.weight * status.ramp,
    ),
}

_COUNTERS: dict[str, tuple[str, Callable[[Counters], int]]] = {
    "kolus_leases": ("Leases given.", lambda counters: counters.leases),
    "kolus_releases": ("Leases settled by release.", lambda counters: counters.releases),
    "kolus_finishes": ("Leases settled by finished.", lambda counters: counters.finishes),
    "kolus_forgotten_leases": (
        "Leases that nobody settled, reclaimed as garbage.",
        lambda counters: counters.forgotten,
    ),
    "kolus_revoked_leases": (
        "Leases that were held for longer than hold_limit.",
        lambda counters: counters.revoked,
    ),
    "kolus_overdue_leases": (
        "Leases that were held for longer than leak_after.",
        lambda counters: counters.overdue,
    ),
    "kolus_timeouts": (
        "Requests that were not served before their deadline.",
        lambda counters: counters.timeouts,
    ),
    "kolus_cancels": ("Requests that were cancelled in the queue.", lambda its: its.cancels),
    "kolus_connects": ("Connections made and prepared.", lambda counters: counters.connects),
    "kolus_connect_failures": (
        "Attempts to connect that gave no usable connection.",
        lambda counters: counters.connect_failures,
    ),
}

_EVENTS: dict[str, tuple[str, Callable[[Counts], int]]] = {
    "kolus_waits": ("Leases whose request was in the queue.", lambda counts: counts.waits),
    "kolus_ejections": ("How often the backend was ejected.", lambda counts: counts.ejections),
    "kolus_admissions": ("How often it was admitted again.", lambda counts: counts.admissions),
    "kolus_recoveries": (
        "Connects that succeeded after one that had failed.",
        lambda counts: counts.recoveries,
    ),
}

_REASONS: dict[str, tuple[str, Callable[[Counts], dict[str, int]]]] = {
    "kolus_closes": ("Connections that have ended, by reason.", lambda counts: counts.closes),
    "kolus_rejections": (
        "Requests that were refused at once, by error.",
        lambda counts: counts.rejections,
    ),
}

_HISTOGRAMS: dict[str, tuple[str, Callable[[BackendDurations], Histogram]]] = {
    "kolus_wait_seconds": ("From the request to the lease.", lambda durations: durations.wait),
    "kolus_hold_seconds": ("From the lease to its end.", lambda durations: durations.hold),
    "kolus_connect_seconds": (
        "How long connects took that succeeded, with prepare.",
        lambda durations: durations.connect,
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

    def statuses(self) -> list[Status]:
        """The status of each backend."""
        backends = self.backends
        if backends is None:
            backends = tuple(dict.fromkeys(each.backend for each in self.pool.status()))
        found: list[Status] = self.pool.status(backends)
        return found


def pool_families(pools: Iterable[Observed]) -> Iterator[Metric]:
    """All families, with the values of all pools. Nothing is counted but here."""
    seen = []
    for its in pools:
        statuses = its.statuses()
        named = labels([each.backend for each in statuses])
        seen += [(its, each, (its.name, named[each.backend])) for each in statuses]
    yield _connections(seen)
    yield _states(seen)
    for name, (text, of_status) in _GAUGES.items():
        gauge = GaugeMetricFamily(name, text, labels=_AT)
        for _, status, at in seen:
            gauge.add_metric(at, of_status(status))
        yield gauge
    counters = [(its.pool.counters(status.backend), at) for its, status, at in seen]
    for name, (text, of_counters) in _COUNTERS.items():
        counter = CounterMetricFamily(name, text, labels=_AT)
        for each, at in counters:
            counter.add_metric(at, of_counters(each))
        yield counter
    counts = [(its.metrics.of(status.backend), at) for its, status, at in seen]
    yield from _event_families(counts)
    for name, (text, of_durations) in _HISTOGRAMS.items():
        histograms = [
            (at, of_durations(its.durations.of(status.backend))) for its, status, at in seen
        ]
        yield histogram_family(name, text, _AT, histograms)


def histogram_family(
    name: str,
    text: str,
    names: tuple[str, ...],
    histograms: Iterable[tuple[tuple[str, ...], Histogram]],
) -> HistogramMetricFamily:
    """A family of histograms, each with the values of its labels."""
    family = HistogramMetricFamily(name, text, labels=names)
    for values, each in histograms:
        family.add_metric(values, each.cumulative(), each.sum)
    return family


def _connections(seen: list[tuple[Observed, Status, tuple[str, str]]]) -> GaugeMetricFamily:
    text = "Connections by state; unused: how many more the limits allow."
    family = GaugeMetricFamily("kolus_connections", text, labels=(*_AT, "state"))
    for _, status, at in seen:
        for state, number in _STATES.items():
            family.add_metric((*at, state), number(status) or 0)
    return family


def _states(seen: list[tuple[Observed, Status, tuple[str, str]]]) -> GaugeMetricFamily:
    text = "1 for the state that the backend is in, 0 for the others."
    family = GaugeMetricFamily("kolus_backend_state", text, labels=(*_AT, "state"))
    for _, status, at in seen:
        for state in State:
            family.add_metric((*at, state.value), status.state is state)
    return family


def _event_families(counts: list[tuple[Counts, tuple[str, str]]]) -> Iterator[Metric]:
    for name, (text, of_counts) in _EVENTS.items():
        counter = CounterMetricFamily(name, text, labels=_AT)
        for each, at in counts:
            counter.add_metric(at, of_counts(each))
        yield counter
    for name, (text, by_reason) in _REASONS.items():
        counter = CounterMetricFamily(name, text, labels=(*_AT, "reason"))
        for each, at in counts:
            for reason, number in by_reason(each).items():
                counter.add_metric((*at, reason), number)
        yield counter

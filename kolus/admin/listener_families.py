"""The families of metrics of listeners, and the collector of a whole daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from kolus.admin.finder import Finder
from kolus.admin.measures import Measures
from kolus.prometheus import (
    Family,
    Observed,
    exposition_pieces,
    histogram_family,
    pool_families,
)

__all__ = ["scrape"]

_AT = ("listener",)

_COUNTERS: dict[str, tuple[str, Callable[[Any], int]]] = {
    "kolus_served_clients": ("Clients that had a lease and have ended.", lambda it: it.served),
}

_BY_REASON: dict[str, tuple[str, Callable[[Any], Mapping[str, int]]]] = {
    "kolus_refused_clients": (
        "Clients that were closed before they had a lease.",
        lambda it: it.refusals.counts,
    ),
    "kolus_timed_out_sessions": (
        "Sessions that were ended because of the time.",
        lambda it: it.times_out,
    ),
}
"""The reasons are the names of the settings; see the reference of listeners."""


def scrape(finder: Finder, measures: Measures, accept: str) -> tuple[Iterator[bytes], str]:
    """The metrics of a daemon in pieces, and their content type."""
    return exposition_pieces(_DaemonMetrics(finder, measures).collect(), accept)


class _DaemonMetrics:
    def __init__(self, finder: Finder, measures: Measures) -> None:
        self._finder = finder
        self._measures = measures

    def collect(self) -> Iterator[Family]:
        yield from pool_families([self._observed(name) for name in self._finder.running.groups])
        yield from self._of_listeners()

    def _observed(self, name: str) -> Observed:
        group, measured = self._finder.group(name), self._measures.of(name)
        backends = self._finder.backends(group)
        return Observed(name, group.pool, measured.metrics, measured.durations, backends)

    def _of_listeners(self) -> Iterator[Family]:
        fronts = [(name, each.front) for name, each in self._finder.running.listeners.items()]
        clients = GaugeMetricFamily("kolus_clients", "Connected clients.", labels=_AT)
        for name, front in fronts:
            clients.add_metric((name,), len(front.clients))
        yield Family(clients)
        for family, (text, number) in _COUNTERS.items():
            counter = CounterMetricFamily(family, text, labels=_AT)
            for name, front in fronts:
                counter.add_metric((name,), number(front))
            yield Family(counter)
        for family, (text, counts) in _BY_REASON.items():
            counter = CounterMetricFamily(family, text, labels=(*_AT, "reason"))
            for name, front in fronts:
                for reason, count in sorted(counts(front).items()):
                    counter.add_metric((name, reason), count)
            yield Family(counter)
        text = "Bytes of clients that have ended: sent to backends, or received from them."
        moved = CounterMetricFamily("kolus_client_bytes", text, labels=(*_AT, "direction"))
        for name, front in fronts:
            moved.add_metric((name, "sent"), front.sent)
            moved.add_metric((name, "received"), front.received)
        yield Family(moved)
        text = "When the certificates in a file expire, in seconds since 1970."
        expiry = GaugeMetricFamily(
            "kolus_certificate_expiry_timestamp_seconds", text, labels=("user", "file")
        )
        for each in self._finder.running.certificates:
            expiry.add_metric((each.user, each.file), each.expires_at)
        yield Family(expiry)
        lasted = [((name,), front.clients.durations) for name, front in fronts]
        yield histogram_family(
            "kolus_session_seconds", "From a client's lease to its end.", _AT, lasted
        )

"""C{PoolMetrics}: the metrics of a program's pools, for a registry of prometheus_client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from kolus.durations import Durations
from kolus.metrics import Metrics
from kolus.prometheus.families import Observed, pool_families, whole

__all__ = ["PoolMetrics"]


class PoolMetrics(Collector):
    """Collects when it is asked: C{REGISTRY.register(PoolMetrics(cache=pool))}.

    Counts of events and histograms begin when this is made. Collect in the reactor's thread, as
    C{MetricsPage} does: a pool must not be looked at from another.
    """

    def __init__(self, **pools: Any) -> None:
        """
        @param pools: the pools; their names are the values of the label C{pool}. One registry takes
            one C{PoolMetrics}.
        """
        self._pools = [Observed(name, pool, Metrics(), Durations()) for name, pool in pools.items()]
        for each in self._pools:
            each.pool.add_observer(each.metrics)
            each.pool.add_observer(each.durations)

    def collect(self) -> Iterator[Metric]:
        yield from whole(pool_families(self._pools))

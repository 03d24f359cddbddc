"""Metrics of pools for Prometheus, by the library prometheus_client: C{kolus[prometheus]}.

C{REGISTRY.register(PoolMetrics(cache=pool))} is all that a program needs; C{MetricsPage} serves
them in the reactor's thread. This package knows statuses, counts and durations, and pools only by
what it is given.
"""

from kolus.prometheus.families import Family, Observed, histogram_family, pool_families, whole
from kolus.prometheus.page import MetricsPage, exposition, exposition_pieces
from kolus.prometheus.pool_metrics import PoolMetrics

__all__ = [
    "Family",
    "MetricsPage",
    "Observed",
    "PoolMetrics",
    "exposition",
    "exposition_pieces",
    "histogram_family",
    "pool_families",
    "whole",
]

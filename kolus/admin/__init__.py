"""The admin server of the daemon: a JSON API, a stream of events, and metrics for Prometheus.

This package knows pools, groups and fronts only by the few methods that it calls: C{Running} says
what it is given. It knows no configuration and no command line. C{AdminService} listens, and
C{AdminSettings} says where and for whom.
"""

from kolus.admin.openapi import description
from kolus.admin.running import Running, RunningGroup, RunningListener
from kolus.admin.service import AdminService, CannotServe
from kolus.admin.settings import AdminSettings

__all__ = [
    "AdminService",
    "AdminSettings",
    "CannotServe",
    "Running",
    "RunningGroup",
    "RunningListener",
    "description",
]

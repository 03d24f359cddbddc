"""The admin server of the daemon: a JSON API, a stream of events, and metrics for Prometheus.

This package knows pools, groups and fronts only by the few methods that it calls: C{Running} says
what it is given. Of the configuration it knows its own settings. C{AdminService} listens.
"""

from kolus.admin.admin_endpoint import admin_endpoint
from kolus.admin.guard import read_token
from kolus.admin.running import Running, RunningGroup, RunningListener
from kolus.admin.service import AdminService

__all__ = [
    "AdminService",
    "Running",
    "RunningGroup",
    "RunningListener",
    "admin_endpoint",
    "read_token",
]

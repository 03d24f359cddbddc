"""Health checks that are made all the time, whether or not anybody uses a backend.

C{HealthCheck} says what a check does and how often, and C{CheckedSource} makes the checks of all
backends of a source. It reports to a callable, such as C{Pool.checked}. This package knows backends
and endpoints; it knows no pool and no manager.
"""

from kolus.checking.backend_checks import CheckResult
from kolus.checking.checked_source import CheckedSource
from kolus.checking.health_check import CheckKind, HealthCheck

__all__ = ["CheckKind", "CheckResult", "CheckedSource", "HealthCheck"]

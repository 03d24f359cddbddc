"""C{Pool}: what a program holds: leases of any backend, groups, status and operation.

It knows all packages that serve leases. Services, the daemon and the test kit use it.
"""

from kolus.pool.pool import Pool

__all__ = ["Pool"]

"""C{Pool}: what a program holds: leases of any backend, groups, status and operation.

It knows all rooms that serve leases. Services, the daemon and the test kit stand on it.
"""

from kolus.pool.pool import Pool

__all__ = ["Pool"]

"""C{PoolService}: closes a pool when its Twisted application stops."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from kolus.pool import Pool
from kolus.support import check_seconds

__all__ = ["PoolService"]


class PoolService(Service):
    """Closes a pool when its application stops: C{PoolService(pool).setServiceParent(parent)}.

    A C{MultiService} stops its services in reverse order, and does not wait for one before it stops
    the next. So add the services that use the pool after this one. They should settle their leases
    within C{timeout}.

    @ivar pool: the pool. It may be used before the service is started, but not before a daemon has
        forked: connections would belong to the parent process.
    """

    def __init__(self, pool: Pool[Any], timeout: float = 10.0) -> None:
        """
        @param timeout: seconds that leases may still be held when the service stops.
        @raise ValueError: C{timeout} is not a number of seconds.
        @raise TypeError: C{pool} is not a C{Pool}.
        """
        check_seconds("timeout", timeout, optional=False)
        if not isinstance(pool, Pool):
            raise TypeError(f"pool must be a Pool, not {pool!r}")
        self.pool = pool
        self._timeout = timeout

    def stopService(self) -> Deferred[None]:
        """Close the pool: drain it, then abort the connections that are still open.

        Stopping twice has no effect.

        @return: fires with C{None} when no connection is left; the reactor waits for this before it
            stops. Cancelling it stops nothing.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return self.pool.close(self._timeout)

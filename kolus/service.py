"""C{PoolService}: a pool as a part of a Twisted application."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from kolus.pool import Pool
from kolus.support import check_seconds

__all__ = ["PoolService"]


class PoolService(Service):
    """Closes a pool when its application stops: C{PoolService(pool).setServiceParent(parent)}.

    A MultiService stops the service first that was added last, and does not wait for it before
    it stops the next. So what works with the pool is to be added after it, and should have done
    with its leases in time.

    @ivar pool: the pool, which is of use before the service is started, too, but not before a
        daemon has forked: a connection would be its parent's.
    """

    def __init__(self, pool: Pool[Any], timeout: float = 10.0) -> None:
        """
        @param timeout: how many seconds the leases that are out have to be settled.
        @raise ValueError: C{timeout} is no length of time.
        @raise TypeError: C{pool} is none.
        """
        check_seconds("timeout", timeout, optional=False)
        if not isinstance(pool, Pool):
            raise TypeError(f"pool must be a Pool, not {pool!r}")
        self.pool = pool
        self._timeout = timeout

    def stopService(self) -> Deferred[None]:
        """Close the pool: drain it, then abort what is still open.

        @return: fires with C{None} when no connection is left, for which the reactor waits before
            it ends. Stopping twice is harmless.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return self.pool.close(self._timeout)

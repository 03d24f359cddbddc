"""C{FirstList}: the requests of a group that wait until its source tells the first list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kolus.errors import LeaseTimeout, NoBackend, PoolFull
from kolus.manager import Waiter, WaiterQueue
from kolus.watching import unguarded

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime

    from kolus.group.group import Group
    from kolus.lease import Lease
    from kolus.manager import Managers
    from kolus.watching import Owner

__all__ = ["FirstList"]


class FirstList(WaiterQueue[None]):
    """First come, first told."""

    def __init__(self, group: Group[Any], clock: IReactorTime, managers: Managers) -> None:
        self._group = group
        self._managers = managers
        self._owners = managers.records.group_queues.owners
        super().__init__(clock, managers.policy.acquire_timeout)

    async def connect(
        self,
        serve: Callable[[float | None], Deferred[Lease[Any]]],
        timeout: float | None,
        owner: Owner | None,
    ) -> Lease[Any]:
        """Wait for the list, and then for a lease.

        @param serve: asks for the lease within so many seconds, the rest of C{timeout}.
        @raise Closed: the group is closed.
        @raise PoolFull: as many wait as the policy allows.
        """
        self._group.check_open()
        most = self._managers.policy.max_waiters
        if most is not None and len(self.waiting) >= most:
            raise PoolFull(
                f"{self._group!r} has no backends yet, and {most} requests wait for them: "
                f"max_waiters={most} lets no more wait"
            )
        waiter = self.wait(timeout, owner)
        await waiter
        waited = self._clock.seconds() - waiter.since
        if timeout is None:
            timeout = self._managers.policy.acquire_timeout
        self._group.check_open()
        try:
            return await serve(None if timeout is None else max(0.0, timeout - waited))
        except LeaseTimeout as error:
            raise error.after(waited) from error.last_error

    def wait(self, timeout: float | None, owner: Owner | None) -> Waiter[None]:
        """
        @param timeout: seconds until the request fails with C{NoBackend}; the policy's if C{None}.
        @param owner: when it ends, the request is cancelled.
        @return: fires with C{None} when there is a list.
        @raise LeaseError: C{owner} has ended.
        """
        ownership = None if owner is None else self._owners.ownership(unguarded(owner))
        waiter = self.append(timeout)
        if ownership is not None:
            waiter.ownership = ownership
            ownership.wait(waiter)
        return waiter

    def tell(self) -> None:
        """There is a list. A request that comes meanwhile comes after those that wait."""
        while self.waiting:
            self.popleft().callback(None)
        self._alarm.clear()

    def fail_all(self, error: Exception) -> None:
        """There will be no list."""
        while self.waiting:
            self.fail(next(iter(self.waiting)), error)
        self._alarm.clear()

    def _expire(self, waiter: Waiter[None]) -> None:
        waited = self._clock.seconds() - waiter.since
        told = f"{self._group!r} has not been told of any backend within {waited:.3g} s"
        self.fail(waiter, NoBackend(told))

"""C{Deadlocks}: finds requests that can never be served, since their own owners hold everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kolus.errors import LeaseError
    from kolus.manager.base import BaseManager
    from kolus.manager.lease_tracker import LeaseTracker
    from kolus.manager.record import BackendRecord
    from kolus.policy import Policy
    from kolus.watching import Owner

__all__ = ["Deadlocks"]


class Deadlocks:
    """Looks at what the owners of one manager's leases hold; it has no state of its own."""

    def __init__(
        self,
        manager: BaseManager[Any],
        tracker: LeaseTracker,
        record: BackendRecord,
        policy: Policy,
    ) -> None:
        self._manager = manager
        self._tracker = tracker
        self._record = record
        self._policy = policy

    def find(self, owner: Owner | None, origin: str | None) -> LeaseError | None:
        """What a request of C{owner} fails with if the owner holds all that this manager can lease;
        else C{None}.

        @param origin: where the program made the request.
        """
        ownerships = []
        if owner is not None:
            # Of a shared connection a sibling's lease is but a part.
            siblings = [] if self._policy.slots is not None else self._record.members
            members = [self._manager, *[each for each in siblings if each is not self._manager]]
            held = [each.ownership_of(owner) for each in members]
            ownerships = [each for each in held if each is not None]
        if not ownerships:
            return None
        return self._tracker.deadlock(ownerships, self._manager._capacity(), self._manager, origin)

    def fail_all_of(self, owner: Owner | None) -> None:
        """An owner holds more than it did: fail its waiters, here and in groups, for which
        everything is in its own hands."""
        # To look at each waiter of an owner with very many, after each lease, would take too long.
        if owner is None or self.find(owner, None) is None:
            return
        ownership = self._tracker.owners.find(owner)
        waiters: tuple[Any, ...] = () if ownership is None else tuple(ownership.waiters)
        for waiter in waiters:
            error = self.find(owner, waiter.origin) if waiter in self._manager.waiting else None
            if error is not None:
                self._manager._queue.fail(waiter, error)
        keeper = self._record.keeper
        for waiter in () if keeper is None else keeper.group_waiters_of(owner):
            if waiter.placement is not None:
                queue: Any = waiter.queue
                queue.fail_if_deadlocked(waiter, owner)

    def look_at_all(self) -> None:
        """There is less to lease than before: it may be all in the hands of one who waits."""
        for ownership in self._tracker.owners.waiting():
            self.fail_all_of(ownership.owner)

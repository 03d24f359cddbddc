"""C{Deadlocks}: finds requests that can never be served, as their owners hold all leases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kolus.errors import LeaseError
    from kolus.manager.base import BaseManager
    from kolus.watching import Owner, Ownership

__all__ = ["Deadlocks"]


class Deadlocks:
    """Looks at what the owners of one manager's leases hold. It has no state of its own."""

    def __init__(self, manager: BaseManager[Any]) -> None:
        self._manager = manager
        self._tracker = manager.tracker
        self._record = manager.record

    def find(self, owner: Owner | None, origin: str | None) -> LeaseError | None:
        """The error of a request of C{owner}, if the owner holds all leases that this manager can
        give, or all that the pool's limit allows; else C{None}.

        @param origin: the place in the program that made the request.
        """
        ownerships: list[Ownership] = []
        if owner is not None and self._manager.policy.slots is None:
            ownerships = self._held_by(owner)
        elif owner is not None:
            # A sibling's lease of a shared connection is only one slot, not a whole connection.
            held = self._tracker.owners.find(owner)
            ownerships = [] if held is None else [held]
        manager, find = self._manager, self._tracker.deadlock
        error = find(ownerships, manager.supply.capacity(), manager, origin) if ownerships else None
        return self.find_in_pool(owner, origin) if error is None else error

    def _held_by(self, owner: Owner) -> list[Ownership]:
        """What an owner has at the managers of the backend; nothing if it cannot hold as many
        connections as the limit. That is known as soon as too many are found that it does not hold.
        """
        record, found = self._record, []
        others = len(record.all) - record.limit  # so many may be other lessees'
        for each in self._holders() if others >= 0 else ():
            held = each.tracker.owners.find(owner)
            others -= len(each.connections.all) - (0 if held is None else len(held.leases))
            if others < 0:
                record.has_others = each
                return []
            if held is not None:
                found.append(held)
        return found

    def _holders(self) -> Iterator[BaseManager[Any]]:
        """The managers of the backend, or only those that have connections if these are few. The
        first is the one where the last look has ended: the next may end there, too."""
        record, seen = self._record, set[object]()
        if record.has_others is not None:
            seen.add(record.has_others)
            yield record.has_others
        if len(record.members) <= len(record.all):
            yield from (each for each in record.members if each not in seen)
            return
        for connection in record.all:
            manager = connection.manager
            if not (manager in seen or connection in record.detached):
                seen.add(manager)
                yield manager

    def find_in_pool(self, owner: Owner | None, origin: str | None) -> LeaseError | None:
        """The same if it holds all connections that the pool's limit allows."""
        budget, found = self._record.budget, []
        # A lease of a shared connection is only one slot of it.
        if owner is None or budget.unused() > 0 or self._manager.policy.slots is not None:
            return None
        if budget.has_others is not None and _has_others(budget.has_others, owner):
            return None
        for record in budget.holders:
            for member in record.members:
                if _has_others(member, owner):
                    budget.has_others = member
                    return None
                held = member.tracker.owners.find(owner)
                if held is not None and member.connections.all:
                    found.append(held)
        return self._tracker.deadlock(found, budget.used, self._manager, origin)

    def fail_all_of(self, owner: Owner | None) -> None:
        """An owner has got a lease: fail its waiters, here and in groups, that can no longer be
        served because it holds all leases."""
        if owner is None or not self._may_wait(owner):
            return
        # Look at one request first: looking at all waiters after each lease would take too long.
        if self.find(owner, None) is None:
            return
        self.fail_here(owner)
        in_pool = self.find_in_pool(owner, None) is not None
        for record in tuple(self._record.budget.wanting) if in_pool else ():
            for member in tuple(record.members):
                member.deadlocks.fail_here(owner)
        listener = self._record.listener
        for waiter in () if listener is None else listener.group_waiters_of(owner):
            queue: Any = waiter.queue  # C{None} if it has left meanwhile
            if queue is not None and waiter.placement is not None:
                queue.fail_if_deadlocked(waiter, owner)

    def _may_wait(self, owner: Owner) -> bool:
        """Whether an owner has a request here or in a group, or may have one elsewhere that waits
        for a slot of the pool."""
        ownership, listener = self._tracker.owners.find(owner), self._record.listener
        return (
            bool(ownership is not None and ownership.waiters)
            or bool(self._record.budget.wanting)
            or bool(listener is not None and listener.group_waiters_of(owner))
        )

    def fail_here(self, owner: Owner) -> None:
        """Fail those waiters of an owner in the manager's own queues that can never be served."""
        ownership = self._tracker.owners.find(owner)
        waiters: tuple[Any, ...] = () if ownership is None else tuple(ownership.waiters)
        for waiter in waiters:
            error = None if waiter.queue is None else self.find(owner, waiter.origin)
            if error is not None and waiter.queue is not None:
                waiter.queue.fail(waiter, error)

    def look_at_all(self) -> None:
        """The capacity has fallen: an owner that waits may now hold all leases."""
        for ownership in self._tracker.owners.waiting():
            self.fail_all_of(ownership.owner)


def _has_others(manager: BaseManager[Any], owner: Owner) -> bool:
    """Whether a manager has connections that an owner does not hold."""
    connections = len(manager.connections.all)
    held = manager.tracker.owners.find(owner) if connections else None
    return connections > 0 and (held is None or len(held.leases) != connections)

"""C{SharingManager}: serves, besides its own queue, those that it shares with other managers.

Its state is its record's: which queues these are.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeVar

from kolus.errors import LeaseError
from kolus.health import Phase
from kolus.lease import Lease
from kolus.manager.base_manager import BaseManager
from kolus.manager.waiters import Waiter
from kolus.watching import Owner, Ownership

__all__ = ["SharingManager"]

P = TypeVar("P")


class SharingManager(BaseManager[P]):
    """Knows who is next, of all who wait, and what can be done for them: see C{Server}."""

    @abstractmethod
    def is_all_held_by(self, owner: Owner) -> bool:
        """Called by a shared queue: whether an owner has all that can be leased here."""

    @abstractmethod
    def fail_deadlocked(self, owner: Owner) -> None:
        """Called by a shared queue: an owner holds more than it did."""

    @abstractmethod
    def _coming(self) -> int:
        """How many requests need not wait for the release of another's lease."""

    # Who is next

    def _oldest(self) -> Waiter[Lease[P]] | None:
        """Who is to be served next, of its own queue and of those that it shares."""
        oldest = next(iter(self.waiting)) if self.waiting else None
        for queue in self._shared:
            first = queue.oldest_for(self) if queue.waiting else None
            if first is not None and (oldest is None or first.order < oldest.order):
                oldest = first
        return oldest

    def _is_asked(self) -> bool:
        """Whether anybody waits whom it may serve."""
        return bool(self.waiting) or (bool(self._shared) and self._oldest() is not None)

    def _asked(self) -> int:
        """How many wait whom it may serve, and perhaps some of them twice."""
        shared = [len(each.waiting) for each in self._shared if each.may_serve(self.backend)]
        return len(self.waiting) + sum(shared)

    def _take_oldest(self) -> Waiter[Lease[P]]:
        waiter = self._oldest()
        assert waiter is not None
        is_own = waiter.queue is self._waiters
        waiter.leave()
        if not is_own:
            waiter.ownership = self._ownership_here(waiter)
        return waiter

    def _ownership_here(self, waiter: Waiter[Lease[P]]) -> Ownership | None:
        """What the owner of a waiter that was elsewhere has of this manager."""
        owner = None if waiter.ownership is None else waiter.ownership.owner
        try:
            return None if owner is None else self._tracker.ownership(owner)
        except LeaseError:  # of a service it is not known there that it was stopped before
            return waiter.ownership

    def adopt(self, waiter: Waiter[Lease[P]]) -> None:
        """Called by a shared queue: one of its waiters waits here from now on."""
        before, waiter.ownership = waiter.ownership, self._ownership_here(waiter)
        if before is not None:
            before.leave(waiter)
        self._waiters.adopt(waiter)
        if waiter.ownership is not None:
            waiter.ownership.wait(waiter)
        self._connector.pay()
        self._decide()

    def surplus(self) -> int:
        """For how many requests more it may connect at once; below 0: how many here wait for the
        leases of others to be settled."""
        coming = 0
        if self._lifecycle.serves:
            now = self._now()
            is_due = self._record.attempts.due_at <= now and not self._connector.unpaid
            is_quick = now < self.connections.slow_at()
            coming = self._coming() if is_due and is_quick else self.ready()
        return coming - len(self.waiting)

    def is_ejected(self) -> bool:
        return self._record.health.phase is Phase.EJECTED

    def has_idle(self) -> bool:
        return bool(self._idle) and self._lifecycle.serves

    def has_leases(self) -> bool:
        """Whether something may come home here."""
        return self._lifecycle.serves and self.connections.leased() > 0

    def is_connecting(self) -> bool:
        """Whether an attempt is under way, or is to be made as soon as a slot is free that is being
        freed."""
        connections = self.connections
        if connections.closing and self._record.unused() <= 0 and self._connector.due_in() <= 0:
            return self._lifecycle.serves
        return self._lifecycle.serves and bool(connections.connecting)

    def warm(self) -> None:
        """Connect once more than is asked for, as far as that may be done at once."""
        quick = not (self.connections.connecting or self._idle) and self._connector.due_in() <= 0
        if quick and self._lifecycle.serves and self._record.may_connect():
            self._connector.connect()
            self._decide()

    def slots_changed(self) -> None:
        """Called by the record: a sibling has taken slots or freed some."""
        if self._shared:
            self._level()

    def _level(self) -> None:
        """Tell those it shares queues with what it can do now."""
        if self._shared:
            for queue in tuple(self._shared):
                queue.level(self)
            slow_at = self.connections.slow_at()
            if self.waiting and slow_at > self._now() and self._lifecycle.serves:
                self._alarm.set(slow_at)

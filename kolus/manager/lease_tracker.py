"""C{LeaseTracker}: tracks the owners and origins of one manager's leases, and finds leaks.

Its state is the owners of leases and requests, when to look for leaks again, and which leases are
held if there is a limit for that. A lease costs nothing here unless it has an owner, there is an
observer, or the policy has C{debug=True} or a C{hold_limit}.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from kolus.connection import is_ending
from kolus.errors import LeaseError
from kolus.lease import FORGOTTEN, REVOKED, Leasable, Lease, Outcome, Settle
from kolus.manager.connections.detachment import DETACHES
from kolus.manager.hold_limit import HoldLimit
from kolus.support import place, stack
from kolus.watching import (
    LeaseExplanation,
    Owner,
    Owners,
    Ownership,
    Recorder,
    Traced,
    label,
    unguarded,
)

if TYPE_CHECKING:
    from kolus.policy import Policy
    from kolus.support import Alarm

__all__ = ["Held", "LeaseTracker"]

_MOST_PLACES = 10  # that an error tells


class Held(Leasable[Any], Protocol):
    """What is behind a lease: a connection, or a slot on one.

    @ivar transport: of its connection; C{None} when that is gone.
    @ivar since: when it was leased, on the clock.
    @ivar uses: how many leases its connection has had.
    @ivar origin: where it was leased, in debug mode.
    @ivar overdue_since: C{since} of the lease that was last told of as a possible leak.
    """

    transport: Any
    since: float
    uses: int
    origin: str | None
    overdue_since: float


class LeaseTracker:
    """Knows who holds leases, where they were taken and settled, and for how long."""

    def __init__(
        self,
        policy: Policy,
        recorder: Recorder,
        now: Callable[[], float],
        settle: Settle,
        alarm: Alarm,
    ) -> None:
        self.owners = Owners()
        self.leaks_due = math.inf
        self._policy = policy
        self._recorder = recorder
        self._now = now
        limit = policy.hold_limit
        self._limit = None if limit is None else HoldLimit(limit, alarm)
        self._settle_at_manager = settle
        self._settle = settle if limit is None else self._settle_limited
        self._tracks = policy.debug or limit is not None

    def ownership(self, owner: Owner | None) -> Ownership | None:
        """
        @raise TypeError: C{owner} cannot be an owner.
        @raise LeaseError: it has ended already.
        """
        return None if owner is None else self.owners.ownership(unguarded(owner))

    def ownership_here(self, elsewhere: Ownership) -> Ownership | None:
        """The ownership at this manager of the owner of a waiter from a group's queue."""
        owner = elsewhere.owner
        try:
            return None if owner is None else self.ownership(owner)
        except LeaseError:  # a service that was stopped; only here that is known
            return elsewhere

    def origin(self, ownership: Ownership | None) -> str | None:
        """The stack of the current request in debug mode; else its place in the program, if it has
        an owner; else C{None}."""
        if self._policy.debug:
            return stack()
        return None if ownership is None else place()

    def lease(
        self,
        leasable: Any,
        ownership: Ownership | None,
        origin: str | None,
        waited: float | None = None,
    ) -> Lease[Any]:
        """Make a lease, and track its owner if it has one, and its origin in debug mode.

        @param waited: the seconds that the request was in the queue; C{None}: it was never there.
        """
        settle = self._settle
        reused = leasable.reused
        if self._policy.debug:
            leasable.origin = origin
            leasable, settle = Traced(leasable, origin or ""), self._settle_traced
        lease: Lease[Any] = Lease(leasable, settle)
        if self._limit is not None:
            self._limit.given(leasable.leasable, lease)
        if ownership is not None:
            ownership.hold(lease, origin or "")
        self._recorder.leased(reused, waited)
        return lease

    def lease_after(
        self,
        since: float,
        leasable: Any,
        ownership: Ownership | None = None,
        origin: str | None = None,
    ) -> Lease[Any]:
        """Make the lease of a request that had to wait, and count it.

        @param since: when it came, on the clock.
        """
        self._recorder.counters.leases += 1
        if self._recorder.observers or self._tracks or ownership is not None:
            return self.lease(leasable, ownership, origin, self._now() - since)
        return Lease(leasable, self._settle)

    def _settle_traced(self, traced: Traced, outcome: Outcome) -> None:
        if outcome is FORGOTTEN or outcome is REVOKED:
            # Its holder did not settle it, so this stack says nothing about it.
            traced.settled(f"nowhere, it was {outcome.value}; leased here:\n{traced.origin}")
        elif outcome not in DETACHES:  # the proxies of a detached connection stay in use
            traced.settled(stack())
        self._settle(traced.leasable, outcome)

    def _settle_limited(self, leasable: Any, outcome: Outcome) -> None:
        if outcome is not FORGOTTEN:
            self.reclaimed(leasable)
        self._settle_at_manager(leasable, outcome)

    def reclaimed(self, leasable: Any) -> None:
        """A lease is settled, or a forgotten one is reclaimed."""
        if self._limit is not None:
            self._limit.settled(leasable)

    def revoke_due(self, now: float) -> None:
        """Revoke the leases that are held for longer than the policy allows."""
        if self._limit is not None:
            self._limit.revoke_due(now)

    def next_due(self) -> float:
        """When to look for leaks, or to revoke a lease; infinity if never."""
        return min(self.leaks_due, math.inf if self._limit is None else self._limit.next_due())

    def deadlock(
        self, ownerships: Sequence[Ownership], limit: int, manager: object, origin: str | None
    ) -> LeaseError | None:
        """The error of a request whose owner holds all leases that could serve it; else C{None}.

        A lease whose connection is ending does not count: its slot becomes free anyway.

        @param ownerships: those of the owner at the managers that share the limit.
        @param limit: the most leases that these managers can give at a time.
        @param origin: the place in the program that made the request.
        """
        if sum([len(ownership.leases) for ownership in ownerships]) < limit:
            return None
        places = [
            taken
            for ownership in ownerships
            for lease, taken in tuple(ownership.leases.items())
            if lease.held and not is_ending(_transport(lease))
        ]
        if len(places) < limit:
            return None
        more = len(places) - _MOST_PLACES
        others = [f"and {more} more"] if more > 0 else []
        return LeaseError(
            f"{manager!r} can never serve this request: its owner, {label(ownerships[0].owner)}, "
            f"holds every lease itself.\nThe request was made here:\n{origin}\n"
            f"The leases were taken here:\n" + "\n".join([*places[:_MOST_PLACES], *others])
        )

    def look_for_leaks(self, now: float, held: Iterable[Held] | None) -> None:
        """Report each lease that is held for too long, once, and set when to look again.

        That is early enough for all leases that begin later.

        @param held: what is leased; C{None}: do not look again.
        """
        longest = self._policy.leak_after
        if longest is None or held is None:
            self.leaks_due = math.inf
            return
        self.leaks_due = now + longest
        owned: dict[Any, tuple[Ownership, str]] | None = None
        for each in held:
            if each.since + longest > now:
                self.leaks_due = min(self.leaks_due, each.since + longest)
            elif each.overdue_since != each.since:
                each.overdue_since = each.since
                owned = self.owned() if owned is None else owned
                told = self.explain_lease(each, "leased", owned, now)
                self._recorder.overdue(told.held, told.owner, told.origin)

    def owned(self) -> dict[Any, tuple[Ownership, str]]:
        """The ownership and the origin of each lease with an owner, by its leasable."""
        return {
            lease.leasable: (ownership, origin)
            for ownership in self.owners
            for lease, origin in tuple(ownership.leases.items())
            if lease.held
        }

    def explain_lease(
        self, held: Held, doing: str, owned: dict[Any, tuple[Ownership, str]], now: float
    ) -> LeaseExplanation:
        """
        @param doing: whether it is leased, or is in a check or a reset.
        @param owned: what C{owned} gave.
        """
        ownership, origin = owned.get(held, (None, None))
        return LeaseExplanation(
            held=now - held.since,
            uses=held.uses,
            owner=None if ownership is None else label(ownership.owner),
            origin=held.origin if self._policy.debug else origin,
            doing=doing,
        )


def _transport(lease: Lease[Any]) -> Any:
    held: Any = lease.leasable
    return held.transport

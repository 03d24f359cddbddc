"""C{Slot}: what is behind a lease of a shared connection."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

if TYPE_CHECKING:
    from kolus.connection.connection import Connection
    from kolus.lease import Lease

__all__ = ["Slot"]


class Slot:
    """One lessee's share of a connection: see C{Leasable}.

    @ivar connection: its connection.
    @ivar since: when it was leased, on the clock.
    @ivar uses: the number of leases that the connection had had then, this one included.
    @ivar fresh: whether its lessee waited for a fresh connection before this one was first leased.
    """

    # Each lease makes a slot, so what few slots need has its default in the class.
    __slots__ = ("__dict__", "connection", "since", "uses")

    overdue_since = -math.inf
    origin: str | None = None
    fresh = False
    _observed = False

    def __init__(self, connection: Connection[Any]) -> None:
        self.connection = connection
        self.since = connection.since
        self.uses = connection.uses

    @property
    def leasable(self) -> Slot:
        return self

    @property
    def manager(self) -> Any:
        return self.connection.manager

    @property
    def protocol(self) -> Any:
        return self.connection.protocol

    @property
    def reused(self) -> bool:
        return self.uses > 1 and not self.fresh

    @property
    def age(self) -> float:
        return self.connection.age

    @property
    def transport(self) -> Any:
        return self.connection.transport

    def when_lost(self, lease: Lease[Any]) -> Deferred[BaseException]:
        return self.connection.when_lost(lease)

    def take_losses(self, lease: Lease[Any]) -> list[Deferred[BaseException]]:
        return self.connection.take_losses(lease)

    def why_not_detach(self) -> str | None:
        """Why its connection cannot leave the pool now; C{None} if it can."""
        others = len(self.connection.slots) - 1
        if others > 0:
            return f"other leases share its connection: {others}"
        return self.connection.why_not_detach()

    def observe(self, seconds: float) -> None:
        self._observed = True
        self.manager.observe(seconds)

    def was_observed(self) -> bool:
        """Whether its lessee has called C{Lease.observe}."""
        return self._observed

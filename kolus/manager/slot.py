"""C{Slot}: what is behind a lease of a shared connection."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from kolus.manager.connection import Connection

if TYPE_CHECKING:
    from kolus.lease import Lease

__all__ = ["Slot"]


class Slot:
    """See C{Leasable}.

    @ivar connection: the connection that it is on.
    @ivar since: when it was leased, on the clock.
    """

    __slots__ = ("_observed", "connection", "origin", "overdue_since", "reused", "since", "uses")

    def __init__(self, connection: Connection[Any]) -> None:
        self.connection = connection
        self.since = connection.since
        self.overdue_since = -math.inf
        self.uses = connection.uses
        self.reused = connection.reused
        self.origin: str | None = None
        self._observed = False

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
    def age(self) -> float:
        return self.connection.age

    @property
    def transport(self) -> Any:
        return self.connection.transport

    def when_lost(self, lease: Lease[Any]) -> Deferred[BaseException]:
        return self.connection.when_lost(lease)

    def observe(self, seconds: float) -> None:
        self._observed = True
        self.manager.observe(seconds)

    def was_observed(self) -> bool:
        """Whether its lessee has said how long the backend took."""
        return self._observed

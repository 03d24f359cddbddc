"""C{Route}: where the clients of a listener get their leases."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from kolus.lease import Lease

if TYPE_CHECKING:
    from kolus.daemon.served_group import ServedGroup

__all__ = ["Connect", "Route"]

Connect = Callable[[Hashable], Deferred[Lease[Any]]]
"""Asks for a lease for a client of a listener, whose ident it is given."""


@dataclass(slots=True, eq=False)
class Route:
    """The group that serves a listener. A reload changes it.

    @ivar group: the group.
    @ivar queue_timeout: how many seconds a client may wait.
    """

    group: ServedGroup
    queue_timeout: float

    def connect(self, ident: Hashable) -> Deferred[Lease[Any]]:
        """Ask for a lease for a client.

        @param ident: the client's.
        @return: as C{Group.connect}. It waits until the source of the group has given a list.
        """
        return self.group.connect(ident, self.queue_timeout)

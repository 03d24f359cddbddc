"""C{IdleManagers}: finds the manager whose connection is idle longest, of those that share a limit.

Its state is the managers that have something idle, by the time since when. A lease need not tell:
what it changes is noticed when a manager would be next.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from kolus.events import Why
from kolus.support import LazyHeap

if TYPE_CHECKING:
    from kolus.manager.base import BaseManager

__all__ = ["IdleManagers"]


class IdleManagers:
    """Managers that have something idle, which may have to make way for others."""

    __slots__ = ("_idle",)

    def __init__(self) -> None:
        self._idle: LazyHeap[BaseManager[Any]] = LazyHeap()

    def add(self, member: BaseManager[Any]) -> None:
        """A manager that had nothing idle has something."""
        if member not in self._idle.ranks:
            self._idle.set(member, member.connections.order.oldest_since())

    def discard(self, member: BaseManager[Any]) -> None:
        """A manager has ended."""
        self._idle.discard(member)

    def oldest(
        self, *, unused: bool = False, warm: bool = True, spare: bool = False
    ) -> BaseManager[Any] | None:
        """The manager with the connection that is idle longest; not of those where somebody waits
        and is about to get it.

        @param warm: whether it may be one where a call of C{warm} waits for more connections: for a
            request it may, for another such call they would displace each other for ever.
        @param unused: whether none of its connections may be leased, or being made.
        @param spare: whether it has to have more idle ones than it keeps ready: it would make
            another one at once.
        """

        def may(member: BaseManager[Any]) -> bool:
            is_asked = (member.demand() if warm else member.is_asked()) and member.serves()
            is_asked = is_asked or member.dispatcher.is_about_to_serve()
            is_kept = spare and len(member.connections.idle) <= member.policy.min_idle
            return not (is_asked or is_kept or (unused and member.connections.in_use()))

        return self._idle.first(_idle_since, may)

    def close_spare(self) -> None:
        """Close the connection that is idle longest, of those that are not to be kept ready."""
        oldest = self.oldest(spare=True)
        if oldest is not None:
            oldest.connections.close_oldest_idle(Why.DISPLACED)


def _idle_since(member: BaseManager[Any]) -> float | None:
    since = member.connections.order.oldest_since()
    return None if since == math.inf else since

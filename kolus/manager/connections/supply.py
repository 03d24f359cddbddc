"""C{Supply}: what one manager has leased, and how much more it could lease.

It has no state of its own: the numbers follow from the manager's connections, and from their slots
where these are shared.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from heapq import nlargest
from typing import TYPE_CHECKING, Any, cast

from kolus.connection import BUSY, LEASED
from kolus.status import Status

if TYPE_CHECKING:
    from kolus.connection import Connection
    from kolus.manager.base import BaseManager
    from kolus.manager.connections.slots import Slots
    from kolus.manager.shared import SharedManager

__all__ = ["SharedSupply", "SoleSupply", "Supply"]


class Supply(ABC):
    """Counts for one manager. Each kind of manager has its own."""

    __slots__ = ("_connections", "_manager", "_record")

    def __init__(self, manager: BaseManager[Any]) -> None:
        self._manager = manager
        self._connections = manager.connections
        self._record = manager.record

    @abstractmethod
    def leased(self) -> int:
        """How many leases are out."""

    @abstractmethod
    def ready(self) -> int:
        """The number of leases that could be given at once."""

    @abstractmethod
    def coming(self) -> int:
        """The number of requests that can be served without the release of another lease."""

    @abstractmethod
    def capacity(self) -> int:
        """The most leases that the manager can give at a time."""

    @abstractmethod
    def lacking(self) -> int:
        """The number of connections that those who wait need beside what is ready or in a check."""

    def slow_at(self) -> float:
        """When the oldest attempt to connect counts as slow, on the clock; infinity if none is."""
        return self._connections.slow_at()

    def wanted(self) -> int:
        """The number of connections that should be connecting."""
        connections, manager = self._connections, self._manager
        if manager.demand():  # not both: what is made for a waiter may be idle in the next moment
            wanted = self.lacking()
        else:
            ready = len(connections.idle) + connections.checking.counted_on
            wanted = max(0, manager.policy.min_idle - ready)
        return wanted + len(connections.expiring)

    @abstractmethod
    def held(self) -> Collection[Any]:
        """The leased connections or slots."""

    def busy(self) -> dict[Any, str]:
        """The connections that the status counts as leased although they are not, and why."""
        return {}

    def silent(self) -> int:
        """The number of idle connections that cannot carry a lease now."""
        return 0

    def numbers(self) -> Status:
        """The manager's status, as far as it is known without a look at each connection."""
        manager, record, connections = self._manager, self._record, self._connections
        slots = manager.policy.slots or 1
        return Status(
            backend=manager.backend,
            manager=cast(Any, manager),
            ident=manager.ident,
            idle=self.ready(),
            leased=self.leased(),
            connecting=len(connections.connecting) * slots,
            unused=max(0, record.room.unused()) * slots,
            waiting=manager.demand(),
            limit=self.capacity(),
            state=record.health.state(manager.lifecycle.state()),
            ramp=record.health.ramp(),
            detached=len(record.detached),
        )


class SoleSupply(Supply):
    """Of connections that have one lessee each."""

    __slots__ = ()

    def leased(self) -> int:
        return self._connections.leased()

    def ready(self) -> int:
        return len(self._connections.idle)

    def coming(self) -> int:
        connections = self._connections
        ready = (
            len(connections.idle) + connections.checking.counted_on + len(connections.connecting)
        )
        return self._record.room.obtainable() + ready

    def capacity(self) -> int:
        return self._record.limit

    def lacking(self) -> int:
        connections, demand = self._connections, self._manager.demand()
        lacking = demand - len(connections.idle) - connections.checking.counted_on
        fresh = len(self._manager.placements.fresh)
        if not fresh:
            return max(0, lacking)
        new = self._manager.freshness.ready()
        return max(0, lacking + new - fresh) + max(0, fresh - new)

    def held(self) -> Collection[Any]:
        return [each for each in self._connections.all if each.state is LEASED]

    def busy(self) -> dict[Any, str]:
        return {each: self._doing(each) for each in self._connections.all if each.state is BUSY}

    def _doing(self, connection: Connection[Any]) -> str:
        if connection not in self._connections.checking:
            return "in a reset"
        return "in a check" if connection.kept_since is None else "in a keep-alive check"


class SharedSupply(Supply):
    """Of connections that have slots. The numbers are those of slots. What is in a check has no
    slot that is leased."""

    __slots__ = ()

    _manager: SharedManager[Any]

    @property
    def _slots(self) -> Slots:
        return self._manager.slots

    def leased(self) -> int:
        return self._slots.leased()  # what was not asked for its slots yet has no lease

    def ready(self) -> int:
        slots = self._slots.heard()
        if not self._record.shrinking.active:
            return slots.free
        return sum([self.room_on(each) for each in tuple(slots.spare)])

    def room_on(self, connection: Connection[Any]) -> int:
        """The number of leases that a connection can be given, measured now."""
        if not self.may_take(connection):
            return 0
        return max(0, self._slots.measure(connection) - len(connection.slots))

    def may_take(self, connection: Connection[Any]) -> bool:
        """Whether it may be given leases although the limit was lowered."""
        shrinking = self._record.shrinking
        return not shrinking.active or shrinking.may_take(len(connection.slots))

    def coming(self) -> int:
        connecting, checking = self._connections.connecting, self._connections.checking
        to_come = self._record.room.obtainable() + len(connecting) + checking.counted_on
        to_come += self._slots.heard().about_to_tell()
        return to_come * self._slots.each + self.ready()

    def slow_at(self) -> float:
        return min(super().slow_at(), self._slots.heard().slow_at())

    def capacity(self) -> int:
        slots, limit = self._slots.heard(), self._record.limit
        if slots.open > limit:
            sizes = nlargest(limit, map(slots.capacity, self._connections.all))
            return sum(sizes)
        return slots.total + (limit - slots.open) * slots.each

    def lacking(self) -> int:
        manager, slots = self._manager, self._slots.heard()
        fresh, new = len(manager.placements.fresh), manager.freshness.ready()
        ready = (self._connections.checking.counted_on - new) * slots.each + self.ready()
        leases = fresh + max(0, manager.demand() - fresh - ready)
        coming = new + slots.about_to_tell()
        return max(0, manager.freshness.connections_for(leases) - coming)

    def held(self) -> Collection[Any]:
        return [slot for each in self._connections.all for slot in each.slots]

    def silent(self) -> int:
        return len(self._slots.heard().silent)

"""C{Load}: what one backend has to do, counted over all its managers together.

Its state is the sum and what it is made of: where there are several managers, the load of each as
last counted, how many of them serve, and those that have changed since. So a change costs the same
whatever the number of managers.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kolus.manager.backend.record import BackendRecord
    from kolus.manager.base import BaseManager

__all__ = ["Load"]

_UNKNOWN = -(1 << 40)
"""A load that must be counted anew. It stays below 0 whatever is added to it."""


class Load:
    """The leases and waiters of one backend, noted for balancers.

    They are noted together in one place, because a balancer that compares two of ten thousand
    backends spends most of its time on fetching what lies far apart in memory. A lease and a
    release of an only manager leave the sum as it is. Several managers and a manager's own queue
    add to it. For everything else C{changed} is called.

    Who has drawn a backend where C{noted - len(idle)} is 1 need not look at another one: nothing is
    leased there and nobody waits, so no backend of the same weight has less to do.

    @ivar noted: what is leased and waits, and one more, and what is C{idle}; above 0 only while it
        is known, and the backend is well and serves.
    @ivar idle: what is idle at the only manager; nothing if there are several.
    @ivar sole: while the load is known, the only manager; C{None} if there are several.
    @ivar stale: the managers to count anew. A manager that changes C{noted} notes itself here, too,
        unless it is the C{sole} one.
    """

    __slots__ = ("_counted", "_record", "_serving", "_sum", "idle", "noted", "sole", "stale")

    def __init__(self, record: BackendRecord) -> None:
        self._record = record
        self.noted = _UNKNOWN
        self.idle: Sized = ()
        self.sole: BaseManager[Any] | None = None
        self.stale: dict[BaseManager[Any], None] = {}
        self._counted: dict[BaseManager[Any], tuple[int, bool]] = {}
        self._sum = self._serving = 0

    def changed(self, member: BaseManager[Any] | None = None) -> None:
        """It must be counted anew.

        @param member: the manager whose load has changed, or that has begun or stopped to serve;
            C{None} if there is none.
        """
        self.noted = _UNKNOWN
        self.sole = None
        if member in self._counted:  # it may have ended while one of its leases was held
            self.stale[member] = None

    def joined(self, member: BaseManager[Any]) -> None:
        """A manager counts here from now on."""
        self._counted[member] = 0, False
        for each in self._record.members[:2]:  # an only manager is not counted here
            self.changed(each)
        self.changed(member)

    def left(self, member: BaseManager[Any]) -> None:
        """A manager does not count here any more."""
        load, serves = self._counted.pop(member)
        self._sum -= load
        self._serving -= serves
        self.stale.pop(member, None)
        self.changed()

    def now(self) -> int:
        """What is leased and waits, and one more; below 0 if it is not known to serve, or well."""
        if self.noted < 0 and self._record.health.is_well:
            members = self._record.members
            if len(members) == 1:
                (member,) = members
                if member.serves():
                    self.sole, self.idle = member, member.connections.idle
                    self.noted = 1 + member.load() + len(self.idle)
            else:
                self._count()
                if self._serving:
                    self.idle = ()
                    self.noted = 1 + self._sum
        return self.noted - len(self.idle)

    def _count(self) -> None:
        while self.stale:
            member, _ = self.stale.popitem()
            if member in self._counted:
                load, served = self._counted[member]
                now = self._counted[member] = member.load(), member.serves()
                self._sum += now[0] - load
                self._serving += now[1] - served

    def lighter(self, other: Load, weight: float, other_weight: float) -> Load | None:
        """The less loaded of two for their weights, this one if they are equal; C{None} unless both
        are noted."""
        if self.noted < 0 or other.noted < 0:
            return None
        load = (self.noted - len(self.idle)) * other_weight
        return other if (other.noted - len(other.idle)) * weight < load else self

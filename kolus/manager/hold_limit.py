"""C{HoldLimit}: revokes leases that are held for longer than the policy's C{hold_limit}.

Its state is the present leases in the order in which they were given: each leasable, with a weak
reference to its lease, or a forgotten lease could not be reclaimed. As all may be held for the same
time, the first is due first.
"""

from __future__ import annotations

import math
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from kolus.errors import LeaseError
from kolus.lease import REVOKED, Lease

if TYPE_CHECKING:
    from kolus.support import Alarm

__all__ = ["HoldLimit"]


class HoldLimit:
    """Knows which leases are held, and which of them for too long."""

    def __init__(self, seconds: float, alarm: Alarm) -> None:
        """
        @param seconds: how long a lease may be held.
        @param alarm: set to when the first lease is due. Its owner then calls C{revoke_due}.
        """
        self._seconds = seconds
        self._alarm = alarm
        self._held: OrderedDict[Any, weakref.ref[Lease[Any]]] = OrderedDict()

    def given(self, leasable: Any, lease: Lease[Any]) -> None:
        """A lease is given."""
        self._held[leasable] = weakref.ref(lease)
        self._alarm.set(leasable.since + self._seconds)

    def settled(self, leasable: Any) -> None:
        """A lease is settled, or reclaimed."""
        self._held.pop(leasable, None)

    def next_due(self) -> float:
        """When the next lease is to be revoked, on the clock; infinity if none is held."""
        return next(iter(self._held)).since + self._seconds if self._held else math.inf

    def revoke_due(self, now: float) -> None:
        """Revoke the leases that are held for too long."""
        while self.next_due() <= now:
            leasable, reference = self._held.popitem(last=False)
            lease = reference()
            if lease is not None:  # else it is forgotten, and about to be reclaimed
                self._revoke(lease, leasable, now)

    def _revoke(self, lease: Lease[Any], leasable: Any, now: float) -> None:
        asked = leasable.take_losses(lease)
        held = now - leasable.since
        lease.end(f"revoked after {held:.3g} s, by hold_limit={self._seconds:g}", REVOKED)
        for told in asked:
            if not told.called:
                told.callback(LeaseError(f"{lease!r} has lost its connection"))

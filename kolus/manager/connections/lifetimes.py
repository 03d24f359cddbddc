"""C{Lifetimes}: spreads the times at which the connections of a manager expire.

Its state is the connections in the order in which they expire; those of them not yet reported as
due to be replaced, in the same order; and the grid of times, one spacing apart, at which they
expire. Only the methods here change it, and C{expires_at} of the connections in it.

Why a grid: a span as long as the lifetime has as many slots as the limit, so a new connection finds
a free one, and no two share one. If each took any time that is a spacing away from all others, the
remaining gaps would soon be too narrow. The first connection after there was none begins a new
grid, at a random time.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from itertools import pairwise
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

__all__ = ["Expires", "Lifetimes"]


class Expires(Protocol):
    """What has a lifetime.

    @ivar chance: a random number, from 0 to below 1, that is multiplied with the jitter.
    @ivar expires_at: when its lifetime is over, on the clock.
    """

    chance: float
    expires_at: float


C = TypeVar("C", bound=Expires)
_expiry = attrgetter("expires_at")


class Lifetimes(Generic[C]):
    """Tells which connections have expired, and before that, which expire soon."""

    def __init__(self, lifetime: float, jitter: float, lead: float) -> None:
        """
        @param lifetime: the longest lifetime of a connection, in seconds.
        @param jitter: the share of the lifetime by which it may be shortened at random.
        @param lead: the seconds before its end from which on a connection may be replaced.
        """
        self._lifetime = lifetime
        self._jitter = jitter
        self._lead = lead
        self._all: list[C] = []
        self._unreported: list[C] = []
        self._origin = 0.0
        self._spacing = 0.0

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: C, now: float, limit: int) -> None:
        """Set C{expires_at} of a new connection.

        It expires at least C{lifetime / limit} before or after every other, and within its own
        lifetime. If possible, it expires when the jitter says. So the first of C{limit} connections
        made at once lives less long than this spacing.

        Connections added under another limit are avoided by only half the spacing. If there are as
        many as the limit already, it goes into the largest gap.
        """
        preferred = now + self._lifetime * (1 - self._jitter * connection.chance)
        connection.expires_at = self._place(preferred, now, limit)
        insort(self._all, connection, key=_expiry)
        insort(self._unreported, connection, key=_expiry)

    def remove(self, connection: C) -> None:
        """Remove a connection, if it is here."""
        for line in (self._all, self._unreported):
            place = bisect_left(line, connection.expires_at, key=_expiry)
            while place < len(line) and line[place].expires_at == connection.expires_at:
                if line[place] is connection:
                    del line[place]
                    break
                place += 1

    def pop_expired(self, now: float) -> list[C]:
        """Remove and return the connections whose lifetime is over, the first to expire first."""
        count = bisect_right(self._all, now, key=_expiry)
        expired = self._all[:count]
        del self._all[:count]
        del self._unreported[: bisect_right(self._unreported, now, key=_expiry)]
        return expired

    def due_to_replace(self, now: float) -> list[C]:
        """The connections that may be replaced from now on, the first to expire first. Each is
        returned once."""
        count = bisect_right(self._unreported, now, key=self._replaceable_at)
        due = self._unreported[:count]
        del self._unreported[:count]
        return due

    def next_due(self) -> float:
        """When C{pop_expired} or C{due_to_replace} returns some, on the clock; else infinity."""
        due = self._all[0].expires_at if self._all else math.inf
        return min(due, self._replaceable_at(self._unreported[0])) if self._unreported else due

    def _replaceable_at(self, connection: C) -> float:
        return connection.expires_at - self._lead

    # The grid

    def _place(self, preferred: float, now: float, limit: int) -> float:
        spacing = self._lifetime / limit
        if not self._all or not 0 < spacing < math.inf:
            self._origin, self._spacing = preferred, spacing
            return preferred
        if spacing != self._spacing:
            self._origin, self._spacing = self._all[-1].expires_at, spacing
        end = now + self._lifetime
        rounding = 4 * math.ulp(end)
        # A slot that is after now only by rounding counts as past. Otherwise a full manager would
        # get it again and again, instead of the last one.
        first = math.floor((now + rounding - self._origin) / spacing) + 1
        last = first + limit - 1
        wanted = min(max(first, self._slot(preferred)), last)
        for slot in self._free_around(wanted):
            if first <= slot <= last:
                return min(self._origin + slot * spacing, end)
        times = [now, *(each.expires_at for each in self._all if now < each.expires_at < end), end]
        before, after = max(pairwise(times), key=lambda gap: gap[1] - gap[0])
        return (before + after) / 2

    def _free_around(self, wanted: int) -> list[int]:
        """The slot C{wanted} if it is free, else the nearest free ones, the nearer first."""
        line = self._all
        place = bisect_left(line, wanted, key=self._slot_of)
        if not self._is_at(place, wanted):
            return [wanted]
        # Along a run of taken slots, slot and place grow alike, so bisection finds its ends.
        places, shift = range(len(line)), wanted - place
        end = bisect_right(places, shift, lo=place, key=self._shift_at) + shift
        start = bisect_left(places, shift, hi=place, key=self._shift_at) + shift
        around = sorted((end, start - 1), key=lambda slot: abs(slot - wanted))
        # They may be taken if two connections share a slot since the limit changed.
        return [
            slot
            for slot in around
            if not self._is_at(bisect_left(line, slot, key=self._slot_of), slot)
        ]

    def _is_at(self, place: int, slot: int) -> bool:
        return place < len(self._all) and self._slot_of(self._all[place]) == slot

    def _shift_at(self, place: int) -> int:
        return self._slot_of(self._all[place]) - place

    def _slot_of(self, connection: C) -> int:
        return self._slot(connection.expires_at)

    def _slot(self, time: float) -> int:
        return round((time - self._origin) / self._spacing)

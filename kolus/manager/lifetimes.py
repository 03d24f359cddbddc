"""C{Lifetimes}: when the connections of a manager become too old, never two at about one time.

Its state is the connections in the order in which they expire, those of them that were not named
yet as due to be replaced, in the same order, and the grid: the times, one spacing apart, at which
they expire. The methods here change it; C{expires_at} of a connection is not to be changed by
anybody else while it is in here.

Why a grid: any stretch as long as the lifetime has just as many slots as the limit, so whoever is
added finds one free, and no two ever share one. Were each to take any time that is a spacing away
from all others, the gaps that are left would soon be too narrow for the rest. The grid begins
anew, at a time that chance chose, with the first connection after there was none.
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

    @ivar chance: its draw, from 0 to below 1, that the jitter is multiplied with.
    @ivar expires_at: when its lifetime is over, on the clock.
    """

    chance: float
    expires_at: float


C = TypeVar("C", bound=Expires)
_expiry = attrgetter("expires_at")


class Lifetimes(Generic[C]):
    """Tells which connections have become too old, and before that, which are about to."""

    def __init__(self, lifetime: float, jitter: float, lead: float) -> None:
        """
        @param lifetime: the oldest, in seconds, that a connection may become.
        @param jitter: the share of the lifetime by which chance may shorten it.
        @param lead: how many seconds before its end a connection may be replaced.
        """
        self._lifetime = lifetime
        self._jitter = jitter
        self._lead = lead
        self._all: list[C] = []
        self._unnamed: list[C] = []
        self._origin = 0.0
        self._spacing = 0.0

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: C, now: float, limit: int) -> None:
        """Let a connection age from now on: set C{expires_at}.

        It expires C{lifetime / limit} or more before or after every other, and within its own
        lifetime; as far as these two allow, at the time that the jitter proposes. Of C{limit}
        connections made at once, the shortest life is therefore less than that spacing.

        Those that were added when the limit was another are avoided by half the spacing only.
        With as many as the limit in here already, it goes where there is most room.
        """
        preferred = now + self._lifetime * (1 - self._jitter * connection.chance)
        connection.expires_at = self._place(preferred, now, limit)
        insort(self._all, connection, key=_expiry)
        insort(self._unnamed, connection, key=_expiry)

    def remove(self, connection: C) -> None:
        """It is gone, or was never here."""
        for line in (self._all, self._unnamed):
            place = bisect_left(line, connection.expires_at, key=_expiry)
            while place < len(line) and line[place].expires_at == connection.expires_at:
                if line[place] is connection:
                    del line[place]
                    break
                place += 1

    def pop_expired(self, now: float) -> list[C]:
        """Take out those whose lifetime is over, the first to expire first."""
        count = bisect_right(self._all, now, key=_expiry)
        expired = self._all[:count]
        del self._all[:count]
        del self._unnamed[: bisect_right(self._unnamed, now, key=_expiry)]
        return expired

    def due_to_replace(self, now: float) -> list[C]:
        """Those that may be replaced from now on, each told once, the first to expire first."""
        count = bisect_right(self._unnamed, now, key=self._replaceable_at)
        due = self._unnamed[:count]
        del self._unnamed[:count]
        return due

    def next_due(self) -> float:
        """When C{pop_expired} or C{due_to_replace} has something, on the clock; else infinity."""
        due = self._all[0].expires_at if self._all else math.inf
        return min(due, self._replaceable_at(self._unnamed[0])) if self._unnamed else due

    def _replaceable_at(self, connection: C) -> float:
        return connection.expires_at - self._lead

    # Where on the grid

    def _place(self, preferred: float, now: float, limit: int) -> float:
        spacing = self._lifetime / limit
        if not self._all or not 0 < spacing < math.inf:
            self._origin, self._spacing = preferred, spacing
            return preferred
        if spacing != self._spacing:
            self._origin, self._spacing = self._all[-1].expires_at, spacing
        end = now + self._lifetime
        rounding = 4 * math.ulp(end)
        # A slot that rounding alone puts after now is over, or a full manager would be given it
        # again and again, instead of the one at the end.
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
        """The slot C{wanted}, or the nearest free ones above and below it, the nearer first."""
        line = self._all
        place = bisect_left(line, wanted, key=self._slot_of)
        if not self._is_at(place, wanted):
            return [wanted]
        # Along a run of taken slots, slot and place grow alike, so bisection finds its ends.
        places, shift = range(len(line)), wanted - place
        end = bisect_right(places, shift, lo=place, key=self._shift_at) + shift
        start = bisect_left(places, shift, hi=place, key=self._shift_at) + shift
        around = sorted((end, start - 1), key=lambda slot: abs(slot - wanted))
        # They may still be taken if there are two in one slot, from before the limit changed.
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

"""C{Members}: the backends of a group as a balancer sees them, with what makes looking quick.

Its state is the live statuses that were looked at so far, the rankings that balancers have asked
for, which members start slowly, whether there was panic when it was last asked, the members of each
zone that was asked for, and the load of each backend when it last changed, if anybody wanted their
sum. It is told of changes by the accounts of its backends.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any, overload

from kolus.backend import Backend, Status
from kolus.candidates import Rank
from kolus.live_status import LiveStatus
from kolus.observatory import Observatory
from kolus.panic import Panic
from kolus.ranking import Ranking

__all__ = ["Members"]


class Members(Sequence[Status]):
    """The live statuses of the backends of a group, in their order.

    @ivar backends: who they are.
    @ivar panic: whether ejected ones may be chosen, too.
    @ivar among: what its statuses say that they are one of: this, or what this is a part of.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        observatory: Observatory,
        panic: Panic,
        watch: Callable[[], object],
        among: Any = None,
    ) -> None:
        """
        @param watch: called when changes are to be told from now on.
        @param among: what its statuses say that they are one of, if not this.
        """
        self.backends = tuple(backends)
        self.panic = panic
        self._observatory = observatory
        self._watch = watch
        self.among = self if among is None else among
        self._live: list[LiveStatus | None] = [None] * len(self.backends)
        self._places: dict[Hashable, int] = {}
        self._rankings: dict[Rank, Ranking] = {}
        self._slow: set[int] = set()
        self._panicked = panic.is_on
        self._zones: dict[str, Members] = {}
        self._loads: list[float] = []
        self._total: float | None = None

    def __len__(self) -> int:
        return len(self.backends)

    @overload
    def __getitem__(self, place: int) -> Status: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Status]: ...
    def __getitem__(self, place: int | slice) -> Status | Sequence[Status]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        live = self._live[place]
        if live is None:
            live = LiveStatus(self.backends[place], self._observatory, self.among)
            self._live[place] = live
        return live

    def lowest(self, rank: Rank) -> Status:
        return self[self._ranking(rank).lowest()]

    def in_zone(self, zone: str) -> Members:
        if zone not in self._zones:
            near = [each for each in self.backends if each.zone == zone]
            self._watch()
            seen_by = (self._observatory, self.panic, self._watch, self.among)
            self._zones[zone] = Members(near, *seen_by)
        return self._zones[zone]

    @property
    def total_load(self) -> float:
        if self._total is None:
            self._watch()
            self._loads = [_outstanding(each) for each in self]
            self._total = sum(self._loads)
        return self._total

    def without(self, exclude: Collection[Backend]) -> Sequence[Status]:
        """The same, without some."""
        places = self._by_key()
        found = {places[each.key] for each in exclude if each.key in places}
        return _Without(self, sorted(found)) if found else self

    # What is told

    def changed(self, backend: Backend) -> None:
        """A backend has less to do than it had, or more."""
        place = self._by_key().get(backend.key)
        if place is None:
            return
        self._rank_again(place)
        if self._total is not None:
            load = _outstanding(self[place])
            self._total += load - self._loads[place]
            self._loads[place] = load
        for zone in self._zones.values():
            zone.changed(backend)

    def _ranking(self, rank: Rank) -> Ranking:
        ranking = self._rankings.get(rank)
        if ranking is None:
            self._watch()
            ranking = Ranking(len(self), lambda place: rank(self[place]))
            self._rankings[rank] = ranking
            self._slow.update(filter(self._starts_slowly, range(len(self))))
        if self._panicked is not self.panic.is_on:  # all that are ejected are another rank
            self._panicked = self.panic.is_on
            self._slow.update(range(len(self)))
        for place in tuple(self._slow):
            self._rank_again(place)
        return ranking

    def _rank_again(self, place: int) -> None:
        for ranking in self._rankings.values():
            ranking.changed(place)
        # While its weight grows its rank falls, and nobody tells.
        if self._starts_slowly(place):
            self._slow.add(place)
        else:
            self._slow.discard(place)

    def _starts_slowly(self, place: int) -> bool:
        account = self._observatory.find_account(self.backends[place].key)
        return account is not None and account.health.starts_slowly

    def _by_key(self) -> dict[Hashable, int]:
        if not self._places:
            self._places = {each.key: place for place, each in enumerate(self.backends)}
        return self._places


class _Without(Sequence[Status]):
    """Members, without those at some places."""

    def __init__(self, members: Members, places: Sequence[int]) -> None:
        self.among = members.among
        self._members = members
        self._places = places
        self.whole = (members, frozenset(places))
        # Of the places here, from which on one more of the members has been left out.
        self._from = [place - left_out for left_out, place in enumerate(places)]

    def __len__(self) -> int:
        return len(self._members) - len(self._places)

    @overload
    def __getitem__(self, place: int) -> Status: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Status]: ...
    def __getitem__(self, place: int | slice) -> Status | Sequence[Status]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        place %= len(self)
        return self._members[place + bisect_right(self._from, place)]

    @property
    def backends(self) -> tuple[Backend, ...]:
        return tuple([each.backend for each in self])

    @property
    def total_load(self) -> float:
        return self._members.total_load

    def lowest(self, rank: Rank) -> Status:
        if not len(self):
            raise IndexError("nothing is left")
        return self._members[self._members._ranking(rank).lowest(self._places)]

    def in_zone(self, zone: str) -> Sequence[Status]:
        left_out = [self._members.backends[place] for place in self._places]
        return self._members.in_zone(zone).without(left_out)


def _outstanding(status: Status) -> float:
    return status.leased + status.waiting

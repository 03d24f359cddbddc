"""C{GroupStatuses}: the statuses of a group's backends, with indices that make balancers fast.

Its state is the live statuses made so far, and the loads found so far. The rest is made when a
balancer first asks for it: the rankings, and with them the places in slow start and whether there
was a panic; the backends by zone; the load of each and their sum. Once a ranking or the sum exists,
records tell the keys of backends that change; these are noted, and looked at on the next query.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Collection, Hashable, Sequence
from typing import TYPE_CHECKING

from kolus.backend import AnyBackend, Backend
from kolus.balance import Rank, lighter_of
from kolus.group.live_status import LiveStatus
from kolus.group.ranking import Ranking
from kolus.group.statuses import Statuses

if TYPE_CHECKING:
    from kolus.health import Panic
    from kolus.manager import Load, Managers
    from kolus.status import Status

__all__ = ["GroupStatuses"]


class GroupStatuses(Statuses):
    """The live statuses of the backends of a group, in their order.

    @ivar backends: the backends, in the same order.
    @ivar loads: what each has to do, as far as it was found.
    @ivar is_even: whether all have the same weight.
    """

    panic: Panic

    def __init__(
        self,
        backends: Sequence[Backend],
        managers: Managers,
        panic: Panic,
        among: Statuses | None = None,
    ) -> None:
        """
        @param among: the sequence that its statuses name as theirs; C{None}: this one.
        """
        self.backends = tuple(backends)
        self.size = len(self.backends)
        self.panic = panic
        self.managers = managers
        self._records = managers.records
        self.among = self if among is None else among
        self._live: list[LiveStatus | None] = [None] * len(self.backends)
        self.loads: list[Load | None] = [None] * len(self.backends)
        self._has_looked = False
        self.is_even = len({each.weight for each in self.backends}) < 2
        self._weights = array("d", [] if self.is_even else [each.weight for each in self.backends])
        self._places: dict[Hashable, int] = {}
        # No set: once it was large, to pop the only element takes long.
        self._told: dict[Hashable, None] = {}
        self._watches = False
        self._rankings: dict[Rank, Ranking] = {}
        self._slow: set[int] = set()
        self._panicked = panic.is_on
        self._by_zone: dict[str, list[Backend]] = {}
        self._zones: dict[str, GroupStatuses] = {}
        self._counted: list[int] = []
        self._total = 0

    def at(self, place: int) -> LiveStatus:
        live = self._live[place]
        if live is None:
            live = LiveStatus(self.backends[place], self.among)
            self._live[place] = live
        return live

    def lighter(self, first: int, second: int) -> Status | None:
        found = self.lighter_load(first, second)
        if found is None:
            return self._lighter_of_unknown(first, second)
        place = first if found is self.loads[first] else second
        return self._live[place] or self.at(place)

    def lighter_load(self, first: int, second: int) -> Load | None:
        """The load of the less loaded of those at two places, the first if they are equal.

        C{None} unless both are noted.
        """
        if not self._has_looked:
            self._has_looked = True
            self.loads = [self._records.find_load(each.key) for each in self.backends]
        one, other = self.loads[first], self.loads[second]
        if one is None or other is None:
            return None
        if self.is_even:
            return one.lighter(other, 1.0, 1.0)
        return one.lighter(other, self._weights[first], self._weights[second])

    def _lighter_of_unknown(self, first: int, second: int) -> Status | None:
        for place in (first, second):
            self.loads[place] = self._records.find_load(self.backends[place].key)
        return lighter_of(self.at(first), self.at(second))

    def lowest(self, rank: Rank) -> Status:
        return self.at(self._ranking(rank).lowest())

    def in_zone(self, zone: str) -> Sequence[Status]:
        near = self._zones.get(zone)
        return self._open_zone(zone) if near is None else near

    def _open_zone(self, zone: str) -> Sequence[Status]:
        if not self._by_zone:
            for each in self.backends:
                self._by_zone.setdefault(each.zone, []).append(each)
        if zone not in self._by_zone:
            return ()
        seen_by = (self.managers, self.panic, self.among)
        near = self._zones[zone] = GroupStatuses(self._by_zone[zone], *seen_by)
        return near

    @property
    def total_load(self) -> int:
        if not self._counted:
            self._watch()
            self._counted = [self.at(place).outstanding for place in range(self.size)]
            self._total = sum(self._counted)
        self._catch_up()
        return self._total

    def without(self, exclude: Collection[AnyBackend]) -> Statuses:
        """The statuses without those of some backends."""
        places = self._by_key()
        keys = map(Backend.key_of, exclude)
        found = {places[each] for each in keys if each in places}
        return _Without(self, sorted(found)) if found else self

    # Changes

    def _watch(self) -> None:
        """Have the records tell of changes from now on."""
        if not self._watches:
            self._watches = True
            self._records.subscriptions.watch(self._told.setdefault, self._by_key())

    def stop(self) -> None:
        """Have the records tell of no more changes: the group has other backends now."""
        if self._watches:
            self._records.subscriptions.unwatch(self._told.setdefault, self._by_key())
        self._watches = True  # so that it never watches again
        for zone in self._zones.values():
            zone.stop()

    def _catch_up(self) -> None:
        """Update the indices for the backends that have changed."""
        while self._told:
            place = self._by_key()[self._told.popitem()[0]]
            if self._rankings:
                self._rank_again(place)
            if self._counted:
                load = self.at(place).outstanding
                self._total += load - self._counted[place]
                self._counted[place] = load

    def _ranking(self, rank: Rank) -> Ranking:
        ranking = self._rankings.get(rank)
        if ranking is None:
            self._watch()
            ranking = Ranking(self.size, lambda place: rank(self.at(place)))
            self._rankings[rank] = ranking
            self._slow.update(filter(self._starts_slowly, range(self.size)))
        if self._panicked is not self.panic.is_on:  # the ranks of all ejected backends change
            self._panicked = self.panic.is_on
            self._slow.update(range(self.size))
        self._catch_up()
        for place in tuple(self._slow):
            self._rank_again(place)
        return ranking

    def _rank_again(self, place: int) -> None:
        for ranking in self._rankings.values():
            ranking.changed(place)
        # In slow start its weight grows and its rank falls with time, and no record tells that.
        if self._starts_slowly(place):
            self._slow.add(place)
        else:
            self._slow.discard(place)

    def _starts_slowly(self, place: int) -> bool:
        record = self._records.find(self.backends[place].key)
        return record is not None and record.health.starts_slowly

    def _by_key(self) -> dict[Hashable, int]:
        if not self._places:
            self._places = {each.key: place for place, each in enumerate(self.backends)}
        return self._places


class _Without(Statuses):
    """C{GroupStatuses} without those at some places."""

    def __init__(self, all_statuses: GroupStatuses, places: Sequence[int]) -> None:
        self.size = all_statuses.size - len(places)
        self.among = all_statuses.among
        self._all = all_statuses
        self._places = places
        self.whole = (all_statuses, frozenset(places))
        self.excluded = {all_statuses.backends[place].key for place in places}
        # The places in this sequence after which one more of the whole is left out.
        self._from = [place - left_out for left_out, place in enumerate(places)]

    def at(self, place: int) -> LiveStatus:
        if not -self.size <= place < self.size:
            raise IndexError(place)
        place %= self.size
        return self._all.at(place + bisect_right(self._from, place))

    @property
    def backends(self) -> tuple[Backend, ...]:
        return tuple([each.backend for each in self])

    @property
    def total_load(self) -> int:
        return self._all.total_load

    def lowest(self, rank: Rank) -> Status:
        if not self.size:
            raise IndexError("no status is left")
        return self._all.at(self._all._ranking(rank).lowest(self._places))

    def in_zone(self, zone: str) -> Sequence[Status]:
        near = self._all.in_zone(zone)
        left_out = [self._all.backends[place] for place in self._places]
        return near.without(left_out) if isinstance(near, GroupStatuses) else near

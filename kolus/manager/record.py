"""C{BackendRecord}: what the managers of one backend have in common: its limit, and how it fares.

Its state is the limit, the managers that draw on it, all their connections and those of them that
are being made, which managers want a connection and may not make it yet, in turn, which connect for
waiters of groups, which may have something idle, how the attempts to connect went, the endpoint
with what it knows of the host's addresses, the backend's
health, its load, and what was counted. It outlives the managers.
A backend has several managers where each ident has its own, and while one that another ident has
replaced lets its last leases come home.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from heapq import heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from kolus.backend import Backend
from kolus.backoff import Rng
from kolus.balance import Feedback
from kolus.events import Why
from kolus.health import Attempts, Ejection, Health
from kolus.manager.shrinking import Shrinking
from kolus.status import Counters
from kolus.support import Alarm

if TYPE_CHECKING:
    from kolus.lease import Lease
    from kolus.manager.queue import Waiter
    from kolus.watching import Owner, Ownership

__all__ = ["BackendRecord", "Holdings", "Keeper", "Member", "Watcher"]

_UNKNOWN = -(1 << 40)
"""A load that nobody has looked at since it changed; it stays below 0 whatever is added to it."""


class Holdings(Protocol):
    """The connections of a member."""

    all: Any
    connecting: Any
    closing: Any

    def oldest_idle(self) -> float:
        """Since when the one is idle that is idle longest; infinity if none is."""

    def close_oldest_idle(self, why: Why) -> None: ...
    def unleased(self) -> int:
        """How many nobody has: they are idle, or being made."""

    def shed(self, count: int) -> None:
        """Close so many of those that nobody has, as the limit was lowered."""


class Member(Protocol):
    """A manager that draws on a record."""

    ident: Hashable

    @property
    def connections(self) -> Holdings: ...
    def wants_connection(self) -> bool:
        """Whether one more connection would be of use to it, and it may be made now."""

    def demand(self) -> int:
        """How many requests it connects for."""

    @property
    def placements(self) -> Any:
        """What it does for waiters of groups: L{Placements}."""

    def ownership_of(self, owner: object) -> Ownership | None:
        """What an owner has of it, if anything."""

    def connections_changed(self) -> None:
        """Look again what can be done: a slot is free."""

    def limit_changed(self) -> None: ...
    def shrinking_changed(self) -> None:
        """The backend has more connections than its limit, or no longer."""

    def is_called(self, backend: Backend) -> None:
        """What messages call its backend, and what else is said of it, has changed."""

    def health_changed(self) -> None:
        """The backend is well, or not any more."""

    def try_connect(self, ident: Hashable, owner: Owner | None = None) -> Lease[Any] | None:
        """See C{IKolusManager}."""

    def serves(self) -> bool:
        """Whether it gives leases now."""

    def load(self) -> int:
        """What is leased and waits."""

    def ready(self) -> int:
        """What is idle and can be leased."""

    def room(self) -> int:
        """As C{Status.room}."""


Watcher = Callable[[Hashable], object]
"""Who keeps backends in an order of its own. It is told the key of one that has less to do than it
had, or more, or whose health is another, and only notes that: it is called in the middle of it."""


class Keeper(Protocol):
    """Who makes known what becomes of a backend's health, and knows the groups."""

    def ejected(self, record: BackendRecord, reason: str, seconds: float) -> None: ...
    def admitted(self, record: BackendRecord, reason: str) -> None: ...
    def probe_is_due(self, record: BackendRecord) -> None: ...
    def unused(self, record: BackendRecord) -> None:
        """It has no managers any more."""

    def group_waiters_of(self, owner: Owner) -> Iterable[Waiter[Any]]:
        """What an owner has waiting in queues of groups."""


class BackendRecord:
    """The slots of one backend, given to its managers in turn.

    @ivar backend: where the managers connect to, as the newest list calls it.
    @ivar limit: most connections of all its managers together.
    @ivar attempts: how connecting went.
    @ivar counters: what has happened so far.
    @ivar health: whether it is to be chosen.
    @ivar all: the connections of all its managers.
    @ivar connecting: those of them that are being made.
    @ivar wanting: the managers that wait for a slot, the first to get one first.
    @ivar placing: the managers that connect for waiters of groups.
    @ivar awaited: the managers at which queues of groups wait for room.
    @ivar arrivals: numbers the requests of all managers that may share a queue.
    @ivar shrinking: lets connections go while there are more than the limit.
    @ivar last_ident: whom its newest manager is for.
    @ivar keeper: who makes known what becomes of the backend's health, and has the queues.
    @ivar watchers: who is told what changes; a live list.
    @ivar feedbacks: who is told how long leases take, by the ids of their balancers; live.
    @ivar noted_load: what is leased and waits at all its managers together, and one more; above 0
        only while it is known, and the backend is well and serves. It is noted for balancers: who
        compares two of ten thousand would else spend most of the time on fetching what lies far
        apart in memory. A manager that leases and takes back adds to it, and C{changed} is called
        for everything else.
    @ivar sole: while its load is known, its only manager; C{None} if it has several.
    """

    # What every choice needs: see L{BaseManager}.
    __slots__ = ("__dict__", "__weakref__", "health", "noted_load", "sole")

    def __init__(
        self,
        limit: int,
        max_connecting: int,
        backend: Backend,
        clock: IReactorTime,
        *,
        ejection: Ejection | None = None,
        rng: Rng = random,
        arrivals: Iterator[int] | None = None,
    ) -> None:
        """
        @param max_connecting: most attempts to connect at a time.
        @param ejection: when failures eject the backend; C{None}: never.
        """
        self.backend = backend
        self.limit = limit
        self._max_connecting = max_connecting
        self.attempts = Attempts()
        self.counters = Counters()
        self._clock = clock
        self.health = Health(self, clock, ejection, rng, self.attempts, self.counters)
        self.members: list[Member] = []
        self.sole: Member | None = None
        self.noted_load = _UNKNOWN
        self.all: set[Any] = set()
        self.connecting: set[Any] = set()
        self.closing: set[Any] = set()
        self.shrinking = Shrinking(self)
        self.wanting: OrderedDict[Member, None] = OrderedDict()
        self.placing: dict[Any, None] = {}
        self.awaited: dict[Any, None] = {}
        self._alarm = Alarm(clock, self.wake)
        self._idlers: list[tuple[float, int, Member]] = []
        self._ties = itertools.count()
        self.arrivals = itertools.count() if arrivals is None else arrivals
        self.watchers: list[Watcher] = []
        self.feedbacks: dict[int, Feedback] = {}
        self._most_feedbacks = 1
        self.keeper: Keeper | None = None
        self.last_ident: Hashable = None
        self._endpoint: IStreamClientEndpoint | None = None

    def endpoint(self, reactor: Any) -> IStreamClientEndpoint:
        """The endpoint that all managers connect through. The first call makes it.

        @raise ValueError: the backend's endpoint string is of no use to this reactor.
        """
        if self._endpoint is None:
            self._endpoint = self.backend.connector(reactor)
        return self._endpoint

    def unused(self) -> int:
        """How many connections more may be made."""
        return self.limit - len(self.all)

    def join(self, member: Member) -> None:
        self.last_ident = member.ident
        self.members.append(member)
        if len(self.members) == 2 and self.members[0].connections.oldest_idle() < math.inf:
            self.has_idle(self.members[0])
        self.changed()

    def leave(self, member: Member) -> None:
        """It has no connections any more and wants none."""
        self.members.remove(member)
        self.want_no_more(member)
        self.placing.pop(member, None)
        self.awaited.pop(member, None)
        self.changed()
        if self.keeper is not None and not self.members:
            self.keeper.unused(self)

    def is_called(self, backend: Backend) -> None:
        """Something else is said of the backend than was, such as its name."""
        if backend is not self.backend:
            self.backend = backend
            for member in self.members:
                member.is_called(backend)

    # Its load

    def changed(self) -> None:
        """What it has to do, or can do, is not what it was."""
        self.noted_load = _UNKNOWN
        self.sole = None
        if self.watchers:
            self.tell_watchers()

    def tell_watchers(self) -> None:
        """The same, where its load is known."""
        for watcher in self.watchers:
            watcher(self.backend.key)

    def load(self) -> int:
        """What is leased and waits, and one more; below 0 if it is not known to serve, or well."""
        if self.noted_load < 0 and self.health.is_well:
            members = self.members
            if [each for each in members if each.serves()]:
                self.noted_load = 1 + sum([each.load() for each in members])
                self.sole = members[0] if len(members) == 1 else None
        return self.noted_load

    # Who learns from it

    def teach(self, feedback: Feedback) -> None:
        """Tell it how long leases take, too."""
        known = self.feedbacks.get(feedback.number)
        if known is not None and known.is_like(feedback):
            return
        if len(self.feedbacks) >= self._most_feedbacks:
            for number, each in tuple(self.feedbacks.items()):
                if each.is_gone():
                    del self.feedbacks[number]
            self._most_feedbacks = max(1, 2 * len(self.feedbacks))
        self.feedbacks[feedback.number] = feedback

    def unteach(self, feedback: Feedback) -> None:
        self.feedbacks.pop(feedback.number, None)

    def observed(self, seconds: float) -> None:
        """A lease was released, or whoever has it said how long the backend took."""
        for feedback in tuple(self.feedbacks.values()):
            feedback.observed(self.backend, seconds)

    # Health

    def ejected(self, reason: str, seconds: float) -> None:
        """Called by the health."""
        self.changed()
        if self.keeper is not None:
            self.keeper.ejected(self, reason, seconds)
        self._health_changed()

    def admitted(self, reason: str) -> None:
        """Called by the health."""
        self.changed()
        if self.keeper is not None:
            self.keeper.admitted(self, reason)
        self._health_changed()

    def probe_is_due(self) -> None:
        """Called by the health."""
        self.changed()
        if self.keeper is not None:
            self.keeper.probe_is_due(self)

    def _health_changed(self) -> None:
        for member in tuple(self.members):
            member.health_changed()

    # Slots

    def has_room(self) -> bool:
        """Whether one more connection may be made, and an attempt is due."""
        return self.unused() > 0 and self.attempts.due_at <= self._clock.seconds()

    def may_connect(self) -> bool:
        """Whether one more attempt may be under way: while the last one failed, one is enough."""
        most = 1 if self.attempts.failures else self._max_connecting
        return len(self.connecting) < most and self.unused() > 0

    def taken(self, member: Member) -> None:
        """A manager has taken a slot. If it was the last, others connect in vain for groups."""
        if self.placing and self.unused() <= 0:
            for each in tuple(self.placing):
                if each is not member:
                    each.placements.tell()

    def want(self, member: Member) -> None:
        """A manager wants a slot, and waits for its turn, or until the next attempt is due."""
        self.wanting[member] = None
        self._ring_when_due()

    def want_no_more(self, member: Member) -> None:
        """It wants none any more, or has got one."""
        self.wanting.pop(member, None)
        if not self.wanting:
            self._alarm.clear()

    def all_want_no_more(self) -> None:
        """The end of one manager is not to serve the next: the backend is drained."""
        self.wanting.clear()
        self._alarm.clear()

    def _ring_when_due(self) -> None:
        due = self.attempts.due_at
        if self.wanting and due > self._clock.seconds():
            self._alarm.set(due)

    def grant(self, member: Member) -> bool:
        """Ask for a slot to connect with.

        @return: whether there is one; if not, the member is told when it is its turn.
        """
        first = self._first_claimant() or member if self.may_connect() else None
        if first is member or (first and member.demand() and not first.demand()):
            self.want_no_more(member)
            return True
        self.want(member)
        if member.demand():
            self._make_room()
        if first:
            first.connections_changed()  # it may not have heard that it is its turn
        return False

    def claims(self, member: Member) -> bool:
        """Whether the connection that comes home to C{member} is to make way for a sibling's.

        It is if nobody there waits for it. Else the slots are divided evenly: a sibling without
        any, or with at least two fewer, is served first. That is the least that gives each its
        turn; to go on from there would close a connection for every other lease.
        """
        if self.room_to_come() > 0:
            return False
        for claimant in self._claimants():
            if claimant is not member and claimant.demand():
                theirs, its = len(claimant.connections.all), len(member.connections.all)
                if not member.demand() or theirs == 0 or theirs + 1 < its:
                    self.wanting.move_to_end(claimant, last=False)
                    return True
        return False

    def wake(self) -> None:
        """A slot is free, or an attempt is over or due: let those who want one connect, in turn."""
        if self.shrinking.active:
            self.shrinking.look()
            self.tell_members()
        if self.wanting and self.attempts.due_at > self._clock.seconds():
            for member in tuple(self.wanting):
                member.connections_changed()  # nothing may be able to serve those who wait there
        while self.wanting and self.may_connect():
            first, used = self._first_claimant(), len(self.all)
            if first is None:
                break
            first.connections_changed()
            if len(self.all) <= used:  # it did not take the slot
                break
        for each in tuple(self.awaited):
            if self.unused() <= 0:
                break
            each.placements.tell_room()
            if not each.placements.wait_for_room:
                self.awaited.pop(each, None)
        self._ring_when_due()
        if self.unused() <= 0 and any(each.demand() for each in self._claimants()):
            self._make_room()

    def resize(self, limit: int) -> None:
        """Set another limit: see C{IKolusManager}."""
        if limit == self.limit:
            return
        self.limit = limit
        self.changed()
        self.shrinking.look()
        for member, count in self.shrinking.surplus():
            if self.limit == limit:  # whoever heard of an attempt's end may have set another
                member.connections.shed(count)
        for member in tuple(self.members):
            member.limit_changed()
        self.wake()

    def _claimants(self) -> Iterator[Member]:
        """Those who want a slot and could use it now, in turn."""
        return (each for each in self.wanting if each.wants_connection())

    def _first_claimant(self) -> Member | None:
        """The first of these where somebody waits, else the first."""
        first = None
        for each in self._claimants():
            if each.demand():
                return each
            first = first or each
        return first

    def tell_members(self) -> None:
        """Something else may be leased than before, at any of them."""
        for member in tuple(self.members):
            member.connections_changed()

    def room_to_come(self) -> int:
        """How many more connections there may be when those that are being closed are gone; below
        0 after the limit was lowered."""
        return self.unused() + len(self.closing)

    # What is idle, where several managers share the limit

    def has_idle(self, member: Member) -> None:
        """A manager that had nothing idle has something, which may have to make way."""
        if len(self.members) > 1:
            entry = (member.connections.oldest_idle(), next(self._ties), member)
            heappush(self._idlers, entry)

    def _make_room(self) -> None:
        """Close the oldest idle connection of a sibling, unless there will be room anyway."""
        oldest = self._oldest_idle() if self.room_to_come() <= 0 else None
        if oldest is not None:
            oldest.connections.close_oldest_idle(Why.DISPLACED)

    def _oldest_idle(self) -> Member | None:
        """The manager with the connection that is idle longest; not of those where somebody waits:
        what is idle there is about to be leased.

        An entry of the heap may be older than what its manager has idle by now; then it is put
        right.
        """
        aside: list[tuple[float, int, Member]] = []
        found = None
        while self._idlers and found is None:
            since, tie, member = self._idlers[0]
            now = member.connections.oldest_idle()
            if now == math.inf:
                heappop(self._idlers)
            elif now != since:
                heapreplace(self._idlers, (now, tie, member))
            elif member.demand():
                aside.append(heappop(self._idlers))
            else:
                found = member
        for each in aside:
            heappush(self._idlers, each)
        return found

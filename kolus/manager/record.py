"""C{BackendRecord}: what the managers of one backend have in common: its limit, and how it fares.

Its state is the limit, the managers that draw on it, those of them that want a connection and
may not make it yet, in turn, the queues that they share with other backends' managers, how the
attempts to connect went, the backend's health, its load, and what was counted. It outlives the
managers.
A backend has several managers where each ident has its own, and while one that another ident has
replaced lets its last leases come home.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.interfaces import IReactorTime

from kolus.backend import Backend
from kolus.backoff import Rng
from kolus.balance import Feedback
from kolus.events import Why
from kolus.health import Attempts, Ejection, Health
from kolus.manager.shrinking import Shrinking
from kolus.status import Counters

if TYPE_CHECKING:
    from kolus.lease import Lease
    from kolus.manager.shared_queue import SharedQueue
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
    @property
    def waiting(self) -> Sized: ...
    def wants_connection(self) -> bool:
        """Whether one more connection would be of use to it, and it may be made now."""

    def ownership_of(self, owner: object) -> Ownership | None:
        """What an owner has of it, if anything."""

    def connections_changed(self) -> None:
        """Look again what can be done: a slot is free."""

    def slots_changed(self) -> None:
        """More may be free for it, or less, by what another has done."""

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
    """Who makes known what becomes of a backend's health, and has the queues: a pool's records."""

    def ejected(self, record: BackendRecord, reason: str, seconds: float) -> None: ...
    def admitted(self, record: BackendRecord, reason: str) -> None: ...
    def probe_is_due(self, record: BackendRecord) -> None: ...
    def unused(self, record: BackendRecord) -> None:
        """It has no managers any more."""

    def queues(self, record: BackendRecord, ident: Hashable) -> Iterable[SharedQueue]:
        """Those that managers of this record for C{ident} may serve."""


class BackendRecord:
    """The slots of one backend, given to its managers in turn.

    @ivar backend: where the managers connect to, as the newest list calls it.
    @ivar limit: most connections of all its managers together.
    @ivar attempts: how connecting went.
    @ivar counters: what has happened so far.
    @ivar health: whether it is to be chosen.
    @ivar wanting: the managers that wait for a slot, the first to get one first.
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
        self.shrinking = Shrinking(self)
        self.wanting: OrderedDict[Member, None] = OrderedDict()
        self.arrivals = itertools.count() if arrivals is None else arrivals
        self.watchers: list[Watcher] = []
        self.feedbacks: dict[int, Feedback] = {}
        self._most_feedbacks = 1
        self.keeper: Keeper | None = None
        self.last_ident: Hashable = None
        self._shared: dict[Hashable, dict[SharedQueue, None]] = {}

    def unused(self) -> int:
        """How many connections more may be made."""
        return self.limit - sum([len(each.connections.all) for each in self.members])

    def connecting(self) -> int:
        """How many are being made."""
        return sum([len(each.connections.connecting) for each in self.members])

    def join(self, member: Member) -> None:
        self.last_ident = member.ident
        self.members.append(member)
        self.changed()

    def leave(self, member: Member) -> None:
        """It has no connections any more and wants none."""
        self.members.remove(member)
        self.wanting.pop(member, None)
        if not any(each.ident == member.ident for each in self.members):
            self._shared.pop(member.ident, {}).clear()
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

    # What it has in common with other backends

    def shared_by(self, ident: Hashable) -> dict[SharedQueue, None]:
        """The queues that the managers for C{ident} serve besides their own: a live dictionary,
        until the last of them has left."""
        if ident not in self._shared:
            queues = () if self.keeper is None else self.keeper.queues(self, ident)
            self._shared[ident] = dict.fromkeys(queues)
        return self._shared[ident]

    def share(self, queue: SharedQueue) -> None:
        """Let the managers that there are serve it, too."""
        if queue.ident in self._shared:
            self._shared[queue.ident][queue] = None

    def unshare(self, queue: SharedQueue) -> None:
        """Let them serve it no more."""
        self._shared.get(queue.ident, {}).pop(queue, None)

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
        return self.connecting() < most and self.unused() > 0

    def grant(self, member: Member) -> bool:
        """Ask for a slot to connect with.

        @return: whether there is one; if not, the member is told when it is its turn.
        """
        first = next(self._claimants(), member) if self.may_connect() else None
        if first is member or (first and member.waiting and not first.waiting):
            self.wanting.pop(member, None)
            return True
        self.wanting[member] = None
        if member.waiting:
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
            if claimant is not member and claimant.waiting:
                theirs, its = len(claimant.connections.all), len(member.connections.all)
                if not member.waiting or theirs == 0 or theirs + 1 < its:
                    self.wanting.move_to_end(claimant, last=False)
                    return True
        return False

    def wake(self) -> None:
        """A slot is free, or an attempt is over: let those who want to connect do so, in turn."""
        if self.shrinking.active:
            self.shrinking.look()
            self.tell_members()
        for member in tuple(self.wanting):
            if not self.may_connect():
                break
            member.connections_changed()
        if self.unused() <= 0 and any(each.waiting for each in self._claimants()):
            self._make_room()
        if len(self.members) > 1:
            for member in tuple(self.members):
                member.slots_changed()

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

    def tell_members(self) -> None:
        """Something else may be leased than before, at any of them."""
        for member in tuple(self.members):
            member.connections_changed()

    def _claimants(self) -> Any:
        """Those who want a slot and could use it now, in turn, first those where somebody waits."""
        ready = [each for each in self.wanting if each.wants_connection()]
        return iter(sorted(ready, key=lambda each: not each.waiting))

    def room_to_come(self) -> int:
        """How many more connections there may be when those that are being closed are gone; below
        0 after the limit was lowered."""
        return self.unused() + sum([len(each.connections.closing) for each in self.members])

    def _make_room(self) -> None:
        """Close the oldest idle connection of a sibling, unless there will be room anyway."""
        if self.room_to_come() > 0:
            return
        # What is idle where somebody waits is about to be leased.
        rosters = [each.connections for each in self.members if not each.waiting]
        oldest = min(rosters, key=lambda each: each.oldest_idle(), default=None)
        if oldest is not None and oldest.oldest_idle() < math.inf:
            oldest.close_oldest_idle(Why.DISPLACED)

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
from kolus.manager.member import Member
from kolus.status import Counters

if TYPE_CHECKING:
    from kolus.manager.shared_queue import SharedQueue

__all__ = ["BackendRecord", "Keeper", "Watcher"]

_UNKNOWN = -1
"""What nobody has looked at since it changed; it is below 0 whatever is idle."""


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
    @ivar last_ident: whom its newest manager is for.
    @ivar keeper: who makes known what becomes of the backend's health, and has the queues.
    @ivar watchers: who is told what changes; a live list.
    @ivar feedbacks: who is told how long leases take, by the ids of their balancers; live.
    @ivar noted: what is leased, waits and is idle at all its managers together, and one more; above
        0 only while it is known, and the backend is well and serves. Without what is C{idle} it is
        the load. It is noted for balancers: who compares two of ten thousand would else spend most
        of the time on fetching what lies far apart in memory. A lease and a release leave it as it
        is, and C{changed} is called for everything else.
    @ivar idle: what is idle at all its managers, while C{noted} is known.
    @ivar sole: while its load is known, its only manager; C{None} if it has several.
    """

    # What every choice needs: see L{BaseManager}.
    __slots__ = ("__dict__", "__weakref__", "health", "idle", "noted", "sole")

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
        self.noted = _UNKNOWN
        self.idle: Sized = ()
        self.wanting: OrderedDict[Member, None] = OrderedDict()
        self.arrivals = itertools.count() if arrivals is None else arrivals
        self.watchers: list[Watcher] = []
        self.feedbacks: dict[int, Feedback] = {}
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
        self.noted = _UNKNOWN
        self.sole = None
        for member in self.members:
            member.smooth = False
        if self.watchers:
            self.tell_watchers()

    def tell_watchers(self) -> None:
        """The same, where its load is known."""
        for watcher in self.watchers:
            watcher(self.backend.key)

    @property
    def noted_load(self) -> int:
        """What is leased and waits, and one more, as far as it is noted; else below 0."""
        return self.noted - len(self.idle)

    def load(self) -> int:
        """What is leased and waits, and one more; below 0 if it is not known to serve, or well."""
        if self.noted < 0 and self.health.is_well:
            members = self.members
            if [each for each in members if each.serves()]:
                idle = [each.connections.idle for each in members]
                self.idle = idle[0] if len(idle) == 1 else _Together(idle)
                self.noted = 1 + sum([each.load() for each in members]) + len(self.idle)
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
            self.changed()

    def unshare(self, queue: SharedQueue) -> None:
        """Let them serve it no more."""
        self._shared.get(queue.ident, {}).pop(queue, None)

    def teach(self, feedback: Feedback) -> None:
        """Tell it how long leases take, too."""
        known = self.feedbacks.get(feedback.number)
        if known is not None and known.is_like(feedback):
            return
        for number, each in tuple(self.feedbacks.items()):
            if each.is_gone():
                del self.feedbacks[number]
        self.feedbacks[feedback.number] = feedback
        self.changed()

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
        self.want(member)
        if member.waiting:
            self._make_room()
        if first:
            first.connections_changed()  # it may not have heard that it is its turn
        return False

    def want(self, member: Member) -> None:
        """Let a member have its turn when a slot is free, or an attempt is due."""
        self.wanting[member] = None
        self.changed()

    def claims(self, member: Member) -> bool:
        """Whether the connection that comes home to C{member} is to make way for a sibling's.

        It is if nobody there waits for it. Else the slots are divided evenly: a sibling without
        any, or with at least two fewer, is served first. That is the least that gives each its
        turn; to go on from there would close a connection for every other lease.
        """
        if self._room_to_come() > 0:
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
        """Set another limit; those who have most give up what is beyond it."""
        if limit == self.limit:
            return
        self.limit = limit
        self.changed()
        room = limit
        members = sorted(self.members, key=lambda each: each.connections.staying())
        for place, member in enumerate(members):
            size = member.connections.staying()
            kept = min(size, room // (len(members) - place))
            room -= kept
            member.connections.shed(size - kept)
        for member in members:
            member.limit_changed()
        self.wake()

    def _claimants(self) -> Any:
        """Those who want a slot and could use it now, in turn, first those where somebody waits."""
        ready = [each for each in self.wanting if each.wants_connection()]
        return iter(sorted(ready, key=lambda each: not each.waiting))

    def _room_to_come(self) -> int:
        return self.unused() + sum([len(each.connections.closing) for each in self.members])

    def _make_room(self) -> None:
        """Close the oldest idle connection of a sibling, unless there will be room anyway; or
        several, above a limit that was lowered."""
        while self._room_to_come() <= 0:
            # What is idle where somebody waits is about to be leased.
            rosters = [each.connections for each in self.members if not each.waiting]
            oldest = min(rosters, key=lambda each: each.oldest_idle(), default=None)
            if oldest is None or oldest.oldest_idle() == math.inf:
                return
            oldest.close_oldest_idle(Why.DISPLACED)


class _Together:
    """Several collections: only their size counts."""

    def __init__(self, parts: list[Sized]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

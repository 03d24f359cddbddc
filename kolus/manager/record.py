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
import random
from collections.abc import Callable, Hashable, Iterator, Sized
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from kolus.health import Attempts, Ejection, Health
from kolus.manager.shrinking import Shrinking
from kolus.manager.turns import Turns
from kolus.status import Counters

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.backoff import Rng
    from kolus.balance import Feedback
    from kolus.manager.base import BaseManager
    from kolus.manager.records import Records

__all__ = ["BackendRecord", "Watcher"]

_UNKNOWN = -(1 << 40)
"""What nobody has looked at since it changed; it stays below 0 whatever is added to it."""


Watcher = Callable[[Hashable], object]
"""Who keeps backends in an order of its own. It is told the key of one that has less to do than it
had, or more, or whose health is another, and only notes that: it is called in the middle of it."""


class BackendRecord:
    """The slots of one backend, given to its managers in turn.

    @ivar backend: where the managers connect to, as the newest list calls it.
    @ivar limit: most connections of all its managers together.
    @ivar attempts: how connecting went.
    @ivar counters: what has happened so far.
    @ivar health: whether it is to be chosen.
    @ivar all: the connections of all its managers.
    @ivar connecting: those of them that are being made.
    @ivar turns: whose turn it is to connect.
    @ivar smooth: the managers that are smooth or pass on: see C{BaseManager}.
    @ivar arrivals: numbers the requests of all managers that may share a queue.
    @ivar shrinking: lets connections go while there are more than the limit.
    @ivar last_ident: whom its newest manager is for.
    @ivar keeper: who makes known what becomes of the backend's health, and has the queues.
    @ivar watchers: who is told what changes; a live list.
    @ivar feedbacks: who is told how long leases take, by the ids of their balancers; live.
    @ivar noted: what is leased and waits at all its managers together, and one more, and what is
        C{idle}; above 0 only while it is known, and the backend is well and serves. It is noted
        for balancers: one that compares two of ten thousand would else spend most of the time on
        fetching what lies far apart in memory. A lease and a release of an only manager leave it as
        it is, several managers and a manager's own queue add to it, and C{changed} is called for
        everything else.
    @ivar idle: what is idle at the only manager; nothing if there are several.
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
        self.members: list[BaseManager[Any]] = []
        self.sole: BaseManager[Any] | None = None
        self.noted = _UNKNOWN
        self.idle: Sized = ()
        self.smooth: dict[BaseManager[Any], None] = {}
        self.all: set[Any] = set()
        self.connecting: set[Any] = set()
        self.closing: set[Any] = set()
        self.shrinking = Shrinking(self)
        self.turns = Turns(self, clock)
        self.arrivals = itertools.count() if arrivals is None else arrivals
        self.watchers: list[Watcher] = []
        self.feedbacks: dict[int, Feedback] = {}
        self._most_feedbacks = 1
        self.keeper: Records | None = None
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

    def join(self, member: BaseManager[Any]) -> None:
        self.last_ident = member.ident
        self.members.append(member)
        self.turns.joined()
        self.changed()

    def leave(self, member: BaseManager[Any]) -> None:
        """It has no connections any more and wants none."""
        self.members.remove(member)
        self.turns.left(member)
        self.smooth.pop(member, None)
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
        if self.smooth:
            for member in self.smooth:
                member.smooth = member.passes_on = False
            self.smooth.clear()
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
                self.sole = members[0] if len(members) == 1 else None
                self.idle = () if self.sole is None else self.sole.connections.idle
                self.noted = 1 + sum([each.load() for each in members]) + len(self.idle)
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
        return len(self.connecting) < most and self.unused() > 0

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
        self.turns.wake()

    def tell_members(self) -> None:
        """Something else may be leased than before, at any of them."""
        for member in tuple(self.members):
            member.connections_changed()

    def room_to_come(self) -> int:
        """How many more connections there may be when those that are being closed are gone; below
        0 after the limit was lowered."""
        return self.unused() + len(self.closing)

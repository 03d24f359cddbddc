"""C{BackendRecord}: what kolus keeps of one backend, shared by the managers of the backend.

Its state is the limit; the managers; all their connections, and those that are connecting and
closing; whose turn it is to connect; the results of attempts to connect; the endpoint, with the
addresses of its host; the health, the load and the counters. It outlives the managers.

A backend has several managers if each ident has its own, and while a manager that another ident has
replaced waits for its last leases.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from kolus.endpoints import Hosts
from kolus.errors import ConnectFailed, MachineFault
from kolus.health import Attempts, Ejection, Health, Shortage
from kolus.manager.backend.budget import Budget
from kolus.manager.backend.feedbacks import Feedbacks
from kolus.manager.backend.load import Load
from kolus.manager.backend.room import Room
from kolus.manager.backend.shrinking import Shrinking
from kolus.manager.backend.turns import Turns
from kolus.manager.backend.unused_managers import UnusedManagers
from kolus.status import Counters

if TYPE_CHECKING:
    from kolus.backend import Backend, MakeEndpoint
    from kolus.backoff import Rng
    from kolus.manager.backend.records import Records
    from kolus.manager.base import BaseManager

__all__ = ["BackendRecord", "Watcher"]

Watcher = Callable[[Hashable], object]
"""Is called with the key of a backend whose load or health changes, so that it can keep an index of
backends. It must only note the key: it is called in the middle of the change."""


class BackendRecord:
    """What kolus keeps of one backend.

    @ivar backend: the backend, with the name and values of the newest list.
    @ivar generation: grows with each C{renew}.
    @ivar limit: the most connections of all its managers together.
    @ivar attempts: the results of attempts to connect.
    @ivar counters: the numbers of events so far.
    @ivar health: whether the backend may be chosen.
    @ivar budget: the limit of all backends of the pool together.
    @ivar all: the connections of all its managers.
    @ivar connecting: those of them that are being made.
    @ivar closing: those of them that are being closed.
    @ivar detached: the connections that have left the pool and keep their slots, or of a pool that
        shares the limits; in C{all}, too.
    @ivar members: its managers.
    @ivar unused_managers: which of these nobody uses.
    @ivar turns: whose turn it is to connect.
    @ivar smooth: the managers that are smooth or pass on: see C{BaseManager}.
    @ivar arrivals: numbers the requests of all managers that may share a queue.
    @ivar room: how many more connections may be made.
    @ivar shrinking: lets connections go while there are more than the limit.
    @ivar last_ident: whom its newest manager is for, or the last that could not be made.
    @ivar has_others: the manager that has shown last that an owner does not hold everything here.
    @ivar make_endpoint: makes the endpoint; C{None}: the backend does.
    @ivar hosts: what is known of the hosts that endpoints made for each connect name.
    @ivar listener: the pool's records, which hear of the backend's health and know the groups.
    @ivar watchers: who is told what changes; a live list.
    @ivar feedbacks: who is told how long leases take.
    @ivar load: what its managers have to do together.
    """

    # What every choice needs: see L{BaseManager}.
    __slots__ = ("__dict__", "__weakref__", "health", "load")

    def __init__(
        self,
        limit: int,
        max_connecting: int | None,
        backend: Backend,
        clock: IReactorTime,
        *,
        ejection: Ejection | None = None,
        rng: Rng = random,
        arrivals: Iterator[int] | None = None,
        budget: Budget | None = None,
        most_members: int | None = None,
        shortage: Shortage | None = None,
        starts_slowly: bool = True,
    ) -> None:
        """
        @param max_connecting: the most attempts to connect at a time; C{None}: no bound.
        @param ejection: when failures eject the backend; C{None}: never.
        @param most_members: how many managers make the longest unused ones end; C{None}: any number
            stays.
        @param budget: the limit of the pool; C{None}: the backend is in no pool.
        @param shortage: what this machine lacks for connects to any backend.
        @param starts_slowly: whether there are few attempts at a time at first.
        """
        self.backend = backend
        self.limit = limit
        self.attempts = Attempts(shortage, starts_slowly=starts_slowly)
        self.counters = Counters()
        self.health = Health(self, clock, ejection, rng, self.attempts, self.counters)
        self.members: list[BaseManager[Any]] = []
        self.unused_managers = UnusedManagers(self, most_members)
        self.load = Load(self)
        self.smooth: dict[BaseManager[Any], None] = {}
        self.all: set[Any] = set()
        self.connecting: set[Any] = set()
        self.closing: set[Any] = set()
        self.budget = Budget() if budget is None else budget
        self.room = Room(self, clock, max_connecting)
        self.detached: set[Any] = set()
        self.shrinking = Shrinking(self)
        self.turns = Turns(self, clock)
        self.arrivals = itertools.count() if arrivals is None else arrivals
        self.watchers: list[Watcher] = []
        self.feedbacks = Feedbacks(self)
        self.listener: Records | None = None
        self.make_endpoint: MakeEndpoint | None = None
        self.last_ident: Hashable = None
        self.has_others: BaseManager[Any] | None = None
        self._endpoint: IStreamClientEndpoint | None = None
        self.hosts = Hosts()
        self.generation = 0

    def __repr__(self) -> str:
        return f"<BackendRecord of {self.backend}>"

    def renew(self) -> None:
        """Read the endpoint string anew, with its files, before the next connect."""
        self._endpoint, self.hosts = None, Hosts()
        self.generation += 1

    def endpoint(self, reactor: Any) -> IStreamClientEndpoint:
        """The endpoint that all managers connect through. The first call makes it.

        @raise ValueError: the backend's endpoint string is of no use to this reactor.
        @raise TypeError: the pool's C{make_endpoint} gave no endpoint.
        @raise ConnectFailed: it cannot be made now, for a C{MachineFault}.
        """
        if self._endpoint is None:
            try:
                make = self.make_endpoint
                its = self.backend
                made = make(reactor, its) if make else its.connector(reactor)
            except MachineFault as fault:
                raise ConnectFailed(self.backend, fault) from fault
            if not IStreamClientEndpoint.providedBy(made):
                kind = type(made).__name__  # not what it gave, which may contain secrets
                raise TypeError(f"make_endpoint gave an object of type {kind}, not an endpoint")
            self._endpoint = made
        return self._endpoint

    # Its connections

    def begin(self, connection: Any) -> None:
        """An attempt to connect has begun."""
        self.all.add(connection)
        self.connecting.add(connection)
        self.budget.begin(self)
        if self.listener is not None:
            self.listener.begun(self, connection)

    def ends(self, connection: Any) -> None:
        """A connection is being closed, or takes no new leases and will be."""
        if connection in self.all:
            self.budget.ends(connection)

    def remove(self, connection: Any) -> None:
        """A connection is gone."""
        self.connecting.discard(connection)
        self.closing.discard(connection)
        if connection in self.all:
            self.all.discard(connection)
            self.budget.remove(self, connection)
            if self.listener is not None and connection not in self.detached:
                self.listener.gone(self, connection)

    def join(self, member: BaseManager[Any]) -> None:
        self.last_ident = member.ident
        self.members.append(member)
        self.unused_managers.add(member)
        self.turns.joined()
        self.load.joined(member)
        self.changed()

    def leave(self, member: BaseManager[Any]) -> None:
        """It has no connections any more and wants none."""
        self.members.remove(member)
        self.unused_managers.discard(member)
        self.turns.left(member)
        self.smooth.pop(member, None)
        if self.has_others is member:
            self.has_others = None
        self.load.left(member)
        self.changed()
        if self.listener is not None and not self.members:
            self.listener.unused(self)

    def describe_as(self, backend: Backend) -> None:
        """Take the name and the values that the newest list has for the backend."""
        if backend is not self.backend:
            self.backend = backend
            for member in self.members:
                member.describe_as(backend)

    # Its load

    def changed(self, member: BaseManager[Any] | None = None) -> None:
        """The load or the capacity has changed: nothing cached is valid any more.

        @param member: as for C{Load.changed}.
        """
        self.load.changed(member)
        if self.smooth:
            for member in self.smooth:
                member.smooth = member.passes_on = False
            self.smooth.clear()
        if self.watchers:
            self.tell_watchers()

    def tell_watchers(self) -> None:
        """Tell the watchers that the load has changed. The cached load stays valid."""
        for watcher in self.watchers:
            watcher(self.backend.key)

    # Health

    def ejected(self, reason: str, seconds: float) -> None:
        """Called by the health."""
        self.changed()
        if self.listener is not None:
            self.listener.ejected(self, reason, seconds)
        self._health_changed()

    def failed_again(self) -> None:
        """Called by the health."""
        if self.listener is not None:
            self.listener.failed_again(self)

    def admitted(self, reason: str) -> None:
        """Called by the health."""
        self.changed()
        if self.listener is not None:
            self.listener.admitted(self, reason)
        self._health_changed()

    def probe_is_due(self) -> None:
        """Called by the health."""
        self.changed()
        if self.listener is not None:
            self.listener.probe_is_due(self)

    def _health_changed(self) -> None:
        for member in tuple(self.members):
            member.health_changed()

    # Slots

    def slot_kept(self, connection: Any) -> None:
        """A connection has left the pool, and keeps its slot until it ends."""
        self.all.add(connection)
        self.budget.begin(self)
        self.detached.add(connection)

    def slot_returned(self, connection: Any) -> None:
        """That connection has ended."""
        self.remove(connection)
        self.detached.discard(connection)
        self.changed()
        self.turns.wake()
        if self.listener is not None and not self.members:
            self.listener.unused(self)

    def must_make_way(self, member: BaseManager[Any]) -> bool:
        """Whether a connection that comes home to a manager is to make way for another manager's,
        of this backend or of another."""
        if self.turns.wanting and self.turns.claims(member):
            return True
        return bool(self.budget.wanting) and self.budget.claims(member)

    def resize(self, limit: int) -> None:
        """Set another limit: see C{IKolusManager}."""
        if limit == self.limit:
            return
        self.limit = limit
        self.changed()
        self.shrinking.look()
        for member, count in self.shrinking.surplus():
            if self.limit == limit:  # a failed request's callback may have set another limit
                member.connections.shed(count)
        for member in tuple(self.members):
            member.limit_changed()
        self.turns.wake()

    def tell_members(self) -> None:
        """Tell all managers that what they may lease has changed."""
        for member in tuple(self.members):
            member.connections_changed()

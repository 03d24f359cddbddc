"""C{Records}: the records of a pool's backends, which outlive the managers.

Its state is the records; those without managers, the longest unused first; the totals of forgotten
records; the limits set by hand; the counter that numbers requests; the backends that are not well;
the lists of groups; the queues of groups; the pools that share the limits; and who is told what
changes.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

from kolus.backend import Backend
from kolus.errors import ConnectFailed
from kolus.health import Phase, Shortage
from kolus.manager.backend.budget import Budget
from kolus.manager.backend.group_lists import GroupLists
from kolus.manager.backend.record import BackendRecord
from kolus.manager.backend.recovery import Recovery
from kolus.manager.backend.subscriptions import Keyed, Subscriptions
from kolus.manager.backend.totals import Totals
from kolus.manager.connections.failed_attempts import FailedAttempts
from kolus.manager.waiting.group_queue_index import GroupQueueIndex
from kolus.watching import Owner, Recorder

if TYPE_CHECKING:
    from kolus.backend import AnyBackend, Backends, MakeEndpoint
    from kolus.backoff import Rng
    from kolus.events import Observer
    from kolus.manager.backend.load import Load
    from kolus.manager.waiting.queue import Waiter
    from kolus.policy import Policy
    from kolus.status import Counters

__all__ = ["Records"]

_MOST_UNUSED = 1000


def _do_nothing(*_: object) -> None:
    """No managers are to be closed: there are none, or the pool is closed."""


class Records:
    """Makes the record of a backend when it is first needed, and forgets the longest unused ones.

    @ivar find: returns the record of the backend with a key; C{None} if there is none.
    @ivar find_load: the same of its load alone: to fetch the record, too, would take as long again.
    @ivar budget: the limit of all backends together.
    @ivar close_unused: called when a record has more managers than so many; C{Managers} sets it.
    @ivar limits: the limits set by hand, by the backends' keys.
    @ivar sick: the records of backends that are not well, by their keys.
    @ivar health_changes: how often C{sick} has changed.
    @ivar recovery: tries the ejected backends.
    @ivar subscriptions: who is told what changes at which backends.
    @ivar sharers: each finds the record of a backend in a pool where this one's connections count,
        too. C{Limits} changes it.
    """

    def __init__(
        self,
        clock: IReactorTime,
        observers: list[Observer],
        rng: Rng,
        probe: Callable[[BackendRecord], object] | None,
        connect: Callable[[BackendRecord], object],
        limit: int | None = None,
        make_endpoint: MakeEndpoint | None = None,
    ) -> None:
        """
        @param probe: probes a backend that is due and in use; C{None}: the next request is the
            probe.
        @param connect: connects to a backend that no request is to wait for.
        @param limit: the most connections of all backends together; C{None}: no limit.
        @param make_endpoint: see C{Pool}.
        """
        self.budget = Budget(limit)
        self.recovery = Recovery(clock, connect)
        self.limits: dict[Hashable, int] = {}
        self.sick: dict[Hashable, BackendRecord] = {}
        self.health_changes = 0
        self._probe = probe
        self._clock = clock
        self._observers = observers
        self._rng = rng
        self._records: dict[Hashable, BackendRecord] = {}
        self.find = self._records.get
        self._loads: dict[Hashable, Load] = {}
        self.find_load = self._loads.get
        self.close_unused: Callable[[BackendRecord, int], object] = _do_nothing
        self._unused: OrderedDict[Hashable, None] = OrderedDict()
        self._forgotten = Totals()
        self.arrivals = itertools.count()
        self._shortage = Shortage()
        self._make_endpoint = make_endpoint
        self.group_queues = GroupQueueIndex()
        self.sharers: list[Callable[[Backend], BackendRecord]] = []
        self._lists = GroupLists()
        self.subscriptions = Subscriptions(self.among)

    def __iter__(self) -> Iterator[BackendRecord]:
        return iter(tuple(self._records.values()))

    def of(self, backend: Backend, policy: Policy) -> BackendRecord:
        """The record of a backend; made if there is none."""
        record = self._records.get(backend.key)
        return self._open(backend, policy) if record is None else record

    def limit(self, backend: Backend, policy: Policy) -> int:
        """The most connections that a backend should have now."""
        own = self.own_limit(backend)
        return policy.limit if own is None else own

    def own_limit(self, backend: Backend) -> int | None:
        """The backend's own limit: set by hand, or else of the newest list that gives one, or else
        of C{backend}; C{None} if there is none."""
        by_hand = self.limits.get(backend.key)
        return self._lists.limit(backend) if by_hand is None else by_hand

    def backend(self, given: AnyBackend) -> Backend:
        """The backend that a string or a pair stands for.

        @raise ValueError: it is invalid.
        @raise TypeError: it is not a backend.
        """
        record = self.find(given) if isinstance(given, str) else None  # parsing it is slow
        return Backend.of(given) if record is None else record.backend

    def called(self, backend: Backend) -> Backend:
        """The backend as it is in the newest list that has it; C{backend} if none has."""
        return self._lists.called(backend)

    def _open(self, backend: Backend, policy: Policy) -> BackendRecord:
        backend = self.called(backend)
        record = BackendRecord(
            self.limit(backend, policy),
            policy.max_connecting,
            backend,
            self._clock,
            ejection=policy.ejection,
            rng=self._rng,
            arrivals=self.arrivals,
            budget=self.budget,
            most_members=policy.max_idents,
            shortage=self._shortage,
            starts_slowly=policy.backoff is not None,
        )
        record.listener = self
        record.make_endpoint = self._make_endpoint
        self._records[backend.key] = record
        self._loads[backend.key] = record.load
        self.subscriptions.attach(record)
        self.unused(record)
        return record

    def counters(self) -> Counters:
        """The sum of the counters of all records, forgotten ones included."""
        return sum([each.counters for each in self], self._forgotten.counters())

    # Forgetting

    def unused(self, record: BackendRecord) -> None:
        """Called by a record that has no manager. If there are too many of these, the longest
        unused are forgotten, except those that are still in use."""
        self._unused[record.backend.key] = None
        self._unused.move_to_end(record.backend.key)
        while len(self._unused) > _MOST_UNUSED:
            oldest = self._records.get(self._unused.popitem(last=False)[0])
            if oldest is not None and not self._is_of_use(oldest):
                self._forget(oldest)

    def _is_of_use(self, record: BackendRecord) -> bool:
        needed = record.members or record.detached or record.health.is_held
        return bool(needed or record.turns.outside) or record.backend.key in self._lists

    def _forget(self, record: BackendRecord) -> None:
        del self._records[record.backend.key], self._loads[record.backend.key]
        if self.sick.pop(record.backend.key, None) is not None:
            self.health_changes += 1
        record.listener = None
        record.health.stop()
        self.recovery.remove(record)
        self._forgotten.expect(record)

    def begun(self, record: BackendRecord, connection: Any) -> None:
        """Called by a record that has one more connection."""
        for sharer in self.sharers:
            sharer(record.backend).slot_kept(connection)

    def gone(self, record: BackendRecord, connection: Any) -> None:
        """Called by a record that has lost a connection. The slot is for those who wait here; the
        pools that share the limits get it if they leave it."""
        for sharer in self.sharers:
            self._clock.callLater(0, sharer(record.backend).slot_returned, connection)

    def make_way_elsewhere(self, record: BackendRecord, is_of_pool: bool) -> None:
        """Somebody waits for a slot, and nothing that is idle here can make way: have a pool that
        shares the limits do so.

        @param is_of_pool: whether the limit over all backends binds, not the backend's own.
        """
        for sharer in self.sharers:
            other = sharer(record.backend)
            other.budget.give_way() if is_of_pool else other.turns.give_way()

    def connect_failed(
        self, backend: Backend, policy: Policy, why: Exception, ident: Hashable
    ) -> ConnectFailed:
        """A manager could not be made. This counts as a failed attempt to connect.

        @return: the error for the request.
        """
        record = self.of(backend, policy)
        record.last_ident = ident
        attempts, recorder = record.attempts, self._recorder(record)
        failures = FailedAttempts(record, self._clock, policy, self._rng, recorder)
        if failures.note(why, attempts.failures, self._clock.seconds()):
            record.health.connect_failed(why)
        error, delay = attempts.last_error, attempts.due_at - self._clock.seconds()
        for member in tuple(record.members):
            member.connections_changed()  # they wait for the next attempt, too
        return ConnectFailed(backend, error or why, max(0.0, delay))

    # Called by records when health changes

    def ejected(self, record: BackendRecord, reason: str, seconds: float) -> None:
        self.sick[record.backend.key] = record
        self.health_changes += 1
        self._recorder(record).ejected(reason, seconds)
        self.recovery.add(record)
        self._tell_queues(record.backend)

    def failed_again(self, record: BackendRecord) -> None:
        self.recovery.add(record)

    def admitted(self, record: BackendRecord, reason: str) -> None:
        self.sick.pop(record.backend.key, None)
        self.recovery.remove(record)
        self.unused(record)
        self.health_changes += 1
        self._recorder(record).admitted(reason)
        self._tell_queues(record.backend)

    def probe_is_due(self, record: BackendRecord) -> None:
        self._recorder(record).probe_is_due()
        self._tell_queues(record.backend)  # a probe that decided nothing goes elsewhere
        if record.backend.key in self._lists or (record.members and not record.health.is_given_up):
            self._probe_if_due(record)

    def _probe_if_due(self, record: BackendRecord) -> None:
        # An observer of C{ProbeDue} may have ejected the backend by hand.
        if self._probe is not None and record.health.phase is Phase.DUE:
            self._probe(record)

    def _recorder(self, record: BackendRecord) -> Recorder:
        return Recorder(record.backend, None, record.counters, self._observers)

    # Lists of groups

    def enlist(self, backends: Backends) -> None:
        """Add the list of a group."""
        self._lists.add(backends)
        for record in self.among(backends):
            record.describe_as(backends[record.backend.key])

    def delist(self, backends: Backends) -> None:
        """Remove the list of a group."""
        self._lists.remove(backends)
        for record in self.among(backends):
            if record.backend.key in self._lists:
                record.describe_as(self.called(record.backend))
            elif not self._is_of_use(record):
                self.unused(record)

    def probe_those_due(self, keyed: Keyed) -> None:
        """Probe the backends that became due while they were not in use."""
        for record in tuple(self.sick.values()):
            if record.backend.key in keyed:
                self._probe_if_due(record)

    def group_waiters_of(self, owner: Owner) -> Iterable[Waiter[Any]]:
        return self.group_queues.waiters_of(owner)

    def shortage_began(self) -> None:
        """Connects to all backends pause, for what this machine lacks."""
        for record in self:
            record.turns.due_changed()

    def shortage_over(self) -> None:
        """The pause of all backends, for what this machine lacked, is over early."""
        for record in self:
            record.turns.due_changed()
            record.turns.wake()

    def tell_watchers(self, backend: Backend | None) -> None:
        """Tell queues and watchers that a backend has changed; C{None}: all backends."""
        self._tell_queues(backend)
        self.subscriptions.tell_watchers(backend)

    def _tell_queues(self, backend: Backend | None) -> None:
        for each in tuple(self.group_queues.openings):
            each.look_anew(None if backend is None else [backend.key])

    def among(self, keys: Keyed) -> Iterator[BackendRecord]:
        """The existing records of the backends with these keys."""
        if len(keys) < len(self._records):
            found = [self._records.get(key) for key in keys]
            return iter([each for each in found if each is not None])
        return iter([each for key, each in self._records.items() if key in keys])

    def stop(self) -> None:
        """The pool is closed: stop the timers."""
        self.recovery.stop()
        self.close_unused = _do_nothing
        for record in self:
            record.health.stop()

"""C{Ledger}: a test's own record of a pool on a clock with fake backends, to compare it with.

Its state is the requests made, the leases given and not yet settled, the pool's events, and the
most connections that each backend may have now. A trap is code that runs at the next event of some
kind, or in the next hook or protocol. So anything may call back into the pool from anywhere.
"""

from __future__ import annotations

import gc
import itertools
import random
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure

from kolus import Backend, Lease, Policy, Pool
from kolus.events import Event, Retired, Why
from kolus.manager import Connection, connector, records
from kolus.manager.queue import Waiter
from kolus.metrics import Metrics
from kolus.testing import FakeBackend
from kolus.watching import Owner, Ownership, owners
from tests.rigs.speakers import Speaker

Manager = Any


@contextmanager
def repeatable() -> Iterator[None]:
    """Make all runs with one seed equal.

    Sets keep the order in which their elements were made. Only a ledger collects garbage."""
    gc.disable()
    try:
        with (
            patch.object(connector, "Connection", _Connection),
            patch.object(owners, "Ownership", _Ownership),
            patch.object(records, "_MOST_UNUSED", records._MOST_UNUSED),
        ):
            yield
    finally:
        gc.enable()


class Unusable(ValueError):
    """The error when a manager cannot be made."""


class _Numbers:
    """Consecutive numbers as hashes. Each ledger begins anew: the order in a set depends on the
    number, so the same run must give the same numbers."""

    ahead = itertools.count()
    ledgers = itertools.count(1)


class _Connection(Connection[Any]):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._number = next(_Numbers.ahead)

    def __hash__(self) -> int:
        return self._number


class _Ownership(Ownership):
    def __init__(self, owner: Owner, waiting: dict[Ownership, None]) -> None:
        super().__init__(owner, waiting)
        self._number = next(_Numbers.ahead)

    def __hash__(self) -> int:
        return self._number


def may_serve(manager: Manager, asked: Any) -> bool:
    """Whether a manager could serve a request that waits."""
    if asked in manager.waiting:
        return True
    if asked in manager.placements.waiters:
        return True
    queues = [each for each in manager.groups if each.may_serve(manager.backend)]
    return any(asked in each.waiting for each in queues)


class Request:
    """One request for a lease.

    @ivar fired: how often its Deferred has fired.
    @ivar ahead: the requests that waited when it was made.
    @ivar then: the action when the lease comes; C{"ask"} is done also if the request fails.
    @ivar anywhere: whether it waits for several backends at once.
    @ivar exclude: the backends that must not serve it.
    """

    def __init__(self, ident: Hashable, backend: Backend, then: str, ahead: list[Request]) -> None:
        self.ident = ident
        self.backend = backend
        self.owner: Any = None
        self.then = then
        self.ahead = ahead
        self.fired = 0
        self.deferred: Deferred[Any] | None = None
        self.manager: Manager = None
        self.anywhere = False
        self.exclude: list[Backend] = []


class Ledger:
    """A pool, its backends (the second has its own limit), and the record of what happened."""

    def __init__(
        self,
        policy: Policy,
        seed: int,
        kind: type[Speaker] = Speaker,
        *,
        observed: bool = True,
        count: int = 2,
    ) -> None:
        """
        @param kind: what makes the protocols.
        @param count: how many backends there are.
        @param observed: whether the pool has an observer. Without one, leases take the fast path.
        """
        _Numbers.ahead = itertools.count()
        if next(_Numbers.ledgers) % 20 == 0:
            gc.collect()
        self.clock = Clock()
        self.fakes = [FakeBackend(self.clock) for _ in range(count)]
        names = ("one", "two", "three", "four")
        self.backends = [
            Backend(fake, name=name, limit=2 if name == "two" else None, zone=name[:1])
            for fake, name in zip(self.fakes, names, strict=False)
        ]
        self.ceiling = {each: each.limit or policy.limit for each in self.backends}
        self.managers: list[Manager] = []
        self.requests: list[Request] = []
        self.held: list[Lease[Any]] = []
        self.owner_of: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        self.forgotten: Counter[Backend] = Counter()
        self.told: defaultdict[Backend, Counter[str]] = defaultdict(Counter)
        self.reasons: set[Why] = set()
        self.metrics = Metrics()
        self.traps: dict[str, Callable[[], object]] = {}
        self.trapped = self.was_limited = False
        self.most_in_pool = 0
        self.blows = 0
        self.complaints: list[str] = []
        self.hooks = dict.fromkeys(("prepare", "check", "reset"), "succeed")
        self.chance = random.Random(seed)
        self.observed = observed
        self.forgets = False
        records._MOST_UNUSED = 1000
        self.unusable: set[Backend] = set()
        self.losses: weakref.WeakKeyDictionary[Any, list[object]] = weakref.WeakKeyDictionary()
        self.pool: Pool[Any] = Pool(
            self.clock,
            lambda: kind(self),
            policy=policy,
            make_manager=self._make,
            observers=[self.metrics, self._observe] if observed else [],
            rng=random.Random(seed),
        )

    def forget_backends(self) -> None:
        """Let the pool remember only one unused backend."""
        self.forgets = True
        records._MOST_UNUSED = 1

    def _make(self, backend: Backend, ident: Hashable) -> Manager:
        if backend in self.unusable:
            raise Unusable(f"{backend} is of no use")
        manager = self.pool._make(backend, ident)
        self.managers.append(manager)
        return manager

    def backend_of(self, fake: FakeBackend) -> Backend:
        return self.backends[self.fakes.index(fake)]

    def record(self, backend: Backend) -> Any:
        return self.pool._managers.records.find(backend.key)

    def used(self, backend: Backend) -> int:
        """The slots of a backend that are taken."""
        return sum(len(each.connections.all) for each in self.managers if each.backend == backend)

    # What happens

    def _observe(self, event: Event) -> None:
        name = type(event).__name__
        self.told[event.backend][name] += 1
        if isinstance(event, Retired):
            self.reasons.add(event.why)
        self.look_at_limit(event.backend)
        self.spring(name)

    def look_at_limit(self, backend: Backend) -> None:
        """Check the limit. After a smaller limit the surplus may remain, but it must only fall."""
        used, record = self.used(backend), self.record(backend)
        if used > self.ceiling[backend]:
            self.complaints.append(f"{used} connections to {backend}, not {self.ceiling[backend]}")
        if record is not None:
            self.ceiling[backend] = max(record.limit, used)

    def spring(self, name: str) -> None:
        trap = self.traps.pop(name, None)
        if trap is not None:
            self.trapped = True
            trap()

    def heal(self) -> None:
        """Make everything succeed from now on."""
        self.traps.clear()
        self.unusable.clear()
        self.hooks = dict.fromkeys(self.hooks, "succeed")
        for fake in self.fakes:
            fake._script.clear()
            fake.accept(always=True)
        self.pool.resume()
        self.pool.resize_pool(None)

    def hook(self, name: str) -> Callable[[Any], object]:
        """The hook of that name; it does what C{hooks} says."""

        def run(protocol: Any) -> object:
            self.spring(name)
            how = self.hooks[name]
            if how == "raise":
                raise ValueError("the hook raises")
            if how == "abort":
                self.blows += 1
                protocol.transport.abortConnection()
            if how == "never":
                return Deferred()
            if how == "late":
                return deferLater(self.clock, 0.5)
            return how != "refuse"

        return run

    # Requests and leases

    def ask(
        self,
        ident: Hashable,
        backend: Backend,
        timeout: float | None = None,
        owner: Any = None,
        then: str = "hold",
        manager: Manager = None,
    ) -> None:
        """
        @param manager: whom to ask; the backend's if C{None}.
        """
        request = Request(ident, backend, then, self.waiting())
        request.owner = owner
        self.requests.append(request)
        try:
            asked = self.pool.connect(ident, manager or backend, timeout=timeout, owner=owner)
        except Unusable:
            asked = fail()
        self._asked(request, asked)

    def ask_any(
        self,
        ident: Hashable,
        connect: Callable[..., Deferred[Any]],
        exclude: list[Backend],
        timeout: float | None,
        owner: Any,
        then: str,
    ) -> None:
        """
        @param connect: a group's C{connect}, or a C{select} that knows its list.
        """
        request = Request(ident, self.backends[0], then, self.waiting())
        request.owner = owner
        request.anywhere, request.exclude = True, exclude
        self.requests.append(request)
        self._asked(request, connect(ident, timeout=timeout, owner=owner, exclude=exclude))

    def _asked(self, request: Request, asked: Deferred[Any]) -> None:
        request.deferred = asked
        asked.addCallbacks(
            self._served, self._failed, callbackArgs=(request,), errbackArgs=(request,)
        )
        if isinstance(asked, Waiter) and asked.queue is not None:
            if asked.placement is not None:
                request.manager = asked.placement
            else:
                (request.manager,) = [each for each in self.managers if asked in each.waiting]

    def try_connect(self, ident: Hashable, backend: Backend, owner: Any = None) -> None:
        ahead = self.waiting()
        lease = self.pool.try_connect(ident, backend, owner=owner)
        if lease is not None:
            self._take(lease, ident, owner, ahead)

    def waiting(self) -> list[Request]:
        """The requests whose callers wait."""
        return [each for each in self.requests if each.deferred is not None and not each.fired]

    def _failed(self, failure: Failure, request: Request) -> None:
        request.fired += 1
        if request.then == "ask" and not failure.check(CancelledError):
            self.ask(request.ident, request.backend, 1.0, then="release")

    def _served(self, lease: Lease[Any], request: Request) -> None:
        request.fired += 1
        manager = lease.manager
        if manager.backend in request.exclude:
            self.complaints.append("a request was served by a backend that it excludes")
        if request.manager not in (None, manager) and not request.anywhere:
            self.complaints.append("a request was served by another manager than it waits for")
        self._take(lease, request.ident, request.owner, request.ahead)
        self.look_at_loads()
        if request.then == "release":
            self.settle(lease, "release")
        elif request.then == "finish":
            self.settle(lease, "finished")
        elif request.then == "ask":
            self.ask(request.ident, request.backend, 1.0, then="release")

    def look_at_loads(self) -> None:
        """Check the cached loads. They must be right at any time, even in the middle of a step."""
        for record in self.pool._managers.records:
            members, load = record.members, record.noted_load
            if load >= 0:
                truth = 1 + sum(each.load() for each in members)
                serves = any(each.serves() for each in members)
                if load != truth or not (serves and record.health.is_well):
                    self.complaints.append(f"a load of {load} is noted: {truth}, {serves}")
            if record.sole is not None and (load < 0 or members != [record.sole]):
                self.complaints.append(f"{record.sole} is noted as the only manager: {members}")
            record.load()  # or nothing would be noted

    def _take(self, lease: Lease[Any], ident: Hashable, owner: Any, ahead: list[Request]) -> None:
        manager: Manager = lease.manager
        if any(may_serve(manager, each.deferred) for each in ahead):
            passed = [each.deferred for each in ahead if may_serve(manager, each.deferred)]
            self.complaints.append(f"{passed} had asked before somebody whom {manager} served")
        if lease.ident != ident:
            self.complaints.append(f"{ident!r} was given a lease of {lease.ident!r}")
        if lease.held:  # not if its owner has ended just now
            transport = lease.protocol.transport
            if not (transport.connected or self.trapped):
                self.complaints.append("a lease was given of a connection that was lost")
            transport.write(str(ident).encode())
            self.held.append(lease)
            if self.chance.random() < 0.5:
                lease.when_lost().addBoth(self.losses.setdefault(lease, []).append)
            self.owner_of[lease] = owner

    def settle(self, lease: Lease[Any], how: str) -> None:
        """Settle a lease, unless a trap or its owner did so before."""
        if lease in self.held:
            self.held.remove(lease)
        if not lease.held:
            return
        if how == "failed":
            lease.finished(failed=True)
        else:
            getattr(lease, how)()

    def forget(self, which: int) -> None:
        """Drop the last reference to a lease."""
        lease = self.held.pop(which % len(self.held))
        if lease.held:
            self.forgotten[lease.backend] += 1
        gone = weakref.ref(lease)
        del lease
        if gone() is not None:
            gc.collect()
        assert gone() is None, "somebody keeps a lease that was forgotten"

    def reclaim(self) -> None:
        """Collect garbage, so that forgotten leases in reference cycles are reclaimed."""
        if any(map(self.forgotten_at, self.backends)):
            gc.collect()
            self.clock.advance(0)

    def forgotten_at(self, backend: Backend) -> int:
        """The number of forgotten leases that are not reclaimed yet."""
        told, counters = self.told[backend], self.pool.counters(backend)
        reclaimed = told["Forgotten"] if self.forgets else counters.forgotten
        return self.forgotten[backend] - reclaimed

    def holding(self) -> list[Lease[Any]]:
        """The leases that the test holds, without those that ended with their owners."""
        self.held = [each for each in self.held if each.held]
        return self.held

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
from collections.abc import Callable, Hashable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure

from kolus import Backend, Lease, LeaseError, Policy, Pool
from kolus.connection import ConnectionState
from kolus.events import Event, Finished, Retired, Why
from kolus.manager import BackendRecord
from kolus.manager.backend import records
from kolus.manager.waiting.queue import Waiter
from kolus.metrics import Metrics
from kolus.support import steady
from kolus.support.steady import _Call
from kolus.testing import FakeBackend
from tests.rigs.decisions import Decisions
from tests.rigs.pending import Block, Detached, Request, Wish
from tests.rigs.repeatable import begin_anew
from tests.rigs.speakers import SLOTS, Speaker

Manager = Any


def noted_load(record: BackendRecord) -> int:
    """What C{Load.now} would give if it is noted, and need not be counted first; else below 0."""
    return record.load.noted - len(record.load.idle)


class Unusable(ValueError):
    """The error when a manager cannot be made."""


class Ledger:
    """A pool, its backends (the second has its own limit), and the record of what happened."""

    def __init__(
        self,
        policy: Policy,
        seed: int,
        kind: type[Speaker] = Speaker,
        limit: int | None = None,
        *,
        observed: bool = True,
        count: int = 2,
    ) -> None:
        """
        @param kind: what makes the protocols.
        @param limit: the pool's.
        @param count: how many backends there are.
        @param observed: whether the pool has an observer. Without one, leases take the fast path.
        """
        begin_anew()
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
        self._unanswered: list[Request] = []
        self.held: list[Lease[Any]] = []
        self.blocks: list[Block] = []
        self.wishes: list[Wish] = []
        self.detached: list[Detached] = []
        self.made: list[Speaker] = []
        self.numbers = itertools.count()
        self.taken_at: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()
        self.owner_of: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        self.forgotten: Counter[Backend] = Counter()
        self.told: defaultdict[Backend, Counter[str]] = defaultdict(Counter)
        self.reasons: set[Why] = set()
        self.metrics = Metrics()
        self.traps: dict[str, Callable[[], object]] = {}
        self.trapped = False
        self._decisions = Decisions()
        self.was_limited = limit is not None
        self.wanted_fresh = False
        self.most_in_pool = 0
        self.blows = 0
        self.complaints: list[str] = []
        self.hooks = dict.fromkeys(("prepare", "check", "reset", "clean"), "succeed")
        self.chance = random.Random(seed)
        self.observed = observed
        self.forgets = False
        self.first_slots = SLOTS
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
        self.pool.resize_pool(limit)  # it may be below min_idle, unlike a limit from the start

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
        its = [each for each in self.managers if each.backend == backend]
        count = sum(len(each.connections.all) for each in its)
        for each in self.kept(backend):
            here = [one for manager in its for one in manager.connections.all]
            count += each.protocol not in [getattr(one, "protocol", None) for one in here]
        return count

    def used_in_pool(self) -> int:
        return sum(map(self.used, self.backends))

    def kept(self, backend: Backend) -> list[Detached]:
        """What has left the pool and keeps its slot."""
        gone = [each for each in self.detached if each.backend == backend and each.is_open]
        return [each for each in gone if each.keeps_slot]

    def made_at(self, side: int) -> list[Speaker]:
        """The protocols of the open connections to a backend."""
        transports = [each.transport for each in self.fakes[side].connections]
        return [each for each in self.made if each.transport in transports]

    # What happens

    def _observe(self, event: Event) -> None:
        name = type(event).__name__
        self.told[event.backend][name] += 1
        if isinstance(event, Retired):
            self.reasons.add(event.why)
        if isinstance(event, Finished) and event.unclean:
            self.told[event.backend]["Unclean"] += 1
        self.look_at_limit(event.backend)
        self.spring(name)

    def look_at_limit(self, backend: Backend) -> None:
        """Check the limit. After a smaller limit the surplus may remain, but it must only fall."""
        used, record = self.used(backend), self.record(backend)
        if used > self.ceiling[backend]:
            self.complaints.append(f"{used} connections to {backend}, not {self.ceiling[backend]}")
        if record is not None:
            self.ceiling[backend] = max(record.limit, used)
        total, limit = self.used_in_pool(), self.pool.limit
        if limit is not None and total > max(limit, self.most_in_pool):
            self.complaints.append(f"{total} connections, not {max(limit, self.most_in_pool)}")
        self.most_in_pool = total

    def spring(self, name: str) -> None:
        trap = self.traps.pop(name, None)
        if trap is not None:
            self.trapped = True
            self._decisions.note(self.managers, self.waiting())
            trap()

    def heal(self) -> None:
        """Make everything succeed from now on."""
        self.traps.clear()
        self.unusable.clear()
        self.first_slots = SLOTS
        self.hooks = dict.fromkeys(self.hooks, "succeed")
        for speaker in self.made:
            speaker.is_silent = False
        for each in self.detached:
            if each.keeps_slot:
                each.protocol.transport.abortConnection()
        for fake in self.fakes:
            fake._script.clear()
            fake.accept(always=True)
        self.pool.resume()
        self.pool.resize_pool(None)

    def now(self) -> float:
        """The pool's time."""
        return self.pool._clock.seconds()

    def set_back(self, seconds: float) -> None:
        """Set the clock of this machine back. What backends do takes as long as before."""
        self.clock.rightNow -= seconds
        for call in self.clock.calls:
            if not isinstance(getattr(call.func, "__self__", None), _Call):
                call.time -= seconds
        self.clock._sortCalls()
        self.clock.advance(0)  # the new reading may be rounded up to the time of a call

    def hook(self, name: str) -> Callable[[Any], object]:
        """The hook of that name; it does what C{hooks} says."""

        def run(protocol: Any) -> object:
            self.spring(name)
            how = self.hooks[name]
            if name == "check" and protocol.is_silent:
                return Deferred()
            if name == "clean" and protocol.under_way:
                return False
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
        *,
        fresh: bool = False,
    ) -> None:
        """
        @param manager: whom to ask; the backend's if C{None}.
        """
        request = self._request(ident, backend, then, owner, fresh)
        how: Any = {"timeout": timeout, "owner": owner, "fresh": fresh}
        try:
            asked = self.pool.connect(ident, manager or backend, **how)
        except Unusable:
            asked = fail()
        self._asked(request, asked)
        asked.addCallbacks(
            self._served, self._failed, callbackArgs=(request,), errbackArgs=(request,)
        )

    def enter(
        self, ident: Hashable, backend: Backend, timeout: float | None, owner: Any, fresh: bool
    ) -> None:
        """Ask by C{async with}."""
        request = self._request(ident, backend, "hold", owner, fresh)
        how: Any = {"timeout": timeout, "owner": owner, "fresh": fresh}
        try:
            asked = self.pool.connect(ident, backend, **how)
        except Unusable:
            request.fired += 1
            return
        self._asked(request, asked)

        def served(lease: Lease[Any]) -> None:
            request.fired += 1
            self._check_served(lease, request)

        def failed(failure: Failure) -> None:
            if request.fired:
                self.complaints.append(f"a block failed: {failure}")
            request.fired += 1

        self.blocks.append(Block(asked, served, failed))

    def ask_any(
        self,
        ident: Hashable,
        connect: Callable[..., Deferred[Any]],
        exclude: list[Backend],
        timeout: float | None,
        owner: Any,
        then: str,
        fresh: bool,
    ) -> None:
        """
        @param connect: a group's C{connect}, or a C{select} that knows its list.
        """
        request = self._request(ident, self.backends[0], then, owner, fresh)
        request.anywhere, request.exclude = True, exclude
        asked = connect(ident, timeout=timeout, owner=owner, exclude=exclude, fresh=fresh)
        self._asked(request, asked)
        asked.addCallbacks(
            self._served, self._failed, callbackArgs=(request,), errbackArgs=(request,)
        )

    def _request(
        self, ident: Hashable, backend: Backend, then: str, owner: Any, fresh: bool
    ) -> Request:
        number = next(self.numbers)
        request = Request(number, ident, backend, then, self.waiting(), fresh)
        request.owner = owner
        self.wanted_fresh |= fresh
        self.requests.append(request)
        self._unanswered.append(request)
        return request

    def _asked(self, request: Request, asked: Deferred[Any]) -> None:
        request.deferred = asked
        if isinstance(asked, Waiter) and asked.queue is not None:
            if asked.placement is not None:
                request.manager = asked.placement
            else:
                (request.manager,) = [each for each in self.managers if asked in each.waiting]

    def try_connect(
        self, ident: Hashable, backend: Backend, owner: Any = None, fresh: bool = False
    ) -> None:
        request = Request(next(self.numbers), ident, backend, "hold", self.waiting(), fresh)
        request.owner = owner
        lease = self.pool.try_connect(ident, backend, owner=owner, fresh=fresh)
        if lease is not None:
            self._take(lease, request)
            self._keep(lease)

    def warm(self, ident: Hashable, backend: Backend, count: int, timeout: float | None) -> None:
        def done() -> None:
            managers: list[Any] = [
                each
                for each in self.managers
                if each.backend == backend and ident in (each.ident, None)
            ]
            are_ready = any(each.admission.warming._ready() >= count for each in managers)
            # If it fired within the call, a trap may have taken them since; or an older call of
            # warm elsewhere has, which waited for a slot of the pool.
            may_be_gone = self.trapped or self.pool.limit is not None
            if not (are_ready or (was_called and may_be_gone)):
                self.complaints.append(f"warm fired, but {count} are not ready")

        told = self.pool.warm(backend, count, timeout, ident=ident)
        was_called = told.called
        self.wishes.append(Wish(told, done))

    def waiting(self) -> list[Request]:
        """The requests whose callers wait."""
        self._unanswered = [each for each in self._unanswered if not each.fired]
        return [each for each in self._unanswered if each.deferred is not None]

    def _failed(self, failure: Failure, request: Request) -> None:
        request.fired += 1
        if request.then == "ask" and not failure.check(CancelledError):
            self.ask(request.ident, request.backend, 1.0, then="release")

    def _served(self, lease: Lease[Any], request: Request) -> None:
        request.fired += 1
        self._check_served(lease, request)
        self._keep(lease)
        if request.then == "release":
            self.settle(lease, "release")
        elif request.then == "finish":
            self.settle(lease, "finished")
        elif request.then == "ask":
            self.ask(request.ident, request.backend, 1.0, then="release")

    def _check_served(self, lease: Lease[Any], request: Request) -> None:
        manager = lease.manager
        if manager.backend in request.exclude:
            self.complaints.append("a request was served by a backend that it excludes")
        if request.manager not in (None, manager) and not request.anywhere:
            self.complaints.append("a request was served by another manager than it waits for")
        self._take(lease, request)
        self.look_at_loads()

    def _keep(self, lease: Lease[Any]) -> None:
        if lease.held:  # not if its owner has ended just now
            self.held.append(lease)

    def look_at_loads(self) -> None:
        """Check the cached loads. They must be right at any time, even in the middle of a step."""
        for record in self.pool._managers.records:
            members, load = record.members, noted_load(record)
            if load >= 0:
                truth = 1 + sum(each.load() for each in members)
                serves = any(each.serves() for each in members)
                if load != truth or not (serves and record.health.is_well):
                    self.complaints.append(f"a load of {load} is noted: {truth}, {serves}")
            if record.load.sole is not None and (load < 0 or members != [record.load.sole]):
                self.complaints.append(
                    f"{record.load.sole} is noted as the only manager: {members}"
                )
            record.load.now()  # or nothing would be noted

    def _take(self, lease: Lease[Any], request: Request) -> None:
        """Look at a lease that was given."""
        if lease.ident != request.ident:
            self.complaints.append(f"{request.ident!r} was given a lease of {lease.ident!r}")
        if not lease.held:  # its owner has ended just now
            return
        leasable: Any = lease.leasable
        self._take_protocol(leasable, lease, request)
        lease.protocol.transport.write(str(request.ident)[:1].encode())
        if self.chance.random() < 0.5:
            lease.when_lost().addBoth(self.losses.setdefault(lease, []).append)
        self.owner_of[lease] = request.owner
        self.taken_at[lease] = self.now()

    def _take_protocol(self, leasable: Any, lease: Lease[Any], request: Request) -> None:
        protocol: Speaker = leasable.protocol
        # A trap may have ended its first lease before the holder had it.
        reused = lease.reused or protocol.first_lease is not None
        passed = self._decisions.passed(leasable, request.ahead, reused=reused)
        if passed:
            told = [each.deferred for each in passed]
            self.complaints.append(f"{told} had asked before somebody whom {lease.manager} served")
        if protocol.first_lease is None:
            protocol.first_lease = next(self.numbers)
        if request.fresh and (lease.reused or protocol.first_lease < request.number):
            self.complaints.append("a request for a fresh connection was given a used one")
        if protocol.under_way and "clean" in self.asked_hooks():
            self.complaints.append("a connection that is not clean was given")
        if any(each.protocol is protocol for each in self.detached):
            self.complaints.append("a connection that has left the pool was given")
        transport: Any = protocol.transport
        if not (transport.connected or self.trapped):
            self.complaints.append("a lease was given of a connection that was lost")

    def asked_hooks(self) -> set[str]:
        """The hooks that the policy has."""
        return {each for each in self.hooks if getattr(self.pool.policy, each) is not None}

    def detach(self, lease: Lease[Any], keep_slot: bool) -> None:
        """Take the connection of a lease out of the pool, unless that is not possible."""
        leasable: Any = lease.leasable
        detached = Detached(lease.backend, leasable.protocol, keep_slot)
        self.detached.append(detached)
        try:
            lease.detach(keep_slot=keep_slot)
        except LeaseError:
            self.detached.remove(detached)
            connection = getattr(leasable, "connection", leasable)
            shared = len(connection.slots or ()) > 1
            is_leased = connection.state is ConnectionState.LEASED
            has_ended = not is_leased or connection.transport is None  # its protocol is being told
            if not lease.held or not (shared or has_ended):
                self.complaints.append(f"{lease!r} cannot be detached")
            return
        if lease in self.held:
            self.held.remove(lease)

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
            steady(self.clock).look()  # if it was set back, only who reads it notices that
            self.clock.advance(0)

    def forgotten_at(self, backend: Backend) -> int:
        """The number of forgotten leases that are not reclaimed yet."""
        told, counters = self.told[backend], self.pool.counters(backend)
        reclaimed = told["Forgotten"] if self.forgets else counters.forgotten
        return self.forgotten[backend] - reclaimed

    def forgettable(self) -> list[Lease[Any]]:
        """The leases that only the test refers to."""
        self.held = [each for each in self.held if each.held]
        return self.held

    def holding(self) -> list[Lease[Any]]:
        """The leases that the test holds, without those that ended with their owners."""
        within = [each.lease for each in self.blocks if each.lease is not None]
        return self.forgettable() + [each for each in within if each.held]

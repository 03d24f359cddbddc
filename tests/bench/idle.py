"""The idle path: connections are ready, one caller leases and releases."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, IKolusManager, Lease, Policy, Pool
from kolus.events import Observer
from kolus.metrics import Metrics
from kolus.testing import FakeBackend, result_of
from kolus.watching import Owner
from tests.bench.measure import Case, Meter, together

OPERATIONS = 5000
MANY = 1_000_000
"""A limit that is none."""

_TIMES = ("acquire_timeout", "idle_timeout", "manager_idle_timeout", "leak_after")
NEVER_DUE: dict[str, Any] = {"lifetime": None} | dict.fromkeys(_TIMES, 1e9)
"""For a policy with a clock that makes no calls: what is overdue makes every lease slow."""


class StillClock(Clock):
    """A clock with the cost of a reactor's, which never makes a delayed call.

    C{Clock.seconds} is a Python method, which is slower. A reactor would close connections that
    stay idle for the whole run.
    """

    seconds = staticmethod(time.time)


@dataclass(frozen=True, slots=True)
class Source:
    """Something that leases connections: kolus or a peer."""

    who: str
    ask: Callable[[], Any]
    """Gives an awaitable of the thing."""
    give: Callable[[Any], Any]
    """Gives the thing back; may give an awaitable."""


def fill(pool: Pool[Protocol], backend: Backend, connections: int) -> IKolusManager:
    """Connect so many, and leave them idle."""
    leases = [result_of(pool.connect("us", backend)) for _ in range(connections)]
    for lease in leases:
        lease.release()
    manager = pool.manager(backend)
    assert manager is not None
    assert manager.status().idle == connections
    return manager


def fake_pool(
    limit: int, reactor: Any = None, observers: Iterable[Observer] = (), **changes: Any
) -> tuple[Pool[Protocol], Backend]:
    """A pool with kolus' defaults but for the limits, and a backend for it without a network.

    @param reactor: what tells the time; a C{StillClock} if C{None}.
    @param changes: to the policy.
    """
    policy = Policy(**({"limit": limit, "max_waiters": MANY} | NEVER_DUE | changes))
    pool = Pool(reactor or StillClock(), Protocol, policy=policy, observers=observers)
    return pool, Backend(FakeBackend(StillClock()))


def kolus(manager: IKolusManager) -> Source:
    """A manager as a source."""
    return Source("kolus", partial(manager.connect, "us"), Lease.release)


def queue(things: int) -> Source:
    lent: DeferredQueue[object] = DeferredQueue()
    for _ in range(things):
        lent.put(object())
    return Source("DeferredQueue", lent.get, lent.put)


def awaited(what: str, source: Source, operations: int = OPERATIONS) -> Case:
    """Lease and give back in a running coroutine."""

    async def sample(meter: Meter) -> Mapping[str, float]:
        ask, give = source.ask, source.give
        with meter.whole(operations) as reading:
            for _ in range(operations):
                given = give(await ask())
                if given is not None:
                    await given
        return {what: reading.in_f}

    return Case(source.who, sample)


def called_back(what: str, source: Source) -> Case:
    """Lease, and give back in a callback."""

    async def sample(meter: Meter) -> Mapping[str, float]:
        ask, give = source.ask, source.give
        with meter.whole(OPERATIONS) as reading:
            for _ in range(OPERATIONS):
                ask().addCallback(give)
        return {what: reading.in_f}

    return Case(source.who, sample)


def tried(what: str, manager: IKolusManager, owner: Owner | None = None) -> Case:
    """Lease without a Deferred, and give back."""

    async def sample(meter: Meter) -> Mapping[str, float]:
        try_connect = manager.try_connect
        with meter.whole(OPERATIONS) as reading:
            for _ in range(OPERATIONS):
                lease = try_connect("us", owner)
                assert lease is not None
                lease.release()
        return {what: reading.in_f}

    return Case("kolus", sample)


def idle_cases() -> list[Case]:
    """Kolus' own, on connections without a network."""
    pool, backend = fake_pool(10)
    manager = fill(pool, backend, 10)
    many_pool, many_backend = fake_pool(10_000)
    many = fill(many_pool, many_backend, 10_000)
    through_pool = Source("kolus", partial(pool.connect, "us", backend), Lease.release)
    compared = [
        awaited("idle, awaited", kolus(manager)),
        awaited("idle, through the pool", through_pool),
        awaited("idle, 10 000", kolus(many)),
    ]
    return [
        together(compared),
        called_back("idle, called back", kolus(manager)),
        tried("idle, tried", manager),
        tried("idle, tried for an owner", manager, Deferred()),
        tried("idle, tried with Metrics", fill(*fake_pool(10, observers=[Metrics()]), 10)),
        tried("idle, tried in debug mode", fill(*fake_pool(10, debug=True), 10)),
    ]

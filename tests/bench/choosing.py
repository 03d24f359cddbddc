"""The cost of choosing among many backends, above a request to the chosen manager.

Each backend has one idle connection, so any choice can be served at once. The base case uses the
same managers in random order, so cache misses of the processor do not count as a cost of choosing.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, repeat
from operator import attrgetter, itemgetter
from random import Random
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from kolus import Backend, Group, IKolusManager, ISource, Policy, Pool, Status
from kolus.balance import NAMES, Balancer, Ring, consistent, prefer_zone
from kolus.testing import FakeBackend, result_of
from tests.bench.idle import NEVER_DUE, StillClock
from tests.bench.measure import Case, Meter, together

SIZES = (10, 1_000, 10_000)
DEFAULT = "pick_two"
QUICK_IN_A_LIST = (DEFAULT, "round_robin")
"""The others look at every backend of a mere list, so they are measured with few of them alone."""
BALANCERS = (*sorted(NAMES), "consistent", "prefer_zone")

OPERATIONS, FEWER = 2000, 500
OFTEN, SELDOM = 2, 10
ZONES = 4

USED = 100
"""How many backends of a large group are connected to."""

Ask = Callable[[], Any]


class UnsortedClock(StillClock):
    """A clock that does not sort its calls, because it never makes any.

    A C{Clock} sorts all its calls for each new one: with a timer for each of 10 000 managers that
    takes 15 seconds.
    """

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> DelayedCall:
        return DelayedCall(
            *(self.seconds() + delay, callable, args, kw),
            cancel=lambda call: None,
            reset=lambda call: None,
            seconds=self.seconds,
        )


@dataclass(frozen=True, slots=True)
class Crowd:
    """A pool, and backends that have a manager and an idle connection each."""

    pool: Pool[Protocol]
    backends: Sequence[Backend]
    managers: Sequence[IKolusManager]

    @classmethod
    def of(cls, size: int) -> Crowd:
        pool = Pool(UnsortedClock(), Protocol, policy=Policy(**NEVER_DUE))
        backends = many_backends(size)
        managers = []
        for backend in backends:
            result_of(pool.connect("us", backend)).release()
            manager = pool.manager(backend)
            assert manager is not None
            assert manager.status().idle == 1
            managers.append(manager)
        return cls(pool, backends, managers)


def many_backends(size: int) -> Sequence[Backend]:
    """Backends without a network, as many in each zone."""
    endpoint = FakeBackend(UnsortedClock())
    return [Backend(endpoint, name=f"b{at}", zone=f"z{at % ZONES}") for at in range(size)]


@implementer(ISource)
class Telling:
    """A source that the bench controls."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = backends
        self.tell: Callable[[Sequence[Backend]], object] = repr

    def start(self, listener: Callable[[Sequence[Backend]], object]) -> None:
        self.tell = listener
        listener(self._backends)

    def stop(self) -> None:
        pass


def balancers(name: str) -> Iterator[Balancer]:
    """The balancer of each request; for C{consistent} each has another key."""
    if name == "consistent":
        ring = Ring()
        return (consistent(key, ring) for key in count())
    clock: IReactorTime = StillClock()
    return repeat(prefer_zone("z0") if name == "prefer_zone" else NAMES[name](clock))


def look_at_all(statuses: Sequence[Status]) -> Status:
    """A balancer that reads all statuses and loads, so a group caches them as after some time."""
    return min(statuses, key=attrgetter("load"))


async def served(what: str, meter: Meter, asks: Sequence[Ask]) -> Mapping[str, float]:
    """Make the requests and release their leases, one after the other."""
    with meter.whole(len(asks)) as reading:
        for ask in asks:
            (await ask()).release()
    return {what: reading.in_f}


def at_managers(what: str, crowd: Crowd, rng: Random, operations: int) -> Case:
    """The base: requests to managers, no choice."""

    async def sample(meter: Meter) -> Mapping[str, float]:
        managers = rng.choices(crowd.managers, k=operations)
        asks = [partial(each.connect, "us") for each in managers]
        for each in crowd.managers:  # as whoever makes a group looks at them
            each.status()
        return await served(what, meter, asks)

    return Case("kolus", sample)


def at_drawn(what: str, crowd: Crowd, rng: Random, operations: int) -> Case:
    """Requests to managers that are drawn from a list, whatever they have to do: the least that any
    balancer with chance could cost."""
    managers, draw, count = list(crowd.managers), rng.random, len(crowd.managers)

    def ask() -> Any:
        return managers[int(draw() * count)].connect("us")

    async def sample(meter: Meter) -> Mapping[str, float]:
        return await served(what, meter, [ask] * operations)

    return Case("kolus", sample)


def at_group(what: str, crowd: Crowd, name: str, operations: int) -> Case:
    """Requests to a group that has existed for some time. Each sample has a new group: the indices
    for one balancer would slow down the others."""

    async def sample(meter: Meter) -> Mapping[str, float]:
        each = balancers(name)
        group: Group[Protocol] = crowd.pool.group(Telling(crowd.backends), next(each))
        try:
            result_of(group.connect("us", balancer=look_at_all)).release()
            ask: Ask = partial(group.connect, "us")
            if name == "consistent":
                ask = lambda: group.connect("us", balancer=next(each))  # noqa: E731
            result_of(ask()).release()
            return await served(what, meter, [ask] * operations)
        finally:
            group.close()

    return Case("kolus", sample)


def at_list(what: str, crowd: Crowd, name: str, operations: int) -> Case:
    """Requests to a list without a group."""
    each = balancers(name)

    def ask() -> Any:
        return crowd.pool.select("us", crowd.backends, next(each))

    async def sample(meter: Meter) -> Mapping[str, float]:
        asked = ask
        if name != "consistent":
            asked = partial(crowd.pool.select, "us", crowd.backends, next(each))
        result_of(asked()).release()
        return await served(what, meter, [asked] * operations)

    return Case("kolus", sample)


def choosing_cases(rng: Random) -> Iterator[Case]:
    """For each size the cases with a goal, with many samples, and those without."""
    for size in SIZES:
        crowd = Crowd.of(size)
        promised = [
            at_managers(f"chosen, {size}", crowd, rng, OPERATIONS),
            at_drawn(f"drawn, {size}", crowd, rng, OPERATIONS),
            at_group(f"group, {DEFAULT}, {size}", crowd, DEFAULT, OPERATIONS),
            at_list(f"select, {DEFAULT}, {size}", crowd, DEFAULT, OPERATIONS),
        ]
        yield replace(together(promised), every=OFTEN)
        told = [at_managers(f"chosen, {size}, seldom", crowd, rng, FEWER)]
        for name in BALANCERS:
            if name != DEFAULT:
                told.append(at_group(f"group, {name}, {size}", crowd, name, FEWER))
                if size == min(SIZES):  # who listens to the backends here would go on doing so
                    alone = Crowd.of(size)
                    told.append(at_list(f"select, {name}, {size}", alone, name, FEWER))
                elif name in QUICK_IN_A_LIST:
                    told.append(at_list(f"select, {name}, {size}", crowd, name, FEWER))
        yield replace(together(told), every=SELDOM)
    yield Case("kolus", large_group, every=SELDOM)


# A large group of which little is used


def use(group: Group[Protocol]) -> None:
    """Have a connection, which is idle, to some of its backends."""
    leases = [result_of(group.connect("us", balancer=itemgetter(at))) for at in range(USED)]
    for lease in leases:
        lease.release()


async def large_group(meter: Meter) -> Mapping[str, float]:
    """CPU milliseconds to build, change and close a group."""
    first, *rest = many_backends(max(SIZES) + 1)
    source = Telling([first, *rest[:-1]])
    pool = Pool(UnsortedClock(), Protocol, policy=Policy(**NEVER_DUE))
    with meter.whole(1) as built:
        group = pool.group(source)
    use(group)
    managers = len(pool.status())
    with meter.whole(1) as changed:
        source.tell(rest)
    with meter.whole(1) as closed:
        group.close()
    return {
        "group, to build": built.seconds * 1e3,
        "group, to change": changed.seconds * 1e3,
        "group, to close": closed.seconds * 1e3,
        "group, managers": managers,
    }


def group_memory() -> Mapping[str, float]:
    """Bytes that a group takes, without the backends and the list of them."""
    first, *rest = many_backends(max(SIZES) + 1)
    source = Telling([first, *rest[:-1]])
    pool = Pool(UnsortedClock(), Protocol, policy=Policy(**NEVER_DUE))
    tracemalloc.start()
    try:
        before = _kept()
        group = pool.group(source)
        built = _kept()
        use(group)
        used = _kept()
        source.tell(rest)
        changed = _kept()
        group.close()
        del group
        source.tell = repr
        closed = _kept()
    finally:
        tracemalloc.stop()
    return {
        "memory of a group": built - before,
        "memory of its managers": used - built,
        "memory of a change": changed - used,
        "memory of a closed group": closed - before - (used - built),
    }


def _kept() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]

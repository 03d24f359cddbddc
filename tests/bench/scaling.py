"""Measures whether a request costs more where there is more: C{python -m tests.bench.scaling}.

Each scene has requests that wait at backends whose connections are all leased. One more request, a
hand-off to the oldest and the cancelling of one are measured where there are few of something and
where there are many. What matters is how many times dearer they are with many.
"""

from __future__ import annotations

import gc
import sys
from argparse import ArgumentParser
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

if not __package__:  # run by its path
    sys.path[0] = str(Path(__file__).parents[2])

from kolus import Backend, Lease, Policy, Pool
from kolus.testing import FakeBackend, result_of
from tests.bench.choosing import UnsortedClock
from tests.bench.idle import MANY, NEVER_DUE

GOAL = 3.0
"""How many times dearer it may be, at most."""
FEW, SIZES = 10, (1_000, 10_000)
WAITERS = 10
ROUNDS, OPERATIONS = 7, 200
WHAT = ("wait", "hand-off", "cancel")

Ask = Callable[[], Deferred[Any]]


class Scene:
    """Requests that wait, and the leases that they wait for, both in turn.

    @ivar held: the leases, the one that is released next first.
    """

    def __init__(
        self,
        held: Sequence[Lease[Any]],
        asks: Sequence[Ask],
        waiters: int,
        kept: Sequence[Lease[Any]] = (),
    ) -> None:
        """
        @param asks: make requests, one after the other, the first again after the last.
        @param waiters: how many wait.
        @param kept: other leases, which are not released.
        """
        self.held = deque(held)
        self._kept = kept
        self._asks = deque(asks)
        self._waiting: deque[Deferred[Any]] = deque()
        for _ in range(waiters):
            self.wait()

    def wait(self) -> None:
        asked = self._asks[0]()
        self._asks.rotate(-1)
        self._waiting.append(asked)
        asked.addCallbacks(self.held.append, _cancelled)

    def hand_off(self) -> None:
        self.held.popleft().release()

    def cancel(self) -> None:
        self._waiting.pop().cancel()
        self._asks.rotate(1)

    def check(self) -> None:
        """The oldest was served."""
        assert self._waiting.popleft().called

    def sample(self) -> Mapping[str, float]:
        """Seconds that each takes, on average; as many wait afterwards as before."""
        spent = dict.fromkeys(WHAT, 0.0)
        for _ in range(OPERATIONS):
            for what, does in (("wait", self.wait), ("hand-off", self.hand_off)):
                spent[what] += _timed(does)
            self.check()
        for _ in range(OPERATIONS):
            self.wait()
            spent["cancel"] += _timed(self.cancel)
        return {what: seconds / OPERATIONS for what, seconds in spent.items()}


def _timed(does: Callable[[], object]) -> float:
    start = thread_time()
    does()
    return thread_time() - start


def _cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)


def _pool(*, pool_limit: int | None = None, **policy: Any) -> Pool[Protocol]:
    settings = Policy(**({"max_waiters": MANY} | NEVER_DUE | policy))
    return Pool(UnsortedClock(), Protocol, policy=settings, limit=pool_limit)


def _backends(number: int) -> list[Backend]:
    endpoint = FakeBackend(UnsortedClock())
    return [Backend(endpoint, name=f"b{at}") for at in range(number)]


def _leased(
    pool: Pool[Protocol], backend: Backend, number: int = 1, ident: Hashable = "us"
) -> list[Lease[Any]]:
    return [result_of(pool.connect(ident, backend)) for _ in range(number)]


# What there is few or many of


def waiters(size: int) -> Scene:
    pool, (backend,) = _pool(limit=1), _backends(1)
    return Scene(_leased(pool, backend), [partial(pool.connect, "us", backend)], size)


def connections(size: int) -> Scene:
    pool, (backend,) = _pool(limit=size), _backends(1)
    ask = partial(pool.connect, "us", backend)
    return Scene(_leased(pool, backend, size), [ask], WAITERS)


def idle_connections(size: int) -> Scene:
    """Those of another backend of the same group, which nobody may wait for."""
    pool, (backend, other) = _pool(limit=size), _backends(2)
    for lease in _leased(pool, other, size):
        lease.release()
    group = pool.group([backend, other])
    ask = partial(group.connect, "us", exclude=[other])
    return Scene(_leased(pool, backend, size), [ask], WAITERS)


def idents(size: int) -> Scene:
    pool, (backend,) = _pool(limit=size, idents="separate"), _backends(1)
    asks = [partial(pool.connect, ident, backend) for ident in range(size)]
    return Scene([result_of(ask()) for ask in asks], asks, size)


def idents_with_owners(size: int) -> Scene:
    """An owner that waits is asked whether it holds everything itself."""
    pool, (backend,) = _pool(limit=size, idents="separate"), _backends(1)
    ends = [Deferred[None]() for _ in range(size)]
    asks = [partial(pool.connect, at, backend, owner=each) for at, each in enumerate(ends)]
    return Scene([result_of(ask()) for ask in asks], asks, size)


def idents_of_a_group(size: int) -> Scene:
    """The balancer compares the loads of two backends, each with a manager for each ident. It
    always chooses the first, which has fewer leases."""
    endpoint = FakeBackend(UnsortedClock())
    backend, other = [Backend(endpoint, name=f"b{at}", limit=at * size) for at in (1, 3)]
    pool = _pool(idents="separate")
    held = [lease for ident in range(size) for lease in _leased(pool, backend, ident=ident)]
    kept = [lease for ident in range(size) for lease in _leased(pool, other, 3, ident)]
    connect = pool.group([backend, other]).connect
    return Scene(held, [partial(connect, ident) for ident in range(size)], size, kept)


def groups(size: int) -> Scene:
    pool, (backend,) = _pool(limit=1), _backends(1)
    held = _leased(pool, backend)
    return Scene(held, [partial(pool.group([backend]).connect, "us") for _ in range(size)], size)


def placed(size: int) -> Scene:
    """Those who wait for any of a group, at a backend that was ejected since: it serves only those
    who are placed there."""
    pool, (backend,) = _pool(limit=1), _backends(1)
    scene = Scene(_leased(pool, backend), [partial(pool.group([backend]).connect, "us")], size)
    pool.eject(backend)
    return scene


def lists(size: int) -> Scene:
    pool, (backend, *others) = _pool(limit=1), _backends(size + 1)
    held = [lease for each in (backend, *others) for lease in _leased(pool, each)]
    asks = [partial(pool.select, "us", [backend, each]) for each in others]
    return Scene(held[:1], asks, size, held[1:])


def backends(size: int) -> Scene:
    pool, members = _pool(limit=1), _backends(size)
    held = [lease for each in members for lease in _leased(pool, each)]
    return Scene(held, [partial(pool.group(members).connect, "us")], WAITERS)


def backends_under_a_limit(size: int) -> Scene:
    """Each has a connection and somebody who waits, and the limit of the pool is reached."""
    pool, members = _pool(limit=2, pool_limit=size), _backends(size)
    asks = [partial(pool.connect, "us", each) for each in members]
    return Scene([lease for each in members for lease in _leased(pool, each)], asks, size)


def owners(size: int) -> Scene:
    pool, (backend,) = _pool(limit=2), _backends(1)
    ends = [Deferred[None]() for _ in range(size)]
    asks = [partial(pool.connect, "us", backend, owner=each) for each in ends]
    return Scene(_leased(pool, backend, 2), asks, size)


def slots(size: int) -> Scene:
    pool, (backend,) = _pool(limit=1, slots=size), _backends(1)
    ask = partial(pool.connect, "us", backend)
    return Scene(_leased(pool, backend, size), [ask], WAITERS)


SCENES: Mapping[str, Callable[[int], Scene]] = {
    "waiters": waiters,
    "connections of the backend": connections,
    "idle connections beside it": idle_connections,
    "idents": idents,
    "idents with owners": idents_with_owners,
    "idents of a group": idents_of_a_group,
    "groups with the backend": groups,
    "waiters at an ejected backend": placed,
    "lists with the backend": lists,
    "backends of the group": backends,
    "backends under the pool's limit": backends_under_a_limit,
    "owners": owners,
    "slots of the connection": slots,
}


def compare(make: Callable[[int], Scene], size: int, rounds: int = ROUNDS) -> Mapping[str, float]:
    """How many times dearer each is with C{size} than with few."""
    few, many = make(FEW), make(size)
    ratios: dict[str, list[float]] = {what: [] for what in WHAT}
    gc.collect()
    gc.disable()
    try:
        few.sample()
        many.sample()
        for _ in range(rounds):
            base, more = few.sample(), many.sample()
            for what in WHAT:
                ratios[what].append(more[what] / base[what])
    finally:
        gc.enable()
    return {what: median(each) for what, each in ratios.items()}


def table(sizes: Sequence[int]) -> Iterator[str]:
    """The lines of the table, in Markdown."""
    yield f"| against {FEW} | " + " | ".join(WHAT) + " | goal | met? |"
    yield "| --- " * (len(WHAT) + 3) + "|"
    for name, make in SCENES.items():
        for size in sizes:
            ratios = compare(make, size)
            told = " | ".join(f"{ratios[what]:.2f} x" for what in WHAT)
            met = "yes" if max(ratios.values()) <= GOAL else "no"
            yield f"| {size} {name} | {told} | <= {GOAL:g} x | {met} |"


def main(arguments: list[str]) -> None:
    parser = ArgumentParser(prog="python -m tests.bench.scaling", description=__doc__)
    parser.add_argument("sizes", type=int, nargs="*", default=SIZES, help="default: %(default)s")
    for line in table(parser.parse_args(arguments).sizes):
        print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

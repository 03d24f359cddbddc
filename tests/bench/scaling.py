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
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from pathlib import Path
from time import thread_time
from types import FrameType
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
WAITERS, MANY_QUEUES = 10, 100
ROUNDS, OPERATIONS, CALLS_OF = 7, 200, 30
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


def idents_of_one_owner(size: int) -> Scene:
    """It holds all but one of the backend's leases."""
    pool, (backend,) = _pool(limit=size + 1, idents="separate"), _backends(1)
    owner = Deferred[None]()
    asks = [partial(pool.connect, ident, backend, owner=owner) for ident in range(size)]
    return Scene([result_of(ask()) for ask in asks], asks, size, _leased(pool, backend))


def idents_that_keep_some(size: int) -> Scene:
    """Each wants to keep one ready, and there is no room for that."""
    pool, (backend,) = _pool(limit=2 * size + WAITERS, min_idle=1), _backends(1)
    held = _leased(pool, backend, WAITERS - 1)
    kept = [
        lease for _ in range(2) for at in range(size) for lease in _leased(pool, backend, 1, at)
    ]
    held += _leased(pool, backend)
    return Scene(held, [partial(pool.connect, "us", backend)], WAITERS, kept)


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


def idents_of_a_full_group(size: int) -> Scene:
    """Each has one of the leases, and the balancer chooses that backend for it. There are too many
    for each to keep its queue while nobody waits there, so each request makes one anew."""
    pool, members = _pool(limit=1, idents="separate"), _backends(size + MANY_QUEUES)
    held = [lease for at, each in enumerate(members) for lease in _leased(pool, each, 1, at)]
    connect, places = pool.group(members).connect, range(len(members))
    asks = [partial(connect, at, balancer=itemgetter(at)) for at in places]
    return Scene(held, asks, WAITERS)


def backends_under_a_limit(size: int) -> Scene:
    """Each has a connection and somebody who waits, and the limit of the pool is reached."""
    pool, members = _pool(limit=2, pool_limit=size), _backends(size)
    asks = [partial(pool.connect, "us", each) for each in members]
    return Scene([lease for each in members for lease in _leased(pool, each)], asks, size)


def group_under_a_limit(size: int) -> Scene:
    """Each of a group has a connection of two that it may have, and somebody waits there."""
    pool, members = _pool(limit=2, pool_limit=size), _backends(size)
    held = [lease for each in members for lease in _leased(pool, each)]
    return Scene(held, [partial(pool.group(members).connect, "us")], size)


def group_without_room(size: int) -> Scene:
    """Few of a group have a connection, and all that have none wait for a slot of the pool."""
    pool, members = _pool(limit=1, pool_limit=FEW // 2), _backends(size)
    held = [lease for each in members[: FEW // 2] for lease in _leased(pool, each)]
    for each in members:  # has a manager from now on
        asked = pool.connect("us", each)
        asked.addErrback(_cancelled)
        asked.cancel()
    return Scene(held, [partial(pool.group(members).connect, "us")], WAITERS)


def groups_under_a_limit(size: int) -> Scene:
    """All of them with the same few backends."""
    pool, members = _pool(limit=2, pool_limit=FEW), _backends(FEW)
    held = [lease for each in members for lease in _leased(pool, each)]
    return Scene(held, [partial(pool.group(members).connect, "us") for _ in range(size)], size)


def idents_under_a_limit(size: int) -> Scene:
    pool, (backend,) = _pool(limit=2 * size, pool_limit=size, idents="separate"), _backends(1)
    asks = [partial(pool.connect, ident, backend) for ident in range(size)]
    return Scene([result_of(ask()) for ask in asks], asks, size)


def backends_of_one_owner(size: int) -> Scene:
    """It holds all but one of the leases that the limit of the pool allows."""
    pool, (other, *members) = _pool(limit=2, pool_limit=size + 1), _backends(size + 1)
    owner = Deferred[None]()
    asks = [partial(pool.connect, "us", each, owner=owner) for each in members]
    return Scene([result_of(ask()) for ask in asks], asks, size, _leased(pool, other))


def lists_under_a_limit(size: int) -> Scene:
    """Each has a backend of its own besides one of all, and all of them have room."""
    pool, (backend, *others) = _pool(limit=2, pool_limit=size + 1), _backends(size + 1)
    held = [lease for each in (backend, *others) for lease in _leased(pool, each)]
    asks = [partial(pool.select, "us", [backend, each]) for each in others]
    return Scene(held[:1], asks, size, held[1:])


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
    "idents of one owner": idents_of_one_owner,
    "idents that keep some ready": idents_that_keep_some,
    "idents of a group": idents_of_a_group,
    "groups with the backend": groups,
    "waiters at an ejected backend": placed,
    "lists with the backend": lists,
    "backends of the group": backends,
    "idents of a full group": idents_of_a_full_group,
    "backends under the pool's limit": backends_under_a_limit,
    "backends of the group under it": group_under_a_limit,
    "backends of the group without room": group_without_room,
    "groups under it": groups_under_a_limit,
    "idents under it": idents_under_a_limit,
    "backends of one owner under it": backends_of_one_owner,
    "lists under it": lists_under_a_limit,
    "owners": owners,
    "slots of the connection": slots,
}


def compare(make: Callable[[int], Scene], size: int, rounds: int = ROUNDS) -> Mapping[str, float]:
    """How many times dearer each is with C{size} than with few."""
    few, many = make(FEW), make(size)
    with _no_garbage():
        few.sample()
        many.sample()
        samples = [(few.sample(), many.sample()) for _ in range(rounds)]
    # The least of all rounds: what else the machine does makes a round dearer, and none cheaper.
    base, more = (
        {what: min(each[what] for each in side) for what in WHAT}
        for side in zip(*samples, strict=True)
    )
    return {what: more[what] / base[what] for what in WHAT}


def calls(scene: Scene) -> Mapping[str, int]:
    """The most calls of Python's functions that each takes, but for the first hand-off, which may
    make an index."""
    scene.wait()
    scene.hand_off()
    scene.check()
    most = dict.fromkeys(WHAT, 0)
    with _no_garbage():
        for _ in range(CALLS_OF):
            for what, does in (("wait", scene.wait), ("hand-off", scene.hand_off)):
                most[what] = max(most[what], _calls(does))
            scene.check()
        for _ in range(CALLS_OF):
            scene.wait()
            most["cancel"] = max(most["cancel"], _calls(scene.cancel))
    return most


@contextmanager
def _no_garbage() -> Iterator[None]:
    """What others have left is collected before, and not amid what is measured."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _calls(does: Callable[[], object]) -> int:
    count = 0

    def called(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        does()
    finally:
        sys.setprofile(before)
    return count


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

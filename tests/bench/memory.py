"""The memory of an idle connection and of a waiter, as C{tracemalloc} counts it."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Mapping

from twisted.internet.defer import DeferredQueue
from twisted.internet.protocol import Factory, Protocol

from kolus.testing import FakeBackend
from tests.bench.idle import MANY, StillClock, fake_pool, fill

NUMBER = 10_000


def _bytes_kept(action: Callable[[], object]) -> float:
    """Bytes that are still allocated after it, as long as what it returned lives."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = action()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    del kept
    return after - before


def _bare_connections() -> object:
    backend = FakeBackend(StillClock())
    for _ in range(NUMBER):
        backend.connect(_Bare())
    return backend


class _Bare(Factory):
    """Builds a protocol that knows no factory, as a pool does."""

    noisy = False

    def buildProtocol(self, addr: object) -> Protocol:
        return Protocol()


def _pooled_connections() -> object:
    pool, backend = fake_pool(MANY)
    return fill(pool, backend, NUMBER)


def kolus_memory() -> Mapping[str, float]:
    """Of a connection, what the pool adds to a protocol connected by the same endpoint."""
    pool, backend = fake_pool(1)
    manager = fill(pool, backend, 1)
    lease = manager.try_connect("us")
    waiters = _bytes_kept(lambda: [manager.connect("us") for _ in range(NUMBER)])
    del lease
    return {
        "memory of a connection": (
            _bytes_kept(_pooled_connections) - _bytes_kept(_bare_connections)
        )
        / NUMBER,
        "memory of a waiter": waiters / NUMBER,
    }


def queue_memory() -> Mapping[str, float]:
    """Of a waiter at a C{DeferredQueue}."""
    queue: DeferredQueue[None] = DeferredQueue()
    waiters = _bytes_kept(lambda: [queue.get() for _ in range(NUMBER)])
    return {"memory of a waiter": waiters / NUMBER}

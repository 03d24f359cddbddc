"""Rule 39: nothing in a pool grows with the backends, managers and requests that it ever had."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, ConnectionManager, Policy, Pool, Status
from kolus.manager.backend import records
from kolus.metrics import Metrics
from kolus.testing import FakeBackend, result_of


class Learns:
    """A balancer of one request, which hears how long that took."""

    def __call__(self, statuses: Sequence[Status]) -> Status:
        return statuses[0]

    def observe(self, backend: Backend, seconds: float) -> None:
        """Learn nothing."""


class History:
    """A pool that has much to do."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.fake = FakeBackend(self.clock)
        self.steady = Backend(self.fake, name="steady")
        self.pool: Pool[Any] = Pool(
            self.clock,
            Protocol,
            policy=Policy(idle_timeout=1.0, manager_idle_timeout=1.0, limit=2),
            observers=[Metrics(most=5)],
            **settings,
        )

    def turn(self) -> None:
        self.clock.pump([0] * 4)

    def age(self) -> None:
        for seconds in (1.1, 0, 1.1, 0):
            self.clock.advance(seconds)

    def objects(self) -> int:
        """How many objects there are when all garbage is collected."""
        self.fake.accepted.clear()
        gc.collect()
        self.pool.counters()  # adds up what those that are gone have left
        return len(gc.get_objects())

    # What happens

    def backends(self) -> None:
        backend = Backend(FakeBackend(self.clock))
        result_of(self.pool.connect("us", backend)).release()
        self.age()

    def paused_backends(self) -> None:
        backend = Backend(FakeBackend(self.clock))
        self.pool.pause(backend)
        self.pool.connect("us", backend).addErrback(lambda _: None).cancel()
        self.pool.resume(backend)
        self.age()

    def ejected_backends(self) -> None:
        backend = Backend(FakeBackend(self.clock))
        self.pool.eject(backend)
        self.pool.admit(backend)

    def drained_backends(self) -> None:
        backend = Backend(FakeBackend(self.clock))
        lease = result_of(self.pool.connect("us", backend))
        self.pool.drain(backend)
        lease.release()
        self.turn()

    def idents(self) -> None:
        result_of(self.pool.connect(object(), self.steady)).release()
        self.age()

    def requests(self) -> None:
        leases = [result_of(self.pool.connect("us", self.steady)) for _ in range(2)]
        asked = self.pool.connect("us", self.steady, timeout=1.0).addErrback(lambda _: None)
        self.clock.advance(1.0)
        assert asked.called
        for lease in leases:
            lease.when_lost().addErrback(lambda _: None)
            lease.release()

    def resizings(self) -> None:
        leases = [result_of(self.pool.connect("us", self.steady)) for _ in range(2)]
        self.pool.resize(1, self.steady)
        for lease in leases:
            lease.release()
        self.turn()
        self.pool.resize(2, self.steady)

    def balancers(self) -> None:
        result_of(self.pool.select("us", [self.steady], Learns())).release()

    def watches_of_the_end(self) -> None:
        lease = result_of(self.pool.connect("us", self.steady))
        closed = lease.manager.when_closed()
        closed.addErrback(lambda _: None)
        closed.cancel()
        lease.release()


KINDS: list[Callable[[History], None]] = [
    History.backends,
    History.paused_backends,
    History.ejected_backends,
    History.drained_backends,
    History.idents,
    History.requests,
    History.resizings,
    History.balancers,
    History.watches_of_the_end,
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
def test_what_is_over_leaves_nothing(
    kind: Callable[[History], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_MOST_UNUSED", 5)
    history = History()

    def left(times: int) -> int:
        for _ in range(times):
            kind(history)
        return history.objects()

    before = left(150)
    assert (left(100) - before) / 100 < 0.3


def test_classes_of_managers_that_are_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_MOST_UNUSED", 5)

    def make(backend: Backend, ident: Any) -> ConnectionManager[Any]:
        kind = type("Own", (ConnectionManager,), {})
        manager: ConnectionManager[Any] = kind(
            *(history.clock, Protocol, backend, ident, history.pool.policy)
        )
        return manager

    history = History(make_manager=make)
    for _ in range(20):
        history.backends()
    history.objects()
    assert len(history.pool._managers._verified) < 5

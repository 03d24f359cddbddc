"""Random operations on a pool with a limit: what must hold at each step, and at the end."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from kolus import Lease, LeaseError
from kolus.balance import fill_first, pick_two
from tests.rigs.pool_limits import LimitedPool

pytestmark = pytest.mark.long

NAMES, IDENTS, LIMIT = "abcde", "xyz", 4


class Storm:
    """Callers that ask, wait, cancel and settle at random."""

    def __init__(self, random: Random, **policy: Any) -> None:
        self.random = random
        balancer = pick_two(random)
        self.rig = LimitedPool(LIMIT, backends=len(NAMES), balancer=balancer, **policy)
        self.held: list[Lease[Any]] = []
        self.waiting: list[Deferred[Any]] = []
        self.served = self.failed = 0
        backends = list(self.rig.backends.values())
        self.groups = [
            self.rig.pool.group(backends[:3]),
            self.rig.pool.group(backends[2:], fill_first),
            self.rig.pool.group(backends[4:]),
        ]

    def _keep(self, lease: Lease[Any]) -> None:
        self.served += 1
        self.held.append(lease)

    def _failed(self, _: object) -> None:
        self.failed += 1

    def _follow(self, request: Deferred[Any]) -> None:
        self.waiting.append(request)
        request.addCallbacks(self._keep, self._failed)
        request.addBoth(lambda _: self.waiting.remove(request))

    # What may happen

    def ask(self) -> None:
        ident, name = self.random.choice(IDENTS), self.random.choice(NAMES)
        options: dict[str, Any] = {"timeout": 10_000, "fresh": self.random.random() < 0.1}
        if self.random.random() < 0.6:
            self._follow(self.rig.ask(name, ident, **options))
        elif self.random.random() < 0.7:
            self._follow(self.random.choice(self.groups).connect(ident, **options))
        else:
            some = [self.rig.backends[each] for each in self.random.sample(NAMES, 2)]
            self._follow(self.rig.pool.select(ident, some, timeout=10_000))

    def settle(self) -> None:
        if self.held:
            lease = self.held.pop(self.random.randrange(len(self.held)))
            if self.random.random() < 0.05:
                with suppress(LeaseError):  # its connection has ended, or is shared
                    lease.detach(keep_slot=True).transport.loseConnection()
            if not lease.held:
                return
            if self.random.random() < 0.2:
                lease.finished()
            else:
                lease.release()

    def cancel(self) -> None:
        if self.waiting:
            self.random.choice(self.waiting).cancel()

    def lose(self) -> None:
        fake = self.rig.fakes[self.random.choice(NAMES)]
        if fake.connections:
            self.random.choice(fake.connections).close()

    def change(self) -> None:
        pool, backend = self.rig.pool, self.rig.backends[self.random.choice(NAMES)]
        self.random.choice(
            [
                lambda: pool.pause(backend),
                lambda: pool.resume(backend),
                lambda: pool.invalidate(backend),
                lambda: pool.resize_pool(self.random.randint(1, LIMIT)),
                lambda: pool.resize_pool(LIMIT),
                lambda: pool.resize(self.random.randint(1, 4), backend),
            ]
        )()

    def pass_time(self) -> None:
        self.rig.clock.advance(self.random.choice([0, 0, 0.1, 0.5, 1]))

    def run(self, steps: int, *, calm: bool) -> None:
        happens = [self.ask] * 5 + [self.settle] * 4 + [self.cancel, self.pass_time, self.pass_time]
        if not calm:
            happens += [self.lose, self.change]
        for _ in range(steps):
            self.random.choice(happens)()
            self.rig.check()
            if self.random.random() < 0.5:
                self.rig.turn()

    def end(self) -> None:
        """Serve all who wait."""
        pool = self.rig.pool
        pool.resume()
        pool.resize_pool(LIMIT)
        for _ in range(2000):
            if not (self.waiting or self.held):
                break
            self.settle()
            self.rig.turn()
            self.rig.clock.advance(0.1)
        assert not self.waiting, pool.explain()
        self.rig.end()


@pytest.mark.parametrize("slots", [None, 2])
@pytest.mark.parametrize("limit", [1, 2, 10])
@pytest.mark.parametrize("seed", range(12))
def test_in_a_storm_the_limit_holds_and_nobody_waits_beside_what_could_make_way(
    seed: int, limit: int, slots: int | None
) -> None:
    storm = Storm(Random(seed), limit=limit, slots=slots, min_idle=seed % 2, idle_timeout=5.0)
    for fake in storm.rig.fakes.values():
        if seed % 3:
            fake.accept(after=0.01 * (seed % 3), always=True)
    storm.run(200, calm=seed % 4 == 0)
    storm.end()
    assert storm.served > 20

"""Requests for fresh connections among others, at random: none is lost, or given a used one."""

from __future__ import annotations

import random
from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, KolusError, Lease, Policy, Pool
from kolus.testing import FakeBackend, result_of


class Crowd:
    """A pool, a group of all its backends, and callers who ask, hold and settle at random."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.clock = Clock()
        self.fakes = [FakeBackend(self.clock) for _ in range(rng.choice([1, 2, 3]))]
        self.backends = [Backend(each) for each in self.fakes]
        self.slots = rng.choice([None, None, 1, 3])
        policy: dict[str, Any] = {
            "limit": rng.choice([1, 2, 3]),
            "slots": self.slots,
            "acquire_timeout": rng.choice([None, 3.0]),
            "min_idle": rng.choice([0, 0, 1]),
            "reuse": rng.choice(["lifo", "fifo"]),
            "fail_fast": rng.choice([True, False]),
            "max_uses": rng.choice([None, 2]),
            "check": rng.choice([None, lambda protocol: True]),
            "check_after": rng.choice([0.0, 1.0]),
        }
        self.pool: Pool[Any] = Pool(self.clock, Protocol, policy=Policy(**policy), rng=rng)
        self.group = self.pool.group(self.backends)
        self.asked: list[Any] = []
        self.answers = 0
        self.held: list[Lease[Any]] = []
        self.used: list[Any] = []

    def ask(self) -> None:
        ident, fresh = self.rng.choice(["us", "us", "them"]), self.rng.random() < 0.4
        how: dict[str, Any] = {"fresh": fresh, "timeout": self.rng.choice([None, None, 0.5])}
        ask_one, ask_list = self.pool.connect, self.pool.select
        asked = self.rng.choice(
            [
                lambda: ask_one(ident, self.rng.choice(self.backends), **how),
                lambda: ask_list(ident, self.backends, **how),
                lambda: self.group.connect(ident, **how),
            ]
        )()
        self.asked.append(asked)
        keeps = self.rng.random() < 0.7
        asked.addCallbacks(self.got, self.failed, callbackArgs=(fresh, keeps))

    def got(self, lease: Lease[Any], fresh: bool, keeps: bool) -> None:
        self.answers += 1
        was_used = any(each is lease.protocol for each in self.used)
        assert not (fresh and (lease.reused or (was_used and self.slots is None)))
        self.used.append(lease.protocol)
        self.held.append(lease)
        if not keeps:
            self.held.pop().release()

    def failed(self, failure: Any) -> None:
        self.answers += 1
        if not failure.check(KolusError):
            assert failure.type.__name__ == "CancelledError"

    def settle(self) -> None:
        if self.held:
            lease = self.held.pop(self.rng.randrange(len(self.held)))
            self.rng.choice([lease.release, lease.release, lease.finished])()

    def disturb(self) -> None:
        rng, fake = self.rng, self.rng.choice(self.fakes)
        if fake.connections:
            rng.choice(fake.connections).reset()
        rng.choice([fake.refuse, fake.accept])(after=rng.choice([0.0, 0.3]))
        if rng.random() < 0.3:
            self.pool.invalidate()

    def cancel(self) -> None:
        if self.asked:
            self.rng.choice(self.asked).cancel()

    def wait(self) -> None:
        self.clock.advance(self.rng.choice([0.0, 0.0, 0.1, 0.5]))

    def look(self) -> None:
        assert all(len(each.connections) <= self.pool.policy.limit for each in self.fakes)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_each_request_is_answered_and_none_with_a_used_connection(
    seed: int,
) -> None:
    crowd = Crowd(seed)
    steps = [crowd.ask] * 8 + [crowd.settle] * 6 + [crowd.wait] * 4
    for _ in range(120):
        crowd.rng.choice([*steps, crowd.cancel, crowd.disturb])()
        crowd.look()
    for _ in range(400):
        while crowd.held:
            crowd.held.pop().release()
        crowd.clock.advance(0.1)
        if crowd.answers == len(crowd.asked) and not crowd.held:
            break
    assert crowd.answers == len(crowd.asked), str(crowd.pool.explain())
    closed = crowd.pool.close(0)
    crowd.clock.pump([0, 0, 61])
    result_of(closed)
    assert not crowd.clock.getDelayedCalls()

"""The indices of C{GroupStatuses} always give the same answers as a search of all statuses."""

from __future__ import annotations

import random
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from kolus import Backend, Ejection, Lease, Status
from kolus.backoff import Backoff
from kolus.balance import fill_first, idle_first, least_leased
from kolus.balance.candidates import in_zone, lowest
from tests.rigs.seen import Seen, by_load, by_queue


def name(status: Status) -> str:
    return str(status.backend)


SEEDS = [0, *[pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2, 3)]]


class Walk:
    """Makes random changes to backends, and compares each index with a search of all statuses."""

    def __init__(self, seed: int, idents: str) -> None:
        self.rng = random.Random(seed)
        self.seen = Seen(
            5,
            "xxyy",
            limit=3,
            idents=idents,
            max_waiters=5,
            acquire_timeout=30.0,
            manager_idle_timeout=7.0,
            idle_timeout=5.0,
            backoff=Backoff(0.5, most=2.0),
            ejection=Ejection(3, 4.0, 16.0, slow_start=6.0),
        )
        self.leases: list[Lease[Any]] = []
        self.asked: list[Deferred[Any]] = []
        self.members: Any = self.seen.group.statuses
        self.steps = [
            *[self.connect] * 6,
            *[self.select] * 6,
            *[self.settle] * 8,
            self.cancel,
            self.fail,
            self.eject,
            self.admit,
            self.pause,
            self.resume,
            self.resize,
            self.drain,
            self.break_off,
            self.refuse,
            *[self.wait] * 3,
        ]

    def at_random(self) -> Backend:
        return self.rng.choice(self.seen.backends)

    def ident(self) -> str:
        return self.rng.choice(("us", "them"))

    def take(self, asked: Deferred[Any]) -> None:
        self.asked.append(asked)
        asked.addCallbacks(self.leases.append, lambda failure: failure.trap(Exception))
        asked.addBoth(lambda _: self.asked.remove(asked))

    def connect(self) -> None:
        timeout = self.rng.choice((None, 1.0))
        self.take(self.seen.pool.connect(self.ident(), self.at_random(), timeout=timeout))

    def select(self) -> None:
        balancer = self.rng.choice((least_leased, fill_first, idle_first))
        exclude = [self.at_random()] if self.rng.random() < 0.2 else []
        timeout = self.rng.choice((None, 1.0))
        self.take(
            self.seen.group.connect("us", balancer=balancer, exclude=exclude, timeout=timeout)
        )

    def settle(self) -> None:
        if self.leases:
            lease = self.leases.pop(self.rng.randrange(len(self.leases)))
            lease.finished() if self.rng.random() < 0.2 else lease.release()

    def cancel(self) -> None:
        if self.asked:
            self.rng.choice(self.asked).cancel()

    def fail(self) -> None:
        if self.leases:
            self.leases.pop().finished(failed=True)

    def eject(self) -> None:
        self.seen.pool.eject(self.at_random())

    def admit(self) -> None:
        self.seen.pool.admit(self.at_random())

    def pause(self) -> None:
        self.seen.pool.pause(self.at_random())

    def resume(self) -> None:
        self.seen.pool.resume(self.at_random() if self.rng.random() < 0.7 else None)

    def resize(self) -> None:
        self.seen.pool.resize(self.rng.randint(1, 4), self.at_random())

    def drain(self) -> None:
        self.seen.pool.drain(self.at_random())

    def break_off(self) -> None:
        for each in self.rng.choice(self.seen.fakes).connections:
            if self.rng.random() < 0.5:
                each.reset()

    def refuse(self) -> None:
        fake = self.rng.choice(self.seen.fakes)
        self.rng.choice((fake.refuse, fake.never_answer, lambda: fake.accept(after=1.0)))()

    def wait(self) -> None:
        self.seen.clock.advance(self.rng.choice((0.0, 0.1, 1.0, 4.0)))

    def run(self, steps: int, compare: Any) -> None:
        done: list[str] = []
        for _ in range(steps):
            step = self.rng.choice(self.steps)
            step()
            done.append(step.__name__)
            compare(self, f"after {done[-4:]}, at {len(done)}")
        for lease in self.leases:
            lease.release()
        self.seen.pool.close(0)
        self.seen.clock.pump([0, 0, 10])


def compare_lowest(walk: Walk, when: str) -> None:
    members = walk.members
    for balancer in (least_leased, fill_first, idle_first):
        # A list has no index: there every status is looked at.
        assert name(balancer(members)) == name(balancer(list(members))), when
    for rank in (by_load, by_queue):
        for some in (members, members.without([walk.seen.backends[0]]), in_zone(members, "y")):
            assert name(lowest(some, rank)) == name(min(some, key=rank)), when


def compare_total(walk: Walk, when: str) -> None:
    brute = sum(each.leased + each.waiting for each in walk.members)
    assert walk.members.total_load == brute, when


@pytest.mark.parametrize("idents", ["reject", "separate", "replace"])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_lowest_is_what_looking_at_each_would_find_whatever_happens(
    seed: int, idents: str
) -> None:
    Walk(seed, idents).run(300, compare_lowest)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_total_load_is_what_looking_at_each_would_find_whatever_happens(seed: int) -> None:
    Walk(seed, "separate").run(600, compare_total)

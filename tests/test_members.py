"""C{Members}: the backends of a group as its balancer sees them, and who is lowest of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, Ejection, KolusError, Lease, Policy, Pool, Status, balance
from kolus.backend import State
from kolus.backoff import Backoff
from kolus.balance import fill_first, idle_first, least_leased
from kolus.candidates import backends_of, in_zone, lowest, total_load
from kolus.testing import FakeBackend, result_of
from tests.rigs import Half


class Seen:
    """A group whose members a test looks at, as a balancer of its own does."""

    def __init__(self, count: int = 3, zones: str = "", **policy: Any) -> None:
        self.clock = Clock()
        self.fakes = [FakeBackend(self.clock) for _ in range(count)]
        self.backends = [
            Backend(fake, name=f"b{at}", zone=zones[at : at + 1])
            for at, fake in enumerate(self.fakes)
        ]
        self.pool: Pool[Any] = Pool(
            self.clock, Protocol, policy=Policy(**({"limit": 3} | policy)), rng=Half()
        )
        self.group = self.pool.group(self.backends, self.balancer)
        self.statuses: Sequence[Status] = []
        self.choice: Any = least_leased
        self.chosen = ""

    def balancer(self, statuses: Sequence[Status]) -> Status:
        self.statuses = statuses
        chosen: Status = self.choice(statuses)
        self.chosen = str(chosen.backend)
        return chosen

    def see(self) -> Sequence[Status]:
        """What a balancer sees now; nothing is leased for it."""
        found: list[Sequence[Status]] = []

        def look(statuses: Sequence[Status]) -> Status:
            found.append(statuses)
            raise KolusError("only looking")

        self.group.connect("us", balancer=look).addErrback(lambda failure: None)
        return found[0]

    def lease(self, place: int) -> Lease[Any]:
        return result_of(self.pool.connect("us", self.backends[place]))

    def turn(self) -> None:
        self.clock.pump([0, 0, 0])


@pytest.fixture
def rig(logged_failures: Any) -> Any:
    """A group to look at; that its looking balancer raises is logged."""
    made = Seen()
    yield made
    logged_failures.flush(KolusError)


def by_load(status: Status) -> float:
    return status.load


def by_queue(status: Status) -> tuple[float, int, int]:
    return (status.load, status.waiting, -(status.idle or 0))


# The index


class Walk:
    """Does at random what may happen to backends, and compares with looking at each."""

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


def name(status: Status) -> str:
    return str(status.backend)


def compare_total(walk: Walk, when: str) -> None:
    brute = sum(each.leased + each.waiting for each in walk.members)
    assert walk.members.total_load == brute, when


@pytest.mark.parametrize("idents", ["reject", "separate", "replace"])
@pytest.mark.parametrize("seed", range(4))
def test_the_lowest_is_what_looking_at_each_would_find_whatever_happens(
    seed: int, idents: str
) -> None:
    Walk(seed, idents).run(300, compare_lowest)


@pytest.mark.parametrize("seed", range(4))
def test_the_total_load_is_what_looking_at_each_would_find_whatever_happens(seed: int) -> None:
    Walk(seed, "separate").run(600, compare_total)


def test_the_lowest_is_found_after_the_backend_that_was_drained_is_gone(rig: Any) -> None:
    held = rig.lease(0)
    members = rig.group.statuses
    rig.pool.drain(rig.backends[0])
    assert lowest(members, by_load).backend is rig.backends[1]
    held.release()
    rig.turn()
    assert rig.pool.status(rig.backends)[0].state is State.ABSENT
    assert lowest(members, by_load).backend is rig.backends[0]


def test_the_lowest_is_found_after_a_resume_where_no_manager_runs(rig: Any) -> None:
    members = rig.group.statuses
    rig.pool.pause(rig.backends[0])
    assert lowest(members, by_load).backend is rig.backends[1]
    rig.pool.resume(rig.backends[0])
    assert lowest(members, by_load).backend is rig.backends[0]


def test_the_lowest_is_found_after_a_waiter_was_cancelled(rig: Any) -> None:
    rig.fakes[0].never_answer(always=True)
    members = rig.group.statuses
    asked = rig.pool.connect("us", rig.backends[0])
    assert lowest(members, by_load).backend is rig.backends[1]
    asked.addErrback(lambda failure: None)
    asked.cancel()
    assert lowest(members, by_load).backend is rig.backends[0]
    rig.clock.advance(5)


def test_a_backend_that_starts_slowly_is_lowest_again_in_time() -> None:
    rig = Seen(2, ejection=Ejection(slow_start=10.0))
    members: Any = rig.group.statuses
    held = [rig.lease(1) for _ in range(2)]
    rig.pool.eject(rig.backends[0])
    assert lowest(members, by_load).backend is rig.backends[1]
    rig.pool.admit(rig.backends[0])
    assert members[0].load == pytest.approx(10.0)
    assert lowest(members, by_load).backend is rig.backends[1]
    rig.clock.advance(5)
    assert members[0].load == pytest.approx(2.0)
    assert lowest(members, by_load).backend is rig.backends[0]
    assert len(held) == 2


def test_the_total_load_counts_what_is_leased_of_idle_connections(rig: Any) -> None:
    members = rig.group.statuses
    assert total_load(members) == 0
    rig.lease(0).release()
    held = rig.lease(0)
    assert total_load(members) == 1
    held.release()
    assert total_load(members) == 0


def test_the_total_load_counts_who_waits(rig: Any) -> None:
    members = rig.group.statuses
    held = [rig.lease(0) for _ in range(3)]
    asked = rig.pool.connect("us", rig.backends[0])
    assert total_load(members) == 4
    asked.addErrback(lambda failure: None)
    asked.cancel()
    assert total_load(members) == 3
    assert len(held) == 3


def test_a_rank_that_raises_does_not_disturb_who_releases(rig: Any, logged_failures: Any) -> None:
    held = rig.lease(0)

    def rank(status: Status) -> float:
        if status.leased == 0 and status.state is State.OPEN:
            raise ArithmeticError("no rank for this")
        return status.load

    members = rig.group.statuses
    assert lowest(members, rank).backend is rig.backends[1]
    held.release()
    rig.lease(0).release()
    with pytest.raises(ArithmeticError):
        lowest(members, rank)


@pytest.mark.parametrize("count", [30, 3000])
def test_how_many_statuses_are_looked_at_does_not_grow_with_the_group(count: int) -> None:
    looks = 0

    def rank(status: Status) -> float:
        nonlocal looks
        looks += 1
        return status.load

    rig = Seen(count)
    rig.choice = lambda statuses: lowest(statuses, rank)
    leases = [result_of(rig.group.connect("us")) for _ in range(20)]
    looks = 0
    for _ in range(50):
        leases.pop(0).release()
        leases.append(result_of(rig.group.connect("us")))
    assert looks < 250
    for each in leases:
        each.release()


# The sequence


def test_members_are_a_sequence_of_statuses_in_the_order_of_the_backends(rig: Any) -> None:
    members = rig.see()
    assert isinstance(members, Sequence)
    assert len(members) == 3
    assert [each.backend for each in members] == rig.backends
    assert members[-1].backend is rig.backends[2]
    assert [each.backend for each in members[1:]] == rig.backends[1:]
    assert [each.backend for each in members[::-1]] == rig.backends[::-1]
    assert [each.backend for each in reversed(members)] == rig.backends[::-1]
    for place in (3, -4):
        with pytest.raises(IndexError):
            members[place]


def test_the_backends_of_members_are_the_same_object_as_long_as_they_are_the_same(
    rig: Any,
) -> None:
    assert backends_of(rig.see()) is backends_of(rig.see())


@pytest.mark.parametrize("out", [[0], [1], [2], [0, 1], [0, 2], [1, 2], []])
def test_without_some_the_others_keep_their_order(rig: Any, out: list[int]) -> None:
    excluded = [rig.backends[each] for each in out]
    others = rig.see().without(excluded)
    left = [each for each in rig.backends if each not in excluded]
    assert [each.backend for each in others] == left
    assert [others[at].backend for at in range(-len(left), 0)] == left
    assert list(backends_of(others)) == left
    assert others[1:][0].backend is left[1] if len(left) > 1 else not others[1:]
    for place in (len(left), -len(left) - 1):
        with pytest.raises(IndexError):
            others[place]


def test_without_all_nothing_is_left_and_nothing_is_lowest(rig: Any) -> None:
    members = rig.see()
    nothing = members.without(rig.backends)
    assert len(nothing) == 0
    with pytest.raises(IndexError):
        lowest(nothing, by_load)
    assert lowest(members, by_load).backend is rig.backends[0]


def test_without_a_stranger_nothing_changes(rig: Any) -> None:
    members = rig.see()
    assert members.without([Backend("tcp:192.0.2.1:1")]) is members


def test_in_a_zone_are_those_of_the_zone_in_their_order() -> None:
    rig = Seen(4, "xyxy")
    members: Any = rig.group.statuses
    assert [str(each.backend) for each in in_zone(members, "y")] == ["b1", "b3"]
    assert len(in_zone(members, "z")) == 0
    others = members.without([rig.backends[1]])
    assert [str(each.backend) for each in in_zone(others, "y")] == ["b3"]


def test_what_is_chosen_in_a_zone_or_without_some_is_chosen() -> None:
    rig = Seen(4, "xyxy")
    rig.choice = lambda statuses: in_zone(statuses, "y")[1]
    assert str(result_of(rig.group.connect("us")).backend) == "b3"
    rig.choice = lambda statuses: in_zone(statuses, "y")[-1]
    lease = result_of(rig.group.connect("us", exclude=[rig.backends[3]]))
    assert rig.chosen == "b1"
    lease.release()


def test_the_lowest_in_a_zone_follows_what_happens() -> None:
    rig = Seen(4, "xyxy")
    members: Any = rig.group.statuses
    near = in_zone(members, "y")
    assert str(lowest(near, by_load).backend) == "b1"
    held = rig.lease(1)
    assert str(lowest(near, by_load).backend) == "b3"
    held.release()
    assert str(lowest(near, by_load).backend) == "b1"


def test_a_request_repeated_elsewhere_goes_to_the_next_on_the_same_ring(rig: Any) -> None:
    members, ring = rig.see(), balance.Ring()
    home = balance.consistent("user:7", ring)(members)
    elsewhere = members.without([home.backend])
    following = balance.consistent("user:7", ring)(elsewhere)
    assert following.backend == balance.consistent("user:7")(list(elsewhere)).backend
    assert following.backend != home.backend
    assert len(ring._circles) == 1

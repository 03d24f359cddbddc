"""Rule 39: an owner that lives long, and has had very much, is as light and quick as a new one."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, Lease, Policy, Pool
from kolus.testing import FakeBackend, result_of
from tests.rigs.steps import steps
from tests.watching.test_owners import each_kind

Make = Callable[[], Any]
End = Callable[[Any], object]

shared_or_not = pytest.mark.parametrize("slots", [None, 3], ids=["exclusive", "shared"])


class Long:
    """A pool of one backend whose manager comes and goes, and whose leases have an owner."""

    def __init__(self, owner: Any, **policy: Any) -> None:
        self.owner = owner
        self.clock = Clock()
        self.fake = FakeBackend(self.clock)
        self.backend = Backend(self.fake, name="b")
        settings: dict[str, Any] = {"limit": 1, "leak_after": None} | policy
        self.pool: Pool[Any] = Pool(self.clock, Protocol, policy=Policy(**settings))

    def ask(self) -> Deferred[Lease[Any]]:
        return self.pool.connect("us", self.backend, owner=self.owner)

    def lease(self) -> Lease[Any]:
        return result_of(self.ask())

    def turn(self) -> None:
        self.clock.pump([0] * 5)

    # What an owner may have

    def managers(self) -> None:
        self.lease().release()
        self.pool.drain(self.backend)

    def leases(self) -> None:
        self.lease().release()
        self.lease().finished()

    def leases_that_others_end(self) -> None:
        lease = self.lease()
        lease.when_lost().addErrback(lambda _: None)
        self.fake.connections[-1].close()
        self.turn()
        lease.release()

    def requests(self) -> None:
        others = [
            result_of(self.pool.connect("us", self.backend))
            for _ in range(self.pool.policy.slots or 1)
        ]
        served, cancelled = self.ask(), self.ask()
        cancelled.addErrback(lambda _: None)
        cancelled.cancel()
        for each in others:
            each.release()
        result_of(served).release()

    def choices(self) -> None:
        result_of(self.pool.select("us", [self.backend], owner=self.owner)).release()
        self.pool.drain(self.backend)


def left_by(had: Callable[[Long], None], owner: Any, times: int, slots: int | None) -> float:
    """How many objects it leaves to have something once, on average."""
    long = Long(owner, slots=slots)

    def objects(count: int) -> int:
        for _ in range(count):
            had(long)
            long.turn()
        long.fake.accepted.clear()
        gc.collect()
        return len(gc.get_objects())

    before = objects(20)
    return (objects(times) - before) / times


@each_kind
@shared_or_not
@pytest.mark.parametrize(
    "had",
    [Long.managers, Long.leases, Long.leases_that_others_end, Long.requests, Long.choices],
    ids=lambda had: str(had.__name__),
)
def test_nothing_of_what_an_owner_had_stays(
    make: Make, end: End, slots: int | None, had: Callable[[Long], None]
) -> None:
    assert left_by(had, make(), 100, slots) < 0.3


@each_kind
def test_nothing_of_a_pool_that_is_gone_stays_with_an_owner(make: Make, end: End) -> None:
    owner = make()

    def objects(count: int) -> int:
        for _ in range(count):
            long = Long(owner)
            long.leases()
            long.pool.close()
            long.turn()
        del long
        gc.collect()
        return len(gc.get_objects())

    before = objects(10)
    assert (objects(60) - before) / 60 < 0.3


@each_kind
def test_an_owner_of_many_pools_that_are_gone_still_ends_its_lease(make: Make, end: End) -> None:
    owner = make()
    for _ in range(30):
        Long(owner).lease().release()
    lease = Long(owner).lease()
    end(owner)
    assert not lease.held


def test_a_stop_that_was_replaced_since_ends_the_leases_that_came_after() -> None:
    owner = Service()
    early = Long(owner).lease()
    inner: Any = owner.stopService
    owner.stopService = lambda: inner()  # type: ignore[method-assign]
    late = Long(owner).lease()
    owner.stopService()
    assert (early.held, late.held) == (False, False)
    owner.startService()
    assert Long(owner).lease().held


# Cost

MANY = 3000


def crowd(count: int, slots: int | None) -> tuple[Long, list[Lease[Any]]]:
    """An owner of so many leases."""
    limit = count + 10 if slots is None else 2
    long = Long(Service(), limit=limit, slots=slots and count + 10)
    return long, [long.lease() for _ in range(count)]


@pytest.mark.long
@shared_or_not
@pytest.mark.parametrize("how", ["lease", "release", "finished", "end", "when_lost"])
def test_what_an_owner_does_costs_no_more_with_all_that_it_has(how: str, slots: int | None) -> None:
    costs = []
    for count in (10, MANY):
        long, leases = crowd(count, slots)
        watched = [each.when_lost() for each in leases]
        if how == "lease":
            costs.append(steps(lambda long=long, leases=leases: leases.append(long.lease())))  # type: ignore[misc]
        else:
            costs.append(steps(getattr(leases[count // 2], how)))
        assert not any(each.called for each in watched if each is not watched[count // 2])
        leases.clear()
    few, many = costs
    assert many < 2 * few, (few, many)


@shared_or_not
def test_watching_all_of_very_many_leases_takes_time_in_proportion(slots: int | None) -> None:
    costs = []
    for count in (100, 1000):
        _, leases = crowd(count, slots)
        costs.append(
            steps(lambda leases=leases: [each.when_lost() for each in leases])  # type: ignore[misc]
        )
    few, many = costs
    assert many < 15 * few, (few, many)


def test_a_lease_that_ends_costs_no_more_with_owners_that_do_not_wait() -> None:
    costs = []
    for count in (10, 1000):
        long = Long(Service(), slots=count + 1)
        owners = [Service() for _ in range(count)]
        leases = [result_of(long.pool.connect("us", long.backend, owner=each)) for each in owners]
        long.pool.invalidate()  # each lease that ends leaves less that can be leased
        asked = long.ask()
        costs.append(steps(leases.pop().release))
        for lease in leases:
            lease.release()
        long.turn()
        result_of(asked).release()
    few, many = costs
    assert many < 2 * few, (few, many)

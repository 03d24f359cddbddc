"""Choosing among backends, on a clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, Lease, LeaseError, LeaseTimeout, NoBackend, Pool, Status, balance
from kolus.balance import fill_first
from kolus.testing import result_of
from tests.conftest import LoggedFailures
from tests.rigs.pools import Pooled

# select


def test_select_connects_where_the_balancer_says() -> None:
    rig = Pooled()
    lease = result_of(rig.pool.select("us", rig.backends, lambda statuses: statuses[1]))
    assert lease.backend == rig.backends[1]
    lease.release()


def test_select_shows_the_balancer_a_status_for_each_backend_in_order() -> None:
    rig = Pooled()
    seen: list[Status] = []

    def first(statuses: Sequence[Status]) -> Status:
        seen.extend(statuses)
        return statuses[0]

    result_of(rig.pool.select("us", rig.backends, first)).release()
    assert [each.backend for each in seen] == rig.backends


def test_select_uses_the_policys_balancer() -> None:
    rig = Pooled(balancer=fill_first)
    leases = [result_of(rig.pool.select("us", rig.backends)) for _ in range(3)]
    assert [str(each.backend) for each in leases] == ["a", "a", "b"]
    for lease in leases:
        lease.release()


def test_selects_time_out_is_the_requests() -> None:
    rig = Pooled(limit=1)
    held = result_of(rig.pool.select("us", rig.backends[:1]))
    asked = rig.pool.select("us", rig.backends[:1], timeout=1)
    rig.clock.advance(1)
    with pytest.raises(LeaseTimeout):
        result_of(asked)
    held.release()


def test_select_from_what_is_all_excluded_says_so() -> None:
    rig = Pooled()
    with pytest.raises(NoBackend, match="exclude names them all"):
        result_of(rig.pool.select("us", rig.backends, exclude=rig.backends))


def test_select_from_nothing_fails() -> None:
    with pytest.raises(NoBackend, match="no backend to choose from"):
        result_of(Pooled().pool.select("us", []))


@pytest.mark.parametrize("choice", [None, "a", 0])
def test_a_balancer_that_chooses_none_of_them_fails_the_request(choice: Any) -> None:
    rig = Pooled()
    with pytest.raises(NoBackend, match="none of the 3 statuses"):
        result_of(rig.pool.select("us", rig.backends, lambda statuses: choice))
    assert rig.pool.status() == []


def test_a_balancer_that_raises_is_logged_and_contained(logged_failures: LoggedFailures) -> None:
    rig = Pooled()

    def broken(statuses: Sequence[Status]) -> Status:
        raise RuntimeError("cannot decide")

    with pytest.raises(NoBackend, match="RuntimeError: cannot decide") as caught:
        result_of(rig.pool.select("us", rig.backends, broken))
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert len(logged_failures.flush(RuntimeError)) == 1
    result_of(rig.pool.select("us", rig.backends)).release()


class Untouched(Sequence[str]):
    """Ten thousand endpoint strings, of which nobody may look at more than a few."""

    def __init__(self) -> None:
        self.looked: list[int] = []

    def __len__(self) -> int:
        return 10_000

    def __getitem__(self, place: Any) -> Any:
        self.looked.append(place)
        return f"tcp:192.0.2.1:{place + 1}"

    def __iter__(self) -> Any:
        raise AssertionError("the list is walked")


def test_select_looks_at_no_more_of_a_list_than_its_balancer() -> None:
    pool: Pool[Any] = Pool(Clock(), Protocol)
    backends = Untouched()
    for balancer in (balance.pick_two(), balance.round_robin()):
        backends.looked.clear()

        def stopped(statuses: Sequence[Status], choose: Any = balancer) -> Any:
            choose(statuses)  # what it chooses is not told, and so not connected to

        with pytest.raises(NoBackend):
            result_of(pool.select("us", backends, stopped))
        assert len(backends.looked) <= 17
    assert pool.status() == []


def test_select_serves_at_once_without_a_look_at_the_rest() -> None:
    rig = Pooled()
    result_of(rig.pool.connect("us", rig.backends[0])).release()

    class First(Untouched):
        def __getitem__(self, place: Any) -> Any:
            self.looked.append(place)
            return rig.backends[0]

    backends = First()
    result_of(rig.pool.select("us", backends, balance.pick_two())).release()
    assert len(backends.looked) == 2


# Two that are drawn


class Drawn:
    """A pool with three backends and a balancer that draws, with what it will draw next."""

    def __init__(self, among: str, weights: Sequence[float] = (1, 1, 1)) -> None:
        self.rig = Pooled(limit=1)
        self.rig.backends = [
            replace(each, weight=weight)
            for each, weight in zip(self.rig.backends, weights, strict=True)
        ]
        self.rng, self._foretold = Random(4), Random(4)
        self.balancer = balance.pick_two(self.rng)
        self.group = self.rig.pool.group(self.rig.backends, self.balancer)
        self._among = among

    def ask(self, ident: str = "us") -> Deferred[Lease[Any]]:
        if self._among == "a group":
            return self.group.connect(ident)
        return self.rig.pool.select(ident, self.rig.backends, self.balancer)

    def connect_to_all(self) -> None:
        leases = [result_of(self.rig.pool.connect("us", each)) for each in self.rig.backends]
        for each in leases:
            each.release()
        self.look()

    def look(self) -> None:
        """Let the load of each be noted."""
        asked = self.group.connect("us", balancer=lambda all: min(all, key=attrgetter("load")))
        result_of(asked).release()

    def next_two(self) -> tuple[Backend, Backend]:
        first, second = (int(self._foretold.random() * count) for count in (3, 2))
        return self.rig.backends[first], self.rig.backends[second + (second >= first)]


AMONG = pytest.mark.parametrize("among", ["a group", "a list"])


@AMONG
def test_a_request_that_is_served_at_once_has_the_less_loaded_of_the_two_drawn(among: str) -> None:
    drawn = Drawn(among)
    drawn.connect_to_all()
    for _ in range(20):
        first, second = drawn.next_two()
        busy = result_of(drawn.rig.pool.connect("us", first))
        lease = result_of(drawn.ask())
        assert lease.backend == second
        for each in (lease, busy):
            each.release()
        drawn.look()


@AMONG
def test_of_two_with_nothing_to_do_the_one_of_more_weight_serves(among: str) -> None:
    drawn = Drawn(among, weights=(1, 2, 3))
    drawn.connect_to_all()
    for _ in range(20):
        first, second = drawn.next_two()
        lease = result_of(drawn.ask())
        assert lease.backend == max(first, second, key=attrgetter("weight"))
        lease.release()
        drawn.look()


@AMONG
def test_of_backends_with_nothing_to_do_each_serves_as_often(among: str) -> None:
    drawn = Drawn(among)
    drawn.connect_to_all()
    served: Counter[Backend] = Counter()
    for _ in range(3000):
        lease = result_of(drawn.ask())
        served[lease.backend] += 1
        lease.release()
    assert all(900 < served[each] < 1100 for each in drawn.rig.backends)


@AMONG
def test_a_request_of_another_ident_goes_to_the_first_drawn_if_that_has_nothing_to_do(
    among: str,
) -> None:
    drawn = Drawn(among)
    drawn.connect_to_all()
    first, _ = drawn.next_two()
    asked = drawn.ask("them")
    drawn.rig.turn()  # the idle connection makes way
    lease = result_of(asked)
    assert lease.backend == first
    lease.release()


@AMONG
def test_a_request_to_backends_that_nothing_is_known_of_draws_no_more_than_two(among: str) -> None:
    drawn = Drawn(among)
    first, second = drawn.next_two()
    result_of(drawn.ask()).release()
    assert drawn.rng.getstate() == drawn._foretold.getstate()
    assert {each.backend for each in drawn.rig.pool.status()} <= {first, second}


@AMONG
def test_a_request_that_has_to_wait_draws_no_more_than_two(among: str) -> None:
    drawn = Drawn(among)
    drawn.connect_to_all()
    busy = [result_of(drawn.rig.pool.connect("us", each)) for each in drawn.rig.backends]
    drawn.next_two()
    waiter = drawn.ask()
    assert drawn.rng.getstate() == drawn._foretold.getstate()
    for each in busy:
        each.release()
    result_of(waiter).release()


@AMONG
@pytest.mark.parametrize("ident", ["us", "them"])
def test_a_request_of_an_owner_that_has_ended_fails_as_it_would_alone(
    among: str, ident: str
) -> None:
    drawn = Drawn(among)
    drawn.connect_to_all()
    ended: Deferred[None] = Deferred()
    ended.callback(None)
    asked = (
        drawn.group.connect(ident, owner=ended)
        if among == "a group"
        else drawn.rig.pool.select(ident, drawn.rig.backends, drawn.balancer, owner=ended)
    )
    with pytest.raises(LeaseError):
        result_of(asked)

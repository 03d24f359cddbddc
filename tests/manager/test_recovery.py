"""A backend that is back is used again within two seconds of the next request."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, Policy, Pool, balance
from kolus.backoff import Backoff
from kolus.events import Admitted, Ejected, Event, ProbeDue, Recovered
from kolus.health import Ejection
from kolus.status import State
from kolus.testing import FakeBackend
from tests.rigs.pools import Half, Managed

EVERY = 0.05
"""Seconds between two requests, in most of these tests."""


class World:
    """A pool whose first backend goes away and comes back.

    @ivar served: the names of the backends that served the requests.
    """

    def __init__(self, count: int = 1, seed: int | None = None, **policy: Any) -> None:
        self.clock = Clock()
        self.fakes = [FakeBackend(self.clock) for _ in range(count)]
        self.backends = [Backend(fake, name=name) for fake, name in zip(self.fakes, "abcdefgh")]  # noqa: B905
        self.events: list[Event] = []
        rng: Any = Half() if seed is None else random.Random(seed)
        settings = {"idents": "separate", "balancer": balance.round_robin()} | policy
        self.pool: Pool[Any] = Pool(
            self.clock, Protocol, policy=Policy(**settings), observers=[self.events.append], rng=rng
        )
        self.group = self.pool.group(self.backends)
        self.served: list[str] = []

    def ask(self, way: str = "connect", ident: str = "us") -> None:
        asked: Deferred[Any] = {
            "connect": lambda: self.pool.connect(ident, self.backends[0]),
            "select": lambda: self.pool.select(ident, self.backends),
            "group": lambda: self.group.connect(ident),
        }[way]()
        asked.addCallbacks(self._use, lambda failure: None)

    def _use(self, lease: Any) -> None:
        self.served.append(str(lease.backend))
        self.clock.callLater(0.01, lease.release)

    def ask_for(self, seconds: float, way: str = "connect", every: float = EVERY) -> None:
        for _ in range(round(seconds / every)):
            self.ask(way)
            self.clock.advance(every)

    def until_served(self, way: str = "connect", every: float = EVERY) -> float:
        """Ask until the first backend has served a request.

        @return: after how many seconds it did.
        """
        began = self.clock.seconds()
        self.served.clear()
        while "a" not in self.served:
            assert self.clock.seconds() < began + 100
            self.ask(way)
            self.clock.advance(every)
        return self.clock.seconds() - began

    def happened(self, kind: type[Event]) -> list[Any]:
        return [each for each in self.events if isinstance(each, kind)]


def refuses(fake: FakeBackend) -> None:
    fake.refuse(always=True)


def refuses_slowly(fake: FakeBackend) -> None:
    fake.refuse(after=0.7, always=True)


def is_silent(fake: FakeBackend) -> None:
    fake.never_answer(always=True)


@pytest.mark.parametrize("fail_fast", [True, False])
@pytest.mark.parametrize("way", ["connect", "select", "group"])
@pytest.mark.parametrize("outage", [refuses, refuses_slowly, is_silent])
@pytest.mark.parametrize("seconds", [0.5, 7, pytest.param(100, marks=pytest.mark.long)])
def test_a_backend_that_is_back_serves_within_two_seconds_however_long_it_was_away(
    seconds: float, outage: Callable[[FakeBackend], None], way: str, fail_fast: bool
) -> None:
    for seed in range(5):
        world = World(seed=seed, fail_fast=fail_fast)
        outage(world.fakes[0])
        world.ask_for(seconds, way)
        world.fakes[0].accept(always=True)
        assert world.until_served(way) <= 2 + 2 * EVERY


def test_one_request_during_the_back_off_is_enough_to_find_out_that_a_backend_is_back() -> None:
    rig = Managed(backoff=Backoff(first=2, most=2))
    rig.fake.refuse()
    for _ in range(3):
        rig.ask().addErrback(lambda failure: None)
    rig.clock.advance(0.9)
    assert rig.fake.attempts == 1
    rig.clock.advance(0.1)
    assert rig.numbers()[0] == 1  # it is ready for the next request
    assert rig.fake.attempts == 2


def test_a_backend_that_nobody_asks_for_is_left_alone() -> None:
    rig = Managed()
    rig.fake.refuse(always=True)
    for _ in range(3):
        rig.ask().addErrback(lambda failure: None)
    rig.clock.pump([0.1] * 600)
    assert rig.fake.attempts == 2  # for the first request, and for the others


def test_the_back_off_bounds_the_attempts_however_many_requests_and_idents_there_are() -> None:
    world = World()
    world.fakes[0].refuse(always=True)
    for _ in range(600):
        for ident in "abcde":
            world.ask(ident=ident)
        world.clock.advance(0.1)
    assert 50 <= world.fakes[0].attempts <= 70  # with all jitter at one half, one a second


def test_connections_that_cannot_be_prepared_are_an_outage_too() -> None:
    broken = [True]

    def prepare(protocol: Any) -> None:
        if broken:
            raise ValueError("no")

    world = World(prepare=prepare)
    world.ask_for(20)
    broken.clear()
    assert world.until_served() <= 2


# The log


def test_an_outage_and_its_end_are_each_told_once(log_events: list[Any]) -> None:
    world = World(ejection=None)
    world.fakes[0].refuse(always=True)
    world.ask_for(30)
    world.fakes[0].accept(always=True)
    world.until_served()
    told = [each for each in log_events if each["log_level"].name in ("warn", "info")]
    told = [each for each in told if "joined" not in each]
    assert len(told) == 2
    (back,) = world.happened(Recovered)
    assert 29 < back.after < 33
    assert f"a is back after {back.after:.3g} s" in told[1]["log_format"].format(**told[1])


def test_a_backend_that_speaks_first_is_told_once_a_minute_if_it_is_connected_to_ahead(
    log_events: list[Any],
) -> None:
    world = World(min_idle=3, ejection=None)
    world.pool.connect("us", world.backends[0]).addCallback(lambda lease: lease.finished())
    fake = world.fakes[0]
    for _ in range(1150):
        world.clock.advance(0.1)
        for each in fake.connections:
            each.speak(b"220 hello")
    assert len(fake.accepted) > 60
    told = [
        (each["log_level"].name, each["log_format"].format(**each))
        for each in log_events
        if each["log_level"].name in ("warn", "info") and "joined" not in each
    ]
    assert [level for level, _ in told] == ["warn", "info", "warn", "info"]
    assert all("back after" in text for level, text in told if level == "info")
    assert "9 bytes came while it was idle; if its backend speaks first, " in told[0][1]


def test_that_the_check_of_each_new_connection_fails_is_told_once_a_minute(
    log_events: list[Any],
) -> None:
    def check(protocol: Any) -> None:
        raise ValueError("no answer")

    world = World(check=check, check_after=0.0, ejection=None)
    world.ask_for(115)
    assert len(world.fakes[0].accepted) > 60
    told = [
        each["log_format"].format(**each)
        for each in log_events
        if each["log_level"].name in ("warn", "info")
    ]
    assert len([each for each in told if "but its check failed" in each]) == 2
    assert len([each for each in told if "is back after" in each]) == 2


def test_a_failure_for_another_reason_is_told(log_events: list[Any]) -> None:
    world = World(ejection=None)
    world.fakes[0].refuse(always=True)
    world.ask_for(10)
    world.fakes[0].refuse(reason=ValueError("another"), always=True)
    world.ask_for(10)
    told = [each for each in log_events if each["log_level"].name == "warn"]
    assert len(told) == 2


# Ejected backends


@pytest.mark.parametrize("way", ["select", "group"])
@pytest.mark.parametrize("name", ["fill_first", "pick_two", "round_robin", "least_leased"])
@pytest.mark.parametrize("seconds", [8, 100, pytest.param(1000, marks=pytest.mark.long)])
def test_an_ejected_backend_that_is_back_is_used_again_within_two_seconds(
    seconds: float, name: str, way: str
) -> None:
    balancer: Any = getattr(balance, name)
    world = World(
        3, seed=1, balancer=balancer if name in ("fill_first", "least_leased") else balancer()
    )
    world.ask_for(1, way)
    world.fakes[0].refuse(always=True)
    for connection in world.fakes[0].connections:
        connection.close()
    for _ in range(5):
        world.ask()
        world.clock.advance(1)
    world.ask_for(seconds, way, every=0.1)
    assert world.happened(Ejected)
    world.fakes[0].accept(always=True)
    # Others serve meanwhile; with a balancer that likes these better it takes some load to see it.
    began = world.clock.seconds()
    while not world.happened(Admitted):
        for _ in range(6):
            world.ask(way)
        world.clock.advance(0.1)
        assert world.clock.seconds() <= began + 2.3


def test_an_ejected_backend_is_tried_no_more_often_than_the_back_off_allows() -> None:
    world = World(3)
    world.fakes[0].refuse(always=True)
    for _ in range(5):
        world.ask()
        world.clock.advance(1)
    before = world.fakes[0].attempts
    world.ask_for(100, "group")
    assert 50 <= world.fakes[0].attempts - before <= 120


def test_an_ejected_backend_is_left_alone_while_nobody_asks_for_its_group() -> None:
    world = World(3)
    world.fakes[0].refuse(always=True)
    for _ in range(5):
        world.ask()
        world.clock.advance(1)
    world.ask_for(3, "group")
    world.clock.pump([1] * 5)
    before = world.fakes[0].attempts
    world.clock.pump([1] * 1000)
    assert world.fakes[0].attempts == before


def test_a_backend_whose_leases_failed_is_not_admitted_because_it_accepts() -> None:
    world = World(3, ejection=Ejection(first=60.0, most=60.0))
    for _ in range(5):
        lease: list[Any] = []
        world.pool.connect("us", world.backends[0]).addCallback(lease.append)
        lease.pop().finished(failed=True)
        world.clock.advance(0.1)
    (ejected,) = world.happened(Ejected)
    world.ask_for(ejected.seconds - 1, "group", every=0.1)
    assert not world.happened(ProbeDue)
    assert world.fakes[0].attempts <= 6


def test_a_backend_whose_leases_failed_and_that_then_was_away_is_probed_when_it_is_back() -> None:
    world = World(3, ejection=Ejection(first=60.0, most=60.0))
    world.fakes[0].refuse(always=True)
    world.fakes[0].accept()
    for _ in range(5):
        world.fakes[0].accept()
        lease: list[Any] = []
        world.pool.connect("us", world.backends[0]).addCallback(lease.append)
        lease.pop().finished(failed=True)
        world.clock.advance(0.1)
    assert len(world.happened(Ejected)) == 1
    world.fakes[0]._script.clear()
    world.ask_for(10, "group")
    world.fakes[0].accept(always=True)
    assert world.until_served("group") <= 2.5


def test_the_probe_of_a_backend_that_is_back_is_made_once() -> None:
    probed: list[Any] = []
    world = World(3, probe=probed.append)
    world.fakes[0].refuse(always=True)
    for _ in range(5):
        world.ask()
        world.clock.advance(1)
    world.ask_for(20, "group")
    assert not probed
    world.fakes[0].accept(always=True)
    world.ask_for(3, "group")
    assert len(probed) == 1
    assert len(world.happened(Admitted)) == 1


def test_a_backend_that_was_ejected_by_hand_is_not_tried() -> None:
    world = World(3)
    world.pool.eject(world.backends[0])
    world.ask_for(10, "group")
    assert world.fakes[0].attempts == 0


def test_a_manager_that_has_gone_is_made_again_to_try_its_backend() -> None:
    world = World(3, manager_idle_timeout=1.0, ejection=Ejection(first=300.0, most=300.0))
    world.fakes[0].refuse(always=True)
    for _ in range(5):
        world.ask()
        world.clock.advance(1)
    world.ask_for(3, "group")
    world.clock.pump([1] * 10)
    assert world.pool.manager(world.backends[0]) is None
    world.fakes[0].accept(always=True)
    world.ask_for(1, "group")
    world.ask_for(1, "group")
    assert world.until_served("group") <= 2


def test_a_closed_pool_tries_nothing() -> None:
    world = World(3)
    world.fakes[0].refuse(always=True)
    for _ in range(5):
        world.ask()
        world.clock.advance(1)
    world.ask("group")
    world.clock.advance(0.02)
    world.pool.close(0)
    world.ask("group")
    world.clock.advance(0)
    assert not world.clock.getDelayedCalls()


def test_the_manager_that_tries_a_backend_is_for_who_asked_and_not_for_nobody() -> None:
    """Otherwise it would keep everybody else out for a while, where idents exclude each other."""
    usable = False
    clock = Clock()
    backend = Backend(FakeBackend(clock), name="a")

    def make(where: Backend, ident: Any) -> Any:
        if not usable:
            raise ValueError("not yet")
        return pool._make(where, ident)

    policy = Policy(idents="reject", fail_fast=False, ejection=Ejection(failures=1, first=60.0))
    pool: Pool[Any] = Pool(clock, Protocol, policy=policy, make_manager=make, rng=Half())
    other = Backend(FakeBackend(clock), name="b")
    third = Backend(FakeBackend(clock), name="c")
    usable = True
    made_there = pool.connect("us", other), pool.connect("us", third)
    usable = False
    group = pool.group([backend, other, third], balance.fill_first)
    for _ in range(20):
        group.connect("us").addBoth(lambda got: getattr(got, "release", bool)())
        clock.advance(0.1)
        usable = usable or pool.status([backend])[0].state is State.EJECTED
    assert len(made_there) == 2
    made = pool.manager(backend)
    assert made is not None
    assert made.ident == "us"

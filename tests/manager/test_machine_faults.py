"""What this machine lacks for a connect is held against no backend."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectBindError, ConnectError
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, LeaseTimeout, Policy, Pool, balance
from kolus.errors import ConnectFailed, MachineFault
from kolus.events import Ejected, Event
from kolus.testing import FakeBackend, result_of
from tests.rigs.pools import Half

GENERAL = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM]
WAYS = ["connect", "select", "group"]


def caused() -> Exception:
    error = ValueError("the endpoint says nothing else")
    error.__cause__ = OSError(errno.EMFILE, "Too many open files")
    return error


FAULTS: list[Callable[[], Exception]] = [
    lambda: ConnectBindError(errno.EMFILE, "Too many open files"),
    lambda: ConnectError(errno.ENOBUFS, "No buffer space available"),
    lambda: OSError(errno.ENFILE, "Too many open files in system"),
    lambda: OSError(errno.ENOMEM, "Cannot allocate memory"),
    lambda: RuntimeError("can't start new thread"),
    lambda: ConnectBindError(errno.EADDRINUSE, "Address already in use"),
    lambda: BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    caused,
]


class World:
    """A pool with two backends by default."""

    def __init__(self, count: int = 2, **policy: Any) -> None:
        self.clock = Clock()
        self.fakes = [FakeBackend(self.clock) for _ in range(count)]
        self.backends = [Backend(fake, name=f"b{place}") for place, fake in enumerate(self.fakes)]
        self.events: list[Event] = []
        settings = {"balancer": balance.round_robin()} | policy
        self.pool: Pool[Any] = Pool(
            self.clock,
            Protocol,
            policy=Policy(**settings),
            observers=[self.events.append],
            rng=Half(),  # type: ignore[arg-type]
        )
        self.group = self.pool.group(self.backends)
        self.served: list[str] = []
        self.failed: list[Any] = []

    def ask(self, way: str = "connect", place: int = 0) -> Deferred[Any]:
        ways: dict[str, Callable[[], Deferred[Any]]] = {
            "connect": lambda: self.pool.connect("us", self.backends[place]),
            "select": lambda: self.pool.select("us", self.backends),
            "group": lambda: self.group.connect("us"),
        }
        return ways[way]()

    def use(self, way: str = "connect", place: int = 0) -> None:
        def release(lease: Any) -> None:
            self.served.append(str(lease.backend))
            lease.release()

        self.ask(way, place).addCallbacks(
            release, lambda failure: self.failed.append(failure.value)
        )

    def lack(self, fault: Callable[[], Exception]) -> None:
        for fake in self.fakes:
            fake.refuse(reason=fault(), always=True)

    def recover(self) -> None:
        for fake in self.fakes:
            fake.accept(always=True)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", WAYS)
def test_a_fault_of_this_machine_ejects_nobody_and_costs_no_back_off(
    way: str, fault: Callable[[], Exception]
) -> None:
    world = World()
    world.lack(fault)
    for _ in range(100):
        world.use(way)
        world.clock.advance(0.1)
    assert not [each for each in world.events if isinstance(each, Ejected)]
    world.recover()
    world.served.clear()
    for _ in range(10):
        world.use(way)
        world.clock.advance(0.1)
    assert world.served


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fail_fast", [True, False])
def test_requests_wait_until_the_fault_is_over(way: str, fail_fast: bool) -> None:
    world = World(fail_fast=fail_fast)
    world.lack(FAULTS[0])
    for _ in range(50):
        world.use(way)
    world.clock.pump([0.1] * 40)
    assert (world.served, world.failed) == ([], [])
    world.recover()
    world.clock.pump([0.1] * 9)
    assert len(world.served) == 50


@pytest.mark.parametrize("way", WAYS)
def test_the_error_at_the_deadline_names_the_fault_and_what_to_do(way: str) -> None:
    world = World()
    world.lack(FAULTS[0])
    asked = world.ask(way)
    world.clock.pump([0.1] * 51)
    with pytest.raises(LeaseTimeout, match="no file descriptor left: raise its limit") as told:
        result_of(asked)
    assert isinstance(told.value.last_error, MachineFault)
    assert isinstance(told.value.last_error.reason, ConnectBindError)


def test_the_error_of_a_request_to_another_backend_names_the_fault_too() -> None:
    world = World()
    world.lack(FAULTS[0])
    world.use(place=0)
    world.fakes[1].never_answer(always=True)
    asked = world.ask(place=1)
    world.clock.pump([0.0001] + [1] * 6)
    assert world.fakes[1].attempts
    with pytest.raises(LeaseTimeout):
        result_of(asked)


def test_a_lease_that_is_released_serves_who_waits_for_a_connection() -> None:
    world = World()
    leases = [result_of(world.ask()) for _ in range(10)]
    world.lack(FAULTS[0])
    world.use()
    world.clock.pump([0.1] * 10)
    assert not world.served
    leases.pop().release()
    assert world.served == ["b0"]
    for lease in leases:
        lease.release()


def test_connects_to_all_backends_pause_and_are_few() -> None:
    world = World(5)
    world.lack(FAULTS[0])
    for _ in range(300):
        for place in range(5):
            world.use(place=place)
        world.clock.advance(0.1)
    assert sum([fake.attempts for fake in world.fakes]) <= 5 * 4 * 70


def test_after_a_fault_one_attempt_is_made_at_a_time() -> None:
    world = World(1, limit=100)
    number = errno.EMFILE
    for way in WAYS:
        world.fakes[0].refuse(0.05, ConnectBindError(number, "Too many open files"), always=True)
        for _ in range(30):
            world.use(way)
        world.clock.pump([0.05])  # the first attempts, before anybody knew
        for _ in range(100):
            before = world.fakes[0].attempts
            world.clock.advance(0.02)
            assert world.fakes[0].attempts - before <= 1
        world.recover()
        world.clock.pump([0.5] * 10)


def test_a_backend_that_works_is_not_kept_waiting_by_a_local_address_that_another_lacks() -> None:
    world = World()
    world.fakes[0].refuse(reason=ConnectError(errno.EADDRNOTAVAIL, "Cannot assign"), always=True)
    for _ in range(100):
        world.use()
        world.use(place=1)
        world.use("group")
        world.clock.advance(0.05)
    assert not [each for each in world.events if isinstance(each, Ejected)]
    assert world.served.count("b1") == 200
    assert world.fakes[0].attempts < 20
    world.fakes[0].accept(always=True)
    world.served.clear()
    for _ in range(30):
        world.use()
        world.clock.advance(0.05)
    assert "b0" in world.served


@pytest.mark.parametrize(
    "number", [errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EPERM]
)
def test_what_may_be_true_of_one_backend_alone_is_held_against_it(number: int) -> None:
    world = World()
    world.fakes[0].refuse(reason=ConnectError(number, "no"), always=True)
    with pytest.raises(ConnectFailed) as told:
        result_of(world.ask())
    assert not isinstance(told.value.reason, MachineFault)
    for _ in range(60):
        world.use()
        world.clock.advance(0.25)
    assert [each for each in world.events if isinstance(each, Ejected)]


def test_a_fault_is_told_once_and_so_is_its_end(log_events: list[Any]) -> None:
    world = World(3)
    world.lack(FAULTS[0])
    for _ in range(100):
        for place in range(3):
            world.use(place=place)
        world.clock.advance(0.1)
    world.recover()
    world.clock.pump([0.1] * 20)
    told = [each for each in log_events if each["log_level"].name in ("warn", "info")]
    told = [each["log_format"].format(**each) for each in told if "joined" not in each]
    assert len(told) == 2
    assert "this process has no file descriptor left" in told[0]
    assert "in a row" not in told[0]
    assert told[1].startswith("connecting works again on this machine after 10")


@pytest.mark.parametrize("hook", ["prepare", "check", "reset", "probe"])
def test_a_hook_that_lacks_something_is_not_held_against_the_backend(hook: str) -> None:
    lacks: list[bool] = []

    def run(protocol: Any) -> None:
        if lacks:
            raise OSError(errno.EMFILE, "Too many open files")

    world = World(1, check_after=0.0, **{hook: run})
    world.use()
    lacks.append(True)
    for _ in range(60):
        if hook == "prepare":
            world.fakes[0].connections and world.fakes[0].connections[0].close()
        world.use()
        world.clock.advance(0.1)
    assert not [each for each in world.events if isinstance(each, Ejected)]


def test_the_probe_of_a_backend_that_lacks_something_decides_nothing() -> None:
    lacks = [True]
    probes: list[Any] = []

    def probe(protocol: Any) -> None:
        probes.append(protocol)
        if lacks:
            raise OSError(errno.EMFILE, "Too many open files")

    world = World(3, probe=probe)
    for _ in range(5):
        result_of(world.ask()).finished(failed=True)
        world.clock.advance(0.01)
    world.clock.pump([0.1] * 200)
    ejections = [each for each in world.events if isinstance(each, Ejected)]
    assert len(ejections) == 1
    lacks.clear()
    before = len(probes)
    world.clock.pump([0.1] * 60)
    assert len(probes) > before


def test_head_room_is_filled_when_the_fault_is_over() -> None:
    world = World(1, min_idle=3)
    world.lack(FAULTS[0])
    world.use()
    world.clock.pump([0.1] * 20)
    assert world.fakes[0].attempts < 20
    world.recover()
    world.clock.pump([0.1] * 20)
    assert len(world.fakes[0].connections) >= 3


def test_a_replacement_that_cannot_be_made_for_a_fault_leaves_the_old_connection() -> None:
    world = World(1, lifetime=100.0, lifetime_jitter=0.0, idle_timeout=None)
    world.use()
    world.lack(FAULTS[0])
    world.clock.pump([1] * 98)
    world.use()
    assert world.served == ["b0", "b0"]


def test_a_manager_that_cannot_be_made_for_a_fault_costs_its_backend_nothing() -> None:
    clock = Clock()
    lacks = [True]

    def make(backend: Backend, ident: Any) -> Any:
        if lacks:
            raise OSError(errno.EMFILE, "Too many open files")
        return pool.make_manager(backend, ident)

    events: list[Event] = []
    pool: Any = Pool(clock, Protocol, make_manager=make, observers=[events.append])
    backend = Backend(FakeBackend(clock), name="b")
    for _ in range(30):
        pool.select("us", [backend]).addErrback(lambda failure: None)
        clock.advance(0.1)
    assert not [each for each in events if isinstance(each, Ejected)]


@pytest.mark.parametrize("slots", [None, 4])
def test_the_end_of_a_fault_at_one_backend_ends_the_pause_of_all(slots: int | None) -> None:
    for moment in range(10):  # wherever in its pause the other is
        world = World(slots=slots)
        waits, works = world.fakes
        waits.refuse(reason=OSError(errno.EMFILE, "Too many open files"), always=True)
        asked = world.pool.connect("us", world.backends[0], timeout=60.0)
        for _ in range(1000 + 10 * moment):
            world.clock.advance(0.01)
        waits.accept(always=True)
        works.accept(always=True)
        result_of(world.pool.connect("us", world.backends[1]))
        world.clock.advance(0)
        result_of(asked)

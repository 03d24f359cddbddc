"""Rule 35, on a clock: no connection that is too old or was idle for too long is leased, although
the timer that closes it has not run yet. And a burst of idle connections is closed spread out."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, Lease, Policy, Pool
from kolus.testing import FakeBackend, NotFired, result_of
from tests.rigs.either import either
from tests.rigs.groups import Grouped
from tests.rigs.suspending import SuspendingMachine


def sleep(clock: Clock, seconds: float) -> None:
    """Time passes, and no timer runs: the reactor is blocked, or the machine is suspended."""
    clock.rightNow += seconds


def is_new(rig: Any, asked: Deferred[Lease[Any]]) -> bool:
    rig.turn()
    lease = result_of(asked)
    return not lease.reused and lease.age < 1


TOO_LONG = pytest.mark.parametrize(
    "policy",
    [
        {"idle_timeout": 60.0, "lifetime": None},
        {"idle_timeout": None, "lifetime": 100.0},
        {"idle_timeout": 60.0, "lifetime": 100.0, "reuse": "fifo"},
        {"idle_timeout": 60.0, "check": lambda protocol: None, "check_after": 50.0},
    ],
)


@TOO_LONG
@either
def test_an_overdue_connection_is_not_leased_before_its_timer_has_run(
    rig_of: Any, policy: Any
) -> None:
    rig = rig_of(limit=2, **policy)
    rig.lease().release()
    rig.clock.advance(1.0)
    rig.lease().release()
    sleep(rig.clock, 900)
    assert is_new(rig, rig.ask())


@TOO_LONG
@either
def test_try_connect_gives_no_overdue_connection(rig_of: Any, policy: Any) -> None:
    rig = rig_of(limit=2, **policy)
    rig.lease().release()
    rig.lease().release()
    sleep(rig.clock, 900)
    assert rig.manager.try_connect("us") is None
    assert rig.manager.try_connect("us") is None


def test_the_time_for_which_the_machine_is_suspended_counts(monkeypatch: Any) -> None:
    machine, backend = SuspendingMachine(monkeypatch), Backend(FakeBackend(Clock()))
    pool = Pool(machine.reactor, Protocol, policy=Policy(idle_timeout=60.0, lifetime=None))
    for _ in range(3):
        result_of(pool.connect("us", backend)).release()
        result_of(pool.connect("us", backend)).release()
        manager = pool.manager(backend)
        assert manager is not None
        machine.suspend(900.0)
        assert manager.try_connect("us") is None


def test_a_connection_grown_too_old_in_a_suspension_is_not_handed_to_who_waits(
    monkeypatch: Any,
) -> None:
    machine, network = SuspendingMachine(monkeypatch), Clock()
    backend = Backend(FakeBackend(network))
    policy = Policy(limit=1, lifetime=100.0, acquire_timeout=None)
    pool = Pool(machine.reactor, Protocol, policy=policy)
    old = result_of(pool.connect("us", backend))
    asked = [pool.connect("us", backend) for _ in range(3)]
    old.release()
    handed = result_of(asked[0])
    assert handed.reused
    machine.suspend(900.0)
    handed.release()
    network.advance(0.0)
    assert not result_of(asked[1]).reused


class Unquiet:
    """The socket of a connection in which something lies unread."""

    def is_quiet(self) -> bool:
        return False


def test_a_look_at_a_connection_is_good_for_no_longer_after_a_suspension(monkeypatch: Any) -> None:
    machine, backend = SuspendingMachine(monkeypatch), Backend(FakeBackend(Clock()))
    pool = Pool(machine.reactor, Protocol, policy=Policy(idle_timeout=None, lifetime=None))
    for _ in range(2):  # nothing is out of the ordinary at the second
        lease: Lease[Any] = result_of(pool.connect("us", backend))
        lease.release()
    machine.suspend(2.0)  # no timer is due
    result_of(pool.connect("us", backend)).release()  # this one looks
    connection: Any = lease.leasable
    connection.descriptor = Unquiet()
    machine.run(0.001)
    manager = pool.manager(backend)
    assert manager is not None
    assert manager.try_connect("us") is None


@either
def test_an_overdue_connection_is_not_handed_to_who_waits(rig_of: Any) -> None:
    rig = rig_of(limit=1, lifetime=100.0, acquire_timeout=None)
    held = [rig.lease() for _ in range(rig.manager.status().limit)]
    asked = [rig.ask() for _ in range(2)]
    sleep(rig.clock, 900)
    for each in held:
        each.release()
    with pytest.raises(NotFired):
        result_of(asked[0])
    assert is_new(rig, asked[0])


def test_a_shared_connection_that_is_too_old_gets_no_more_lessees() -> None:
    rig = Grouped(1, slots=3, limit=2, lifetime=100.0)
    old = rig.lease()
    sleep(rig.clock, 900)
    new = rig.ask()
    rig.turn()
    assert result_of(new).protocol is not old.protocol


@pytest.mark.parametrize("hook", ["check", "reset"])
def test_a_connection_that_has_become_too_old_in_a_hook_is_not_leased(hook: str) -> None:
    answers: list[Deferred[None]] = []

    def waits(protocol: Protocol) -> Deferred[None]:
        answers.append(Deferred())
        return answers[-1]

    rig = Grouped(
        1, **{hook: waits, "check_after": 1.0, "lifetime": 100.0, "acquire_timeout": None}
    )
    lease = rig.lease()
    old = lease.protocol
    lease.release()
    rig.clock.advance(1.0)
    asked = rig.ask()
    assert len(answers) == 1
    sleep(rig.clock, 900)
    answers[0].callback(None)
    rig.clock.pump([0, 0, 0])
    assert result_of(asked).protocol is not old


@pytest.mark.parametrize("slots", [None, 2])
def test_a_group_and_select_give_no_overdue_connection(slots: int | None) -> None:
    asks: list[Callable[[Grouped], Deferred[Lease[Any]]]] = [
        lambda rig: rig.group.connect("us"),
        lambda rig: rig.pool.select("us", rig.backends),
    ]
    for ask in asks:
        rig = Grouped(2, slots=slots, idle_timeout=60.0)
        for each in [rig.lease(), rig.lease()]:
            each.release()
        sleep(rig.clock, 900)
        assert is_new(rig, ask(rig))


@either
def test_the_least_idle_connections_are_leased_however_long_they_were_idle(rig_of: Any) -> None:
    rig = rig_of(limit=1, min_idle=1, idle_timeout=60.0, lifetime=None)
    rig.lease().release()
    sleep(rig.clock, 900)
    assert rig.lease().reused


# A burst


def closing_times(pool_of: Callable[..., Pool[Any]], count: int) -> list[float]:
    """When so many connections that became idle together are closed, in seconds after that."""
    clock = Clock()
    fake = FakeBackend(clock)
    pool = pool_of(clock)
    backend = Backend(fake)
    leases = [result_of(pool.connect("us", backend)) for _ in range(count)]
    clock.advance(1.0)
    for each in leases:
        each.release()
    times: list[float] = []
    for step in range(1, 700):
        clock.advance(0.1)
        times += [step / 10] * (count - len(times) - len(fake.connections))
    return times


@pytest.mark.parametrize("slots", [None, 1])
@pytest.mark.parametrize("reuse", ["lifo", "fifo"])
def test_a_burst_of_idle_connections_is_closed_spread_over_the_jitter(
    slots: int | None, reuse: Any
) -> None:
    spread = {"idle_timeout": 60.0, "idle_jitter": 0.2, "lifetime": None}
    policy = Policy(limit=100, slots=slots, reuse=reuse, **spread)  # type: ignore[arg-type]
    times = closing_times(lambda clock: Pool(clock, Protocol, policy=policy, rng=Random(7)), 100)
    assert len(times) == 100
    assert times[0] >= 48.0
    assert times[-1] <= 60.1
    assert max(after - before for before, after in pairwise(times)) < 2.0
    for third in (48.0, 52.0, 56.0):
        assert 20 <= len([each for each in times if third < each <= third + 4.0]) <= 47


def test_who_was_leased_meanwhile_is_due_from_its_release_on() -> None:
    clock = Clock()
    fake = FakeBackend(clock)
    policy = Policy(limit=3, idle_timeout=60.0, idle_jitter=0.0)
    pool: Pool[Any] = Pool(clock, Protocol, policy=policy)
    backend = Backend(fake)
    for each in [result_of(pool.connect("us", backend)) for _ in range(3)]:
        each.release()
    for _ in range(5):
        clock.advance(10.0)
        result_of(pool.connect("us", backend)).release()
    clock.advance(9.9)
    assert len(fake.connections) == 3
    clock.advance(0.1)
    clock.advance(0)
    assert len(fake.connections) == 1
    clock.pump([49.9, 0])
    assert len(fake.connections) == 1
    clock.pump([0.1, 0])
    assert not fake.connections

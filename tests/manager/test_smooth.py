"""A manager that leases without looking around looks again as soon as anything has changed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred

from kolus.errors import Draining
from kolus.events import Event, Leased, Released
from kolus.lease import Lease
from kolus.manager import BackendRecord
from kolus.testing import result_of
from tests.rigs.ledger import noted_load
from tests.rigs.pools import Managed


def smooth(**policy: Any) -> Managed:
    """A manager that has leased and taken back, and of whom nobody wants anything."""
    rig = Managed(**policy)
    rig.lease().release()
    rig.lease().release()
    assert rig.manager.smooth
    return rig


class PassingOn(Managed):
    """A manager with one connection, which is leased, and two that wait for it."""

    def __init__(self) -> None:
        super().__init__(limit=1, max_waiters=10_000)
        self.lessee = self.lease()
        self.waiters = [self.manager.connect("us") for _ in range(3)]
        self.lessee.release()
        self.lessee = result_of(self.waiters.pop(0))


def passing_on() -> PassingOn:
    rig = PassingOn()
    assert rig.manager.passes_on
    return rig


def record(rig: Managed) -> BackendRecord:
    return rig.manager.record


def pause(rig: Managed) -> None:
    rig.manager.pause()


def drain(rig: Managed) -> None:
    rig.manager.drain()


def watch(rig: Managed) -> None:
    record(rig).watchers.append(repr)
    record(rig).changed()


def resize(rig: Managed) -> None:
    rig.manager.resize(rig.manager.status().limit + 1)


def eject(rig: Managed) -> None:
    record(rig).ejected("it failed", 1.0)


def want(rig: Managed) -> None:
    record(rig).turns.want(rig.manager)


def ring(rig: Managed) -> None:
    rig.clock.advance(10_000.0)


@pytest.mark.parametrize("change", [pause, drain, watch, resize, eject, want, ring])
def test_a_change_makes_it_look_again(change: Callable[[Managed], None]) -> None:
    rig = smooth()
    change(rig)
    assert not rig.manager.smooth


@pytest.mark.parametrize("change", [pause, drain, watch, resize, eject, want])
def test_a_change_makes_it_look_before_it_passes_on(change: Callable[[Managed], None]) -> None:
    rig = passing_on()
    for each in rig.waiters:
        each.addErrback(lambda failure: failure.trap(Draining))
    change(rig)
    assert not rig.manager.passes_on


def test_who_waits_for_room_keeps_others_from_passing_on_but_not_from_idle_leases() -> None:
    rig = passing_on()
    rig.manager.placements.await_room(cast("Any", object()))
    assert not rig.manager.passes_on
    idle = smooth()
    idle.manager.placements.await_room(cast("Any", object()))
    assert idle.manager.smooth


def test_what_is_noted_of_the_load_stays_true_while_requests_come_wait_and_leave() -> None:
    rig = passing_on()
    noted = []
    for step in (rig.lessee.release, rig.waiters[1].cancel, partial(rig.manager.connect, "us")):
        assert record(rig).load.now() > 0
        step()
        noted.append(noted_load(record(rig)))
        record(rig).changed()
        assert record(rig).load.now() == noted[-1]
    rig.waiters[1].addErrback(lambda failure: failure.trap(CancelledError))
    assert noted == [3, 2, 3]  # one more than are leased and wait


def test_what_a_waiter_releases_in_its_callback_goes_to_the_next_without_recursion() -> None:
    rig = passing_on()
    for _ in range(5_000):
        rig.manager.connect("us").addCallback(Lease.release)
    for each in rig.waiters:
        each.addCallback(Lease.release)
    rig.lessee.release()
    assert (rig.manager.status().waiting, rig.manager.status().idle) == (0, 1)


def test_who_waits_does_not_get_what_its_last_lessee_closed() -> None:
    rig = passing_on()
    rig.lessee.protocol.transport.loseConnection()
    rig.lessee.release()
    assert not rig.waiters[0].called


def test_what_is_closed_right_after_it_was_released_in_a_callback_is_not_passed_on() -> None:
    rig = passing_on()

    def give_back(lease: Lease[Any]) -> None:
        transport = lease.protocol.transport
        lease.release()
        transport.loseConnection()

    rig.waiters[0].addCallback(give_back)
    rig.lessee.release()
    assert not rig.waiters[1].called


def test_who_is_told_in_a_callback_from_then_on_hears_of_what_is_passed_on() -> None:
    rig = passing_on()
    events: list[Event] = []

    def listen(lease: Lease[Any]) -> None:
        rig.manager.observers.append(events.append)
        lease.release()

    rig.waiters[0].addCallback(listen)
    rig.lessee.release()
    assert [type(each) for each in events] == [Released, Leased]


def test_a_request_made_in_a_callback_that_has_released_waits_behind_those_before_it() -> None:
    rig = passing_on()
    later: list[Deferred[Any]] = []

    def ask_again(lease: Lease[Any]) -> None:
        lease.release()
        later.append(rig.manager.connect("us"))

    rig.waiters[0].addCallback(ask_again)
    rig.lessee.release()
    assert rig.waiters[1].called
    assert not later[0].called


def test_a_request_that_waits_is_served_by_the_next_release() -> None:
    rig = smooth()
    leases = [rig.lease() for _ in range(rig.manager.status().limit)]
    waiter: Deferred[Any] = rig.manager.connect("us")
    leases[0].release()
    lease = result_of(waiter)
    for each in (lease, *leases[1:]):
        each.release()
    assert rig.manager.status().leased == 0


def test_an_idle_connection_that_was_closed_is_not_leased_and_the_next_one_is() -> None:
    rig = smooth()
    first, second = rig.lease(), rig.lease()
    second.release()
    first.release()
    first_out = next(reversed(rig.manager.connections.idle))
    first_out.protocol.transport.loseConnection()
    lease = rig.manager.try_connect("us")
    assert lease is not None
    assert lease.leasable is not first_out


def test_connections_that_all_were_closed_are_told_apart_without_recursion() -> None:
    rig = smooth(limit=2000)
    leases = [rig.lease() for _ in range(rig.manager.status().limit)]
    for each in leases:
        each.release()
    for connection in list(rig.manager.connections.idle):
        connection.protocol.transport.loseConnection()
    assert rig.manager.try_connect("us") is None
    assert rig.manager.status().idle == 0


def test_what_came_home_after_the_alarm_has_rung_is_closed_when_it_was_idle_for_too_long() -> None:
    rig = smooth()
    lease = rig.lease()
    rig.clock.advance(10_000.0)
    lease.release()
    rig.lease().release()
    rig.clock.advance(10_000.0)
    assert rig.manager.status().idle == 0


def test_a_lease_and_a_release_leave_what_is_noted_of_the_load_true() -> None:
    rig = smooth()
    assert record(rig).load.now() == 1
    lease = rig.lease()
    assert noted_load(record(rig)) == record(rig).load.now() == 2
    lease.release()
    assert noted_load(record(rig)) == 1


def test_an_observer_that_comes_later_hears_of_the_next_lease_and_release() -> None:
    rig = smooth()
    lease = rig.lease()
    events: list[Event] = []
    rig.manager.observers.append(events.append)
    record(rig).changed()
    lease.release()
    rig.lease().release()
    assert [type(each) for each in events] == [Released, Leased, Released]


# With a check


class Checking:
    """A smooth manager whose check notes whom it checks."""

    def __init__(self, **policy: Any) -> None:
        self.checked: list[Any] = []
        self.rig = smooth(check=self._check, **policy)

    def _check(self, protocol: Any) -> None:
        self.checked.append(protocol)


@pytest.mark.parametrize("reuse", ["lifo", "fifo"])
def test_what_was_idle_for_long_is_checked_first_though_the_manager_is_smooth(reuse: str) -> None:
    checking = Checking(check_after=10.0, reuse=reuse)
    rig = checking.rig
    leases = [rig.lease() for _ in range(2)]
    for each in leases:
        each.release()
    assert rig.manager.smooth
    idle = [each.protocol for each in rig.manager.connections.idle]
    rig.clock.rightNow += 10.0
    assert rig.manager.try_connect("us") is None
    assert [each.protocol for each in rig.manager.connections.idle] == idle
    lease = rig.lease()
    assert checking.checked == [lease.protocol]
    assert lease.protocol is idle[-1 if reuse == "lifo" else 0]


def test_what_was_idle_for_a_short_time_is_leased_without_a_check() -> None:
    checking = Checking(check_after=10.0)
    checking.rig.clock.rightNow += 9.0
    assert checking.rig.manager.try_connect("us") is not None
    assert checking.checked == []


def test_with_a_check_before_each_lease_each_hand_off_has_one() -> None:
    checking = Checking(check_after=0.0, limit=1)
    rig = checking.rig
    lease = rig.lease()
    for _ in range(3):
        del checking.checked[:]
        waiter = rig.ask()
        lease.release()
        lease = result_of(waiter)
        assert checking.checked == [lease.protocol]


def test_a_connection_that_was_reset_after_a_lease_is_not_doubtful_any_more() -> None:
    rig = Managed(limit=1, reset=repr)
    rig.lease().release()
    (connection,) = rig.manager.connections.idle
    assert not connection.doubtful

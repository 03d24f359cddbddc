"""A manager that leases without looking around looks again as soon as anything has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from kolus.events import Event, Leased, Released
from kolus.manager import BackendRecord
from kolus.testing import result_of
from tests.rigs.pools import Managed


def smooth(**policy: Any) -> Managed:
    """A manager that has leased and taken back, and of whom nobody wants anything."""
    rig = Managed(**policy)
    rig.lease().release()
    rig.lease().release()
    assert rig.manager.smooth
    return rig


def record(rig: Managed) -> BackendRecord:
    return rig.manager._record


def pause(rig: Managed) -> None:
    rig.manager.pause()


def drain(rig: Managed) -> None:
    rig.manager.drain()


def watch(rig: Managed) -> None:
    record(rig).watchers.append(repr)
    record(rig).changed()


def resize(rig: Managed) -> None:
    rig.manager.resize(1)


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
    assert record(rig).load() == 1
    lease = rig.lease()
    assert record(rig).noted_load == record(rig).load() == 2
    lease.release()
    assert record(rig).noted_load == 1


def test_an_observer_that_comes_later_hears_of_the_next_lease_and_release() -> None:
    rig = smooth()
    lease = rig.lease()
    events: list[Event] = []
    rig.manager._observers.append(events.append)
    lease.release()
    rig.lease().release()
    assert [type(each) for each in events] == [Released, Leased, Released]

"""Rule 25, on a clock: pause and resume, drain and close."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from kolus import (
    Closed,
    Draining,
    LeaseTimeout,
)
from kolus.status import State
from kolus.testing import NotFired, result_of
from tests.rigs.pools import Pooled

# 25: pause and resume, drain and close


def test_while_a_backend_is_paused_requests_wait_and_others_are_served() -> None:
    rig = Pooled()
    result_of(rig.pool.connect("us", rig.backends[0])).release()
    rig.pool.pause(rig.backends[0])
    waiting = rig.pool.connect("us", rig.backends[0])
    with pytest.raises(NotFired):
        result_of(waiting)
    assert rig.pool.try_connect("us", rig.backends[0]) is None
    assert rig.pool.status(rig.backends[:1])[0].state is State.PAUSED
    result_of(rig.pool.connect("us", rig.backends[1])).release()
    rig.pool.resume(rig.backends[0])
    lease = result_of(waiting)
    assert lease.reused
    lease.release()


def test_a_paused_backend_is_not_connected_to() -> None:
    rig = Pooled()
    rig.pool.pause()
    asked = rig.pool.connect("us", rig.backends[0])
    assert rig.fakes[0].attempts == 0
    assert [each.state for each in rig.pool.status(rig.backends)] == [State.PAUSED] * 3
    rig.pool.resume()
    result_of(asked).release()


def test_what_is_leased_while_paused_comes_home() -> None:
    rig = Pooled()
    held = result_of(rig.pool.connect("us", rig.backends[0]))
    rig.pool.pause()
    held.release()
    assert rig.pool.status()[0].idle == 1


def test_a_request_that_waits_for_a_resume_fails_at_its_deadline() -> None:
    rig = Pooled()
    rig.pool.pause()
    asked = rig.pool.connect("us", rig.backends[0], timeout=1)
    rig.clock.advance(1)
    with pytest.raises(LeaseTimeout, match="paused"):
        result_of(asked)


def test_one_backend_can_be_resumed_while_all_others_are_paused() -> None:
    rig = Pooled()
    rig.pool.pause()
    rig.pool.resume(rig.backends[0])
    result_of(rig.pool.connect("us", rig.backends[0])).release()
    waiting = rig.pool.connect("us", rig.backends[1])
    with pytest.raises(NotFired):
        result_of(waiting)
    rig.pool.resume()
    result_of(waiting).release()


def test_pausing_and_resuming_a_backend_that_drains_changes_nothing() -> None:
    rig = Pooled()
    held = result_of(rig.pool.connect("us", rig.backends[0]))
    drained = rig.pool.drain(rig.backends[0])
    rig.pool.pause(rig.backends[0])
    rig.pool.resume(rig.backends[0])
    with pytest.raises(Draining):
        result_of(rig.pool.connect("us", rig.backends[0]))
    held.release()
    rig.turn()
    assert result_of(drained) is None


def test_drain_lets_old_leases_settle_and_then_closes() -> None:
    rig = Pooled()
    backend = rig.backends[0]
    held = result_of(rig.pool.connect("us", backend))
    drained = rig.pool.drain(backend)
    with pytest.raises(Draining):
        result_of(rig.pool.connect("us", backend))
    assert rig.pool.status()[0].state is State.DRAINING
    with pytest.raises(NotFired):
        result_of(drained)
    held.release()
    rig.turn()
    assert result_of(drained) is None
    assert rig.pool.manager(backend) is None
    result_of(rig.pool.connect("us", backend)).release()


def test_draining_a_backend_without_a_manager_is_done_at_once() -> None:
    assert result_of(Pooled().pool.drain("tcp:localhost:1")) is None


def test_close_drains_then_aborts_then_tells_who_still_held_what(log_events: list[Any]) -> None:
    rig = Pooled(limit=1)
    held = result_of(rig.pool.connect("us", rig.backends[0]))
    idle = result_of(rig.pool.connect("us", rig.backends[1]))
    idle.release()
    waiting = rig.pool.connect("us", rig.backends[0])
    closed = rig.pool.close(timeout=10)
    with pytest.raises(Closed):
        result_of(waiting)
    rig.turn()
    assert not rig.fakes[1].connections
    rig.clock.advance(9.9)
    assert rig.fakes[0].connections
    rig.clock.advance(0.2)
    rig.turn()
    assert result_of(closed) is None
    assert not rig.fakes[0].connections
    (event,) = [each for each in log_events if "still held" in str(each["log_format"])]
    assert (str(event["backend"]), event["ident"]) == ("a", "us")
    assert event["held"] == pytest.approx(10, abs=0.2)
    held.release()


def test_closing_twice_is_harmless() -> None:
    rig = Pooled()
    held = result_of(rig.pool.connect("us", rig.backends[0]))
    first, second = rig.pool.close(10), rig.pool.close(0)
    rig.turn()
    assert (result_of(first), result_of(second)) == (None, None)
    assert result_of(rig.pool.close()) is None
    held.release()


def test_cancelling_the_wait_for_a_close_stops_nothing() -> None:
    rig = Pooled()
    held = result_of(rig.pool.connect("us", rig.backends[0]))
    first, second = rig.pool.close(10), rig.pool.close(10)
    first.cancel()
    first.addErrback(lambda failure: failure.trap(CancelledError))
    held.release()
    rig.turn()
    assert result_of(second) is None


def test_a_lease_can_be_settled_by_the_pool_after_it_was_closed() -> None:
    rig = Pooled()
    held = result_of(rig.pool.connect("us", rig.backends[0]))
    rig.pool.close(0)
    rig.turn()
    rig.pool.return_(held)
    assert rig.pool.counters().finishes == 1


def test_requests_after_close_fail() -> None:
    rig = Pooled()
    result_of(rig.pool.close())
    for asked in (
        rig.pool.connect("us", rig.backends[0]),
        rig.pool.select("us", rig.backends),
    ):
        with pytest.raises(Closed, match="the pool is closed"):
            result_of(asked)
    with pytest.raises(Closed):
        rig.pool.try_connect("us", rig.backends[0])


def test_a_connect_that_finishes_after_close_is_closed() -> None:
    rig = Pooled()
    rig.fakes[0].accept(after=1)
    asked = rig.pool.connect("us", rig.backends[0])
    closed = rig.pool.close(5)
    with pytest.raises(Closed):
        result_of(asked)
    rig.clock.pump([1, 0, 5])
    assert result_of(closed) is None
    assert not rig.fakes[0].connections
    assert rig.clock.getDelayedCalls() == []


def test_a_limit_that_is_set_below_min_idle_holds_and_ends_with_the_next_resize() -> None:
    rig = Pooled(limit=10, min_idle=5)
    backend = rig.backends[0]
    rig.pool.resize(3)
    result_of(rig.pool.connect("us", backend)).release()
    rig.turn()
    (status,) = rig.pool.status([backend])
    assert (status.limit, status.idle) == (3, 3)
    rig.pool.resize(10)
    rig.turn()
    (status,) = rig.pool.status([backend])
    assert (status.limit, status.idle) == (10, 5)
    assert rig.pool.policy.min_idle == 5

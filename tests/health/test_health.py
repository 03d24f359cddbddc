"""Failures in a row eject a backend, for a time."""

from __future__ import annotations

from typing import Any

import pytest

from kolus import ConnectFailed, Ejection, LeaseTimeout
from kolus.backoff import Backoff
from kolus.events import Ejected, ProbeDue
from kolus.status import State
from kolus.testing import result_of
from tests.rigs.health_rigs import FIRST, Hook, Nursed

# The row of failures


def test_five_failed_leases_in_a_row_eject_a_backend() -> None:
    rig = Nursed()
    rig.fail(times=4)
    assert rig.state() is State.OPEN
    rig.fail(times=1)
    assert rig.state() is State.EJECTED


def test_five_refused_connects_in_a_row_eject_a_backend() -> None:
    rig = Nursed()
    rig.refuse(times=4)
    assert rig.state() is not State.EJECTED
    rig.refuse(times=1)
    assert rig.state() is State.EJECTED


def test_five_connects_in_a_row_that_take_too_long_eject_a_backend() -> None:
    rig = Nursed(connect_timeout=1.0)
    for _ in range(5):
        assert rig.state() is not State.EJECTED
        rig.fakes[0].never_answer()
        asked = rig.pool.connect("us", rig.backends[0])
        rig.clock.advance(1.0)
        with pytest.raises(ConnectFailed):
            result_of(asked)
        rig.clock.advance(0.002)
    assert rig.state() is State.EJECTED


def test_connections_that_cannot_be_prepared_are_failures() -> None:
    def refuse(protocol: Any) -> None:
        raise ValueError("no such database")

    rig = Nursed(prepare=refuse)
    for _ in range(5):
        with pytest.raises(ConnectFailed):
            rig.at()
        rig.clock.advance(0.002)
    assert rig.state() is State.EJECTED


def test_checks_that_fail_are_failures() -> None:
    rig = Nursed(limit=5, check=lambda protocol: False, check_after=1.0)
    held = [rig.at() for _ in range(5)]
    for each in held:
        each.release()
    rig.clock.advance(1.0)
    assert rig.state() is State.OPEN
    rig.pool.connect("us", rig.backends[0])  # each that is idle is checked until one passes
    assert [each.reason for each in rig.told(Ejected)] == [
        "5 failures in a row, the last: a check failed"
    ]


def test_a_check_that_fails_on_a_new_connection_is_one_failure() -> None:
    rig = Nursed(check=lambda protocol: False, check_after=0.0)
    for failures in range(5):
        assert rig.state() is not State.EJECTED, failures
        with pytest.raises(ConnectFailed):
            rig.at()
        rig.clock.advance(0.002)
    assert [each.reason for each in rig.told(Ejected)] == [
        "5 failures in a row, the last: a check failed"
    ]


@pytest.mark.parametrize("settle", ["finished", "forgotten"])
def test_leases_that_are_finished_for_another_reason_are_no_failures(settle: str) -> None:
    rig = Nursed()
    for _ in range(10):
        lease = rig.at()
        if settle == "finished":
            lease.finished()
        del lease
        rig.turn()
    assert rig.told() == []


def test_time_outs_of_requests_are_no_failures() -> None:
    rig = Nursed(limit=1)
    held = rig.at()
    for _ in range(10):
        asked = rig.pool.connect("us", rig.backends[0], timeout=0.1)
        rig.clock.advance(0.1)
        with pytest.raises(LeaseTimeout):
            result_of(asked)
    assert rig.told() == []
    held.release()


def test_a_release_interrupts_a_row() -> None:
    rig = Nursed()
    rig.fail(times=4)
    rig.use()
    rig.fail(times=4)
    assert rig.state() is State.OPEN
    rig.fail(times=1)
    assert rig.state() is State.EJECTED


def test_a_release_interrupts_a_row_of_connects() -> None:
    rig = Nursed()
    held = rig.at()
    rig.refuse(times=4)
    held.release()
    other = rig.at()
    rig.refuse(times=4)
    assert rig.state() is State.OPEN
    other.release()


def test_a_connect_that_succeeds_interrupts_a_row_of_connects() -> None:
    rig = Nursed()
    rig.refuse(times=4)
    held = rig.at()
    rig.refuse(times=4)
    assert rig.state() is State.OPEN
    held.release()


def test_a_connect_that_succeeds_does_not_interrupt_a_row_of_failed_leases() -> None:
    rig = Nursed()
    rig.fail(times=3)
    held = rig.at()
    rig.fail(times=2)
    assert rig.state() is State.EJECTED
    held.release()


def test_failed_connects_and_failed_leases_are_one_row() -> None:
    rig = Nursed()
    rig.fail(times=1)
    rig.refuse(times=3)
    rig.fail(times=1)
    assert rig.state() is State.EJECTED


def test_idents_share_the_row_of_a_backend() -> None:
    rig = Nursed(idents="separate")
    rig.fail(times=3)
    for _ in range(2):
        result_of(rig.pool.connect("them", rig.backends[0])).finished(failed=True)
    assert rig.state() is State.EJECTED


def test_slots_on_one_connection_count_one_by_one() -> None:
    rig = Nursed(slots=10, limit=1)
    held = [rig.at() for _ in range(5)]
    for each in held:
        each.finished(failed=True)
    assert rig.state() is State.EJECTED


def test_without_an_ejection_nothing_is_ejected() -> None:
    rig = Nursed(ejection=None)
    rig.fail(times=50)
    assert rig.state() is State.OPEN
    assert rig.told() == []


def test_how_many_failures_eject_is_the_policys() -> None:
    rig = Nursed(ejection=Ejection(failures=2))
    rig.fail(times=2)
    assert rig.state() is State.EJECTED


# The time, and the events


def test_an_ejection_tells_its_reason_and_its_time() -> None:
    rig = Nursed()
    rig.fail()
    (event,) = rig.told()
    assert event == Ejected(
        rig.backends[0], None, "5 failures in a row, the last: a lease was settled as failed", FIRST
    )


def test_the_reason_tells_why_connecting_failed() -> None:
    rig = Nursed()
    rig.refuse()
    (event,) = rig.told()
    assert event.reason.startswith("5 failures in a row, the last: connecting failed: Connection")


def test_a_backend_is_due_when_its_time_is_over() -> None:
    rig = Nursed()
    rig.fail()
    rig.clock.advance(FIRST - 0.01)
    assert rig.state() is State.EJECTED
    rig.clock.advance(0.01)
    assert rig.state() is State.DUE
    assert rig.told()[1:] == [ProbeDue(rig.backends[0], None)]


def test_the_time_doubles_with_each_probe_that_fails() -> None:
    rig = Nursed(1)
    rig.fail()
    times = [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST, 45, 45, 45]
    for seconds in times:
        assert rig.told(Ejected)[-1].seconds == seconds
        rig.until_due(seconds)
        rig.lease().finished(failed=True)
        rig.turn()


def test_the_time_is_the_first_again_after_a_probe_that_went_well() -> None:
    rig = Nursed(1)
    rig.fail()
    rig.until_due()
    rig.lease().finished(failed=True)
    rig.turn()
    rig.until_due(2 * FIRST)
    rig.lease().release()
    rig.fail()
    assert [each.seconds for each in rig.told(Ejected)] == [FIRST, 2 * FIRST, FIRST]


def test_failures_while_it_is_ejected_do_not_make_it_longer() -> None:
    rig = Nursed()
    rig.fail()
    rig.fail(times=20)
    rig.until_due()
    rig.fail(times=3)
    assert len(rig.told(Ejected)) == 1
    assert rig.state() is State.DUE


def test_a_backend_is_not_due_before_it_may_be_connected_to() -> None:
    rig = Nursed(backoff=Backoff(40.0, most=40.0))
    rig.fail(times=4)
    rig.refuse(times=1)
    assert rig.state() is State.EJECTED
    rig.clock.advance(19.9)
    assert rig.state() is State.EJECTED
    rig.clock.advance(0.2)
    assert rig.state() is State.DUE


# The end


@pytest.mark.parametrize("phase", ["ejected", "due", "probed", "by hand"])
def test_a_closed_pool_leaves_no_timer(phase: str) -> None:
    rig = Nursed(1)
    rig.fail()
    if phase in ("due", "probed"):
        rig.until_due()
    if phase == "probed":
        probe = rig.lease()
        probe.finished()
    if phase == "by hand":
        rig.pool.eject(rig.backends[0])
    closed = rig.pool.close()
    rig.turn()
    assert result_of(closed) is None
    assert rig.clock.getDelayedCalls() == []


def test_failures_after_close_leave_no_timer() -> None:
    rig = Nursed(1)
    held = rig.fill_at(0)
    closed = rig.pool.close(10)
    for each in held:
        each.finished(failed=True)
    rig.turn()
    assert result_of(closed) is None
    assert rig.clock.getDelayedCalls() == []


def test_connects_that_fail_after_close_leave_no_timer() -> None:
    rig = Nursed(1, ejection=Ejection(failures=1))
    rig.fakes[0].refuse(after=1.0)
    asked = rig.pool.connect("us", rig.backends[0])
    asked.addErrback(lambda failure: None)
    closed = rig.pool.close(10)
    rig.clock.advance(1.0)
    rig.turn()
    rig.clock.advance(10.0)
    assert result_of(closed) is None
    assert rig.clock.getDelayedCalls() == []


def test_a_probe_that_is_under_way_when_the_pool_is_closed_leaves_no_timer() -> None:
    rig = Nursed(1, probe=Hook())
    rig.fail()
    rig.clock.advance(FIRST)
    closed = rig.pool.close(0)
    rig.turn()
    assert result_of(closed) is None
    assert rig.clock.getDelayedCalls() == []

"""Rules 10 and 11, on a clock: leases held for too long, forgotten, or used after their end."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from kolus import LeaseError, Policy
from kolus.events import Forgotten, Overdue
from kolus.testing import result_of
from tests.rigs.either import either, use
from tests.rigs.pools import Pooled

HERE = "test_leaks.py"


def warnings(events: list[LogEvent], word: str) -> list[str]:
    texts = [each["log_format"].format(**each) for each in events if each.get("log_format")]
    return [each for each in texts if word in each]


def is_without(text: str) -> bool:
    return "its owner is" not in text


# Held for too long


@either
@pytest.mark.parametrize("leased_at", [0.0, 0.25, 59.5, 61.75])
def test_a_lease_is_overdue_once_exactly_when_it_was_held_for_sixty_seconds(
    rig_of: Any, leased_at: float, log_events: list[LogEvent]
) -> None:
    rig = rig_of(observed=True)
    use(rig)
    rig.clock.advance(leased_at)
    lease = rig.lease()
    rig.clock.advance(59.75)
    assert rig.manager.counters.overdue == 0
    rig.clock.advance(0.25)
    assert rig.manager.counters.overdue == 1
    rig.clock.pump([10] * 30)
    assert rig.manager.counters.overdue == 1
    (event,) = [each for each in rig.events if isinstance(each, Overdue)]
    assert event.held == pytest.approx(60)
    assert len(warnings(log_events, "may have leaked")) == 1
    lease.release()


@either
def test_each_of_many_leases_is_overdue_at_its_own_time(rig_of: Any) -> None:
    rig = rig_of(limit=20, observed=True)
    leases = []
    for _ in range(20):
        leases.append(rig.lease())
        rig.clock.advance(2)
    rig.clock.pump([0.5] * 200)
    times = [each.held for each in rig.events if isinstance(each, Overdue)]
    assert times == [pytest.approx(60)] * 20
    for lease in leases:
        lease.release()


@either
def test_the_next_lease_of_a_connection_is_overdue_again(rig_of: Any) -> None:
    rig = rig_of(limit=1)
    for number in (1, 2, 3):
        lease = rig.lease()
        rig.clock.advance(60)
        assert rig.manager.counters.overdue == number
        lease.release()


@either
def test_leases_that_are_settled_in_time_are_never_overdue(rig_of: Any) -> None:
    rig = rig_of(limit=2, lifetime=None)
    for _ in range(100):
        leases = [rig.lease(), rig.lease()]
        rig.clock.advance(59)
        for lease in leases:
            lease.release()
    assert rig.manager.counters.overdue == 0


@either
def test_a_lease_is_overdue_after_its_manager_has_had_no_connection(rig_of: Any) -> None:
    rig = rig_of(limit=1)
    rig.lease().finished()
    rig.clock.pump([0, 50, 50, 50])
    lease = rig.lease()
    rig.clock.advance(59.75)
    assert rig.manager.counters.overdue == 0
    rig.clock.advance(0.25)
    assert rig.manager.counters.overdue == 1
    lease.release()


@either
def test_without_leak_after_nothing_is_overdue_and_nothing_looks(rig_of: Any) -> None:
    rig = rig_of(leak_after=None, lifetime=None)
    lease = rig.lease()
    rig.clock.advance(5)  # the deadline of the request
    assert rig.clock.getDelayedCalls() == []
    rig.clock.advance(10_000)
    assert rig.manager.counters.overdue == 0
    lease.release()


def test_a_lease_cannot_be_overdue_from_the_beginning() -> None:
    with pytest.raises(ValueError, match="lifetime must be more than 0"):
        Policy(lifetime=0)
    with pytest.raises(ValueError, match="leak_after must be more than 0"):
        Policy(leak_after=0)


@either
@pytest.mark.parametrize("debug", [False, True])
def test_a_warning_tells_the_owner_and_in_debug_mode_where_it_was_leased(
    rig_of: Any, debug: bool, log_events: list[LogEvent]
) -> None:
    rig = rig_of(debug=debug)
    owner: Deferred[None] = Deferred()
    owned = result_of(rig.manager.connect("us", None, owner))
    rig.clock.advance(1)
    lease = rig.lease()
    rig.clock.advance(60)
    with_owner, without = sorted(warnings(log_events, "may have leaked"), key=is_without)
    assert f"Deferred at {id(owner):#x}" in with_owner
    assert HERE in with_owner
    assert is_without(without)
    assert (HERE in without) is debug
    assert ("Policy(debug=True) tells where" in without) is not debug
    owned.release()
    lease.release()


@pytest.mark.parametrize("slots", [None, 2])
def test_the_pool_counts_what_is_overdue_at_all_backends(slots: int | None) -> None:
    rig = Pooled(slots=slots)
    leases = [result_of(rig.pool.connect("us", each)) for each in rig.backends]
    rig.clock.advance(60)
    assert rig.pool.counters().overdue == 3
    for lease in leases:
        lease.release()


# Forgotten


@either
@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("queued", [False, True])
def test_a_forgotten_lease_is_reclaimed_and_in_debug_mode_told_where_it_was_leased(
    rig_of: Any, debug: bool, queued: bool, log_events: list[LogEvent]
) -> None:
    rig = rig_of(limit=1, debug=debug, observed=True)
    held = rig.lease()
    if queued:
        waiting = rig.ask()
        held.release()
        held = result_of(waiting)
    rig.clock.advance(3)
    del held
    gc.collect()
    rig.turn()
    assert rig.numbers() == (0, 0, 0, 1, 0)
    assert rig.manager.counters.forgotten == 1
    assert [each.held for each in rig.events if isinstance(each, Forgotten)] == [3.0]
    (text,) = warnings(log_events, "was forgotten")
    assert (HERE in text) is debug


@either
def test_a_forgotten_lease_of_an_owner_is_reclaimed_before_that_ends(rig_of: Any) -> None:
    rig = rig_of(limit=1)
    owner: Deferred[None] = Deferred()
    lease = result_of(rig.manager.connect("us", None, owner))
    del lease
    gc.collect()
    rig.turn()
    assert rig.manager.counters.forgotten == 1
    owner.callback(None)
    use(rig)
    assert rig.manager.counters.finishes == 0


# Used after its end


def settle_here(lease: Any, how: str) -> None:
    getattr(lease, how)()


@either
@pytest.mark.parametrize("how", ["release", "finished"])
def test_in_debug_mode_a_late_write_tells_where_the_lease_was_settled(
    rig_of: Any, how: str
) -> None:
    rig = rig_of(debug=True)
    lease = rig.lease()
    protocol = lease.protocol
    transport, write = protocol.transport, protocol.transport.write
    write(b"in time")
    settle_here(lease, how)
    for late in (
        lambda: protocol.transport.write(b"late"),
        lambda: transport.write(b"late"),
        lambda: write(b"late"),
    ):
        with pytest.raises(LeaseError, match="in settle_here"):
            late()
    assert rig.fake.accepted[0].received == b"in time"


@either
def test_a_late_write_is_caught_also_when_another_leases_the_connection(rig_of: Any) -> None:
    rig = rig_of(limit=1, debug=True)
    first = rig.lease()
    stale = first.protocol
    waiting = rig.ask()
    settle_here(first, "release")
    second = result_of(waiting)
    with pytest.raises(LeaseError, match="in settle_here"):
        stale.transport.write(b"late")
    second.protocol.transport.write(b"mine")
    assert rig.fake.accepted[0].received == b"mine"
    second.release()


@either
def test_a_late_write_after_the_owner_has_ended_tells_where_that_was(rig_of: Any) -> None:
    rig = rig_of(debug=True)
    owner: Deferred[None] = Deferred()
    lease = result_of(rig.manager.connect("us", None, owner))
    protocol = lease.protocol

    def end_here() -> None:
        owner.callback(None)

    end_here()
    with pytest.raises(LeaseError, match=r"in .*end_here"):
        protocol.transport.write(b"late")


@either
def test_who_forgets_the_lease_and_goes_on_with_the_protocol_is_told(rig_of: Any) -> None:
    rig = rig_of(debug=True)
    protocol = rig.lease().protocol
    gc.collect()
    with pytest.raises(LeaseError, match=r"nowhere, it was forgotten; leased here:(.|\n)*test_who"):
        protocol.transport.write(b"late")
    rig.turn()

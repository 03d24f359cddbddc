"""C{Policy(hold_limit=...)}: a lease that is held for longer is revoked."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.logger import LogEvent

from kolus import LeaseError, Policy
from kolus.events import Event, Finished, Released, Retired, Revoked, Why
from kolus.metrics import Metrics
from kolus.testing import NotFired, result_of
from tests.rigs.pools import Managed, Pooled
from tests.rigs.sharing import Hears, Sharing

DEBUG = pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])


@DEBUG
def test_a_lease_that_is_held_for_longer_is_revoked_and_its_connection_is_aborted(
    debug: bool, log_events: list[LogEvent]
) -> None:
    rig = Managed(Hears, hold_limit=5, debug=debug)
    lease = rig.lease()
    protocol = rig.manager.connections.all.copy().pop().protocol
    rig.clock.advance(4.9)
    assert lease.held
    rig.clock.advance(0.1)
    assert not lease.held
    rig.turn()
    assert protocol.losses[0].check(ConnectionAborted)
    assert rig.numbers() == (0, 0, 0, 2, 0)
    assert rig.manager.counters.revoked == 1
    (told,) = [each for each in log_events if "hold_limit" in each.get("log_format", "")]
    assert ("test_hold_limit.py" in told["origin"]) is debug


def test_the_error_of_later_use_says_why() -> None:
    rig = Managed(hold_limit=5)
    lease = rig.lease()
    rig.clock.advance(5)
    for use in (
        lease.release,
        lease.finished,
        lease.when_lost,
        lease.detach,
        lambda: lease.protocol,
    ):
        with pytest.raises(LeaseError, match=r"revoked after 5 s, by hold_limit=5"):
            use()


def test_in_debug_mode_the_protocol_says_why() -> None:
    rig = Managed(Hears, hold_limit=5, debug=True)
    lease = rig.lease()
    protocol = lease.protocol
    write = protocol.transport.write
    rig.clock.advance(5)
    for use in (lambda: protocol.heard, lambda: write(b"late")):
        with pytest.raises(LeaseError, match=r"(?s)it was revoked; leased here:.*test_hold_limit"):
            use()


def test_who_asked_when_it_is_lost_hears_that_it_is_revoked() -> None:
    rig = Managed(hold_limit=5)
    lease = rig.lease()
    asked = [lease.when_lost(), lease.when_lost()]
    asked[1].cancel()
    asked[1].addErrback(lambda _: None)
    rig.clock.advance(5)
    error = result_of(asked[0])
    assert isinstance(error, LeaseError)
    assert "revoked after 5 s" in str(error)


def test_the_end_of_the_block_of_a_revoked_lease_is_no_error() -> None:
    rig = Managed(hold_limit=5)
    waits: Deferred[None] = Deferred()

    async def block() -> None:
        async with await rig.ask():
            await waits

    done = Deferred.fromCoroutine(block())
    rig.clock.advance(5)
    waits.callback(None)
    result_of(done)
    assert rig.manager.counters.revoked == 1


def test_a_lease_that_is_settled_in_time_is_not_revoked() -> None:
    rig = Managed(hold_limit=5)
    for _ in range(10):
        lease = rig.lease()
        rig.clock.advance(4)
        lease.release()
        rig.clock.advance(4)
    finished = rig.lease()
    rig.clock.advance(4)
    finished.finished()
    rig.clock.advance(20)
    assert rig.manager.counters.revoked == 0
    assert rig.fake.attempts == 1


def test_each_lease_has_its_own_time() -> None:
    rig = Managed(hold_limit=5, limit=3)
    first = rig.lease()
    rig.clock.advance(2)
    second = rig.lease()
    rig.clock.advance(1)
    first.release()
    again = rig.lease()
    assert again.reused
    rig.clock.advance(4)
    assert (second.held, again.held) == (False, True)
    rig.clock.advance(1)
    assert not again.held


def test_a_waiter_is_served_when_a_lease_is_revoked() -> None:
    rig = Managed(hold_limit=5, limit=1)
    held, asked = rig.lease(), rig.ask(timeout=10)
    rig.clock.advance(5)
    rig.turn()
    assert not held.held
    served = result_of(asked)
    assert not served.reused
    rig.clock.advance(5)
    assert not served.held, "a lease from the queue is revoked as any other"


def test_revoking_is_counted_and_told() -> None:
    rig = Managed(observed=True, hold_limit=5)
    metrics = Metrics()
    rig.manager.observers.append(metrics)
    lease = rig.lease()
    rig.clock.advance(5)
    rig.turn()
    assert not lease.held
    counters = rig.manager.counters
    assert (counters.revoked, counters.finishes, counters.releases) == (1, 0, 0)
    backend = rig.manager.backend
    kinds = Revoked | Retired | Released | Finished
    assert [each for each in rig.events if isinstance(each, kinds)] == [
        Revoked(backend, "us", 5.0),
        Retired(backend, "us", Why.REVOKED),
    ]
    total = metrics.total()
    assert (total.revoked, total.held, total.open, total.closes) == (1, 0, 0, {"revoked": 1})


MOMENTS: dict[str, Callable[[Managed], Any]] = {
    "paused": lambda rig: rig.manager.pause(),
    "draining": lambda rig: rig.manager.drain(),
    "closing": lambda rig: rig.manager.close(60),
    "invalidated": lambda rig: rig.manager.invalidate(),
    "the limit lowered": lambda rig: rig.manager.resize(1),
    "the connection lost": lambda rig: rig.fake.connections[0].close(),
}


@DEBUG
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_lease_is_revoked_at_any_moment(moment: str, debug: bool) -> None:
    rig = Managed(hold_limit=5, debug=debug)
    lease = rig.lease()
    MOMENTS[moment](rig)
    rig.clock.advance(5)
    assert not lease.held
    rig.turn()
    assert rig.manager.counters.revoked == 1
    assert not rig.fake.connections
    result_of(rig.manager.close(0))
    assert not rig.clock.getDelayedCalls()


def test_a_detached_lease_is_not_revoked() -> None:
    rig = Managed(Hears, hold_limit=5)
    protocol = rig.lease().detach()
    rig.clock.pump([5] * 5)
    assert protocol.losses == []


def test_a_lease_whose_owner_ends_is_not_revoked() -> None:
    rig = Managed(hold_limit=5)
    owner: Deferred[None] = Deferred()
    lease = result_of(rig.manager.connect("us", owner=owner))
    owner.callback(None)
    rig.clock.advance(5)
    assert "owner" in repr(lease)
    assert (rig.manager.counters.finishes, rig.manager.counters.revoked) == (1, 0)


def test_a_revoked_lease_is_not_ended_again_by_its_owner() -> None:
    rig = Managed(hold_limit=5)
    owner: Deferred[None] = Deferred()
    lease = result_of(rig.manager.connect("us", owner=owner))
    rig.clock.advance(5)
    owner.callback(None)
    assert "revoked" in repr(lease)
    assert (rig.manager.counters.finishes, rig.manager.counters.revoked) == (0, 1)


@DEBUG
def test_a_forgotten_lease_is_reclaimed_and_not_revoked(debug: bool) -> None:
    rig = Managed(hold_limit=5, debug=debug, leak_after=None)
    rig.lease()
    gc.collect()
    rig.turn()
    rig.clock.advance(5)
    assert (rig.manager.counters.forgotten, rig.manager.counters.revoked) == (1, 0)
    assert rig.manager.tracker.next_due() == float("inf")


def test_an_observer_of_a_revoked_lease_may_settle_the_next() -> None:
    rig = Managed(hold_limit=5, observed=True)
    leases = [rig.lease(), rig.lease()]

    def settle(event: Event) -> None:
        if isinstance(event, Revoked):
            leases[1].release()

    rig.manager.observers.append(settle)
    rig.clock.advance(5)
    assert (rig.manager.counters.revoked, rig.manager.counters.releases) == (1, 1)


def test_leases_of_groups_are_revoked() -> None:
    rig = Pooled(hold_limit=5)
    group = rig.pool.group(rig.backends)
    leases = [
        result_of(group.connect("us")),
        result_of(rig.pool.select("us", rig.backends)),
        result_of(rig.pool.connect("us", rig.backends[0])),
        rig.pool.try_connect("us", rig.backends[0]),
    ]
    rig.clock.advance(5)
    assert not [each for each in leases if each is not None and each.held]


def test_an_idle_connection_outlives_the_limit() -> None:
    rig = Managed(hold_limit=5)
    rig.lease().release()
    rig.clock.pump([1] * 20)
    assert rig.lease().reused


def test_the_limit_costs_no_timer_for_each_lease() -> None:
    rig = Managed(hold_limit=5, limit=50)
    leases = [rig.lease() for _ in range(50)]
    assert len(rig.clock.getDelayedCalls()) <= 2
    for each in leases:
        each.release()


@pytest.mark.parametrize("wrong", [0, -1, "5"])
def test_a_hold_limit_is_a_number_of_seconds(wrong: Any) -> None:
    with pytest.raises(ValueError, match="hold_limit"):
        Policy(hold_limit=wrong)


# Shared connections


@DEBUG
def test_of_a_shared_connection_only_the_lease_is_revoked(debug: bool) -> None:
    rig = Sharing(Hears, hold_limit=5, debug=debug)
    late = rig.lease()
    told = late.when_lost()
    rig.clock.advance(2)
    other = rig.lease()
    watched = other.when_lost()
    rig.clock.advance(3)
    assert (late.held, other.held) == (False, True)
    assert "revoked" in str(result_of(told))
    with pytest.raises(NotFired):
        result_of(watched)
    assert rig.protocols[0].losses == []
    new = rig.lease()
    assert len(rig.protocols) == 2, "the connection takes no new leases"
    other.release()
    new.release()
    rig.turn()
    assert rig.protocols[0].losses
    assert rig.manager.counters.revoked == 1


def test_a_shared_connection_is_aborted_with_its_last_lease() -> None:
    rig = Sharing(Hears, hold_limit=5)
    leases = rig.take(3)
    rig.clock.advance(5)
    rig.turn()
    assert not [each for each in leases if each.held]
    assert rig.protocols[0].losses[0].check(ConnectionAborted)
    assert rig.numbers() == (0, 0, 0, 6, 0)
    assert rig.manager.counters.revoked == 3


def test_a_waiter_for_a_slot_is_served_when_one_is_revoked() -> None:
    rig = Sharing(Hears, hold_limit=5, limit=1, slots=1)
    held, asked = rig.lease(), rig.ask(timeout=10)
    rig.clock.advance(5)
    rig.turn()
    assert not held.held
    assert not result_of(asked).reused

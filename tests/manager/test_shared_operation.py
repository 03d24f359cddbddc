"""C{SharedManager}, on a clock: recycling, checks, operation and owners, with slots leased."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from kolus import Closed, Draining, LeaseError
from kolus.events import Retired, Why
from kolus.status import State
from kolus.testing import NotFired, result_of
from tests.rigs.sharing import Sharing


def reasons(rig: Sharing) -> list[Why]:
    return [each.why for each in rig.events if isinstance(each, Retired)]


# Recycling


def test_every_lease_of_a_slot_is_a_use_of_the_connection() -> None:
    rig = Sharing(limit=1, max_uses=2, observed=True)
    first, second = rig.take(2)
    waiting = rig.ask()
    with pytest.raises(NotFired):
        result_of(waiting)
    first.release()
    second.release()
    rig.turn()
    assert result_of(waiting).protocol is rig.protocols[1]
    assert reasons(rig) == [Why.USES]


def test_at_the_end_of_its_life_a_connection_is_replaced_before_it_goes() -> None:
    rig = Sharing(limit=2, lifetime=100, lifetime_jitter=0, idle_timeout=None, observed=True)
    old = rig.lease()
    rig.clock.advance(96)
    assert rig.fake.attempts == 1 + 1
    young = rig.lease()
    assert young.protocol is not old.protocol
    rig.clock.advance(1000)
    assert old.protocol.transport.connected
    old.release()
    rig.turn()
    assert reasons(rig)[0] is Why.LIFETIME
    young.release()
    rig.end()


def test_a_connection_is_idle_only_when_no_slot_is_leased() -> None:
    rig = Sharing(limit=1, idle_timeout=10, idle_jitter=0, observed=True)
    first, second = rig.take(2)
    first.release()
    rig.clock.advance(100)
    assert rig.fake.connections
    second.release()
    rig.clock.advance(9)
    rig.lease().release()
    rig.clock.advance(9.9)
    assert rig.fake.connections
    rig.clock.advance(0.1)
    rig.turn()
    assert not rig.fake.connections
    assert reasons(rig) == [Why.IDLE]


def test_unsolicited_bytes_cost_an_idle_connection_and_none_in_use() -> None:
    rig = Sharing(limit=1, observed=True)
    first, second = rig.take(2)
    first.release()
    rig.fake.accepted[0].speak(b"for the second")
    assert second.protocol.heard == b"for the second"
    second.release()
    rig.fake.accepted[0].speak(b"for nobody")
    assert rig.protocols[0].heard == b"for the second"
    rig.turn()
    assert not rig.fake.connections
    assert reasons(rig) == [Why.OUT_OF_STEP]


def test_min_idle_keeps_a_connection_ready_beyond_those_in_use() -> None:
    rig = Sharing(limit=3, min_idle=1)
    lease = rig.lease()
    assert len(rig.fake.connections) == 2
    assert rig.numbers() == (5, 1, 0, 3, 0)
    lease.finished()
    rig.turn()
    assert len(rig.fake.connections) == 1
    rig.end()


# Checks


def checking(**policy: Any) -> tuple[Sharing, list[Deferred[bool]]]:
    checks: list[Deferred[bool]] = []

    def check(protocol: Any) -> Deferred[bool]:
        checks.append(Deferred())
        return checks[-1]

    return Sharing(check=check, check_timeout=None, **policy), checks


def test_an_idle_connection_is_checked_before_its_first_slot_is_leased() -> None:
    rig, checks = checking(limit=1)
    rig.lease().release()
    rig.clock.advance(5)
    assert rig.manager.try_connect("us") is None
    asked = [rig.ask() for _ in range(3)]
    assert len(checks) == 1
    checks[0].callback(True)
    leases = [result_of(each) for each in asked]
    assert {lease.protocol for lease in leases} == {rig.protocols[0]}
    rig.clock.advance(5)
    leases.pop().release()
    leases.append(rig.lease())
    assert len(checks) == 1, "it was in use all the time"


def test_a_check_that_fails_costs_the_connection_and_the_waiters_get_another() -> None:
    rig, checks = checking(limit=1)
    rig.lease().release()
    rig.clock.advance(5)
    asked = [rig.ask() for _ in range(3)]
    checks[0].callback(False)
    rig.turn()
    assert [result_of(each).protocol for each in asked] == [rig.protocols[1]] * 3


def test_while_one_connection_is_checked_a_fresh_one_serves() -> None:
    rig, checks = checking(slots=1)
    first, second = rig.take(2)
    first.release()
    rig.clock.advance(5)
    second.release()
    assert rig.lease().protocol is rig.protocols[1]
    assert not checks


@pytest.mark.parametrize("reuse", ["lifo", "fifo"])
def test_a_check_that_answers_at_once_serves_each_waiter_once(reuse: str) -> None:
    rig = Sharing(slots=1, reuse=reuse, check=lambda protocol: True)
    first, second = rig.take(2)
    first.release()
    rig.clock.advance(5)
    second.release()
    rig.manager.pause()
    asked = rig.ask()
    rig.manager.resume()
    lease = result_of(asked)
    assert rig.numbers() == (1, 1, 0, 0, 0)
    lease.release()
    assert rig.numbers() == (2, 0, 0, 0, 0)
    rig.end()


def test_a_waiter_that_leases_more_in_its_callback_may_do_so_after_a_check() -> None:
    rig = Sharing(slots=2, reuse="fifo", check=lambda protocol: True)
    leases = rig.take(3)
    leases.pop(0).release()
    leases.pop(0).release()
    rig.clock.advance(5)
    leases.pop(0).release()
    rig.manager.pause()
    asked = rig.ask()
    asked.addCallback(lambda lease: [lease, *(rig.manager.try_connect("us") for _ in range(2))])
    rig.manager.resume()
    for lease in result_of(asked):
        if lease is not None:
            lease.release()
    rig.end()


def test_after_a_check_that_pauses_the_manager_no_other_begins() -> None:
    checked: list[Any] = []

    def check(protocol: Any) -> None:
        checked.append(protocol)
        rig.manager.pause()

    rig = Sharing(check=check, check_after=0)
    asked = rig.ask()
    assert len(checked) == 1
    with pytest.raises(NotFired):
        result_of(asked)
    rig.manager.resume()
    asked.cancel()
    asked.addErrback(lambda _: None)
    rig.end()


# Operation


def test_while_paused_slots_are_not_leased_even_on_a_connection_in_use() -> None:
    rig = Sharing(limit=1)
    leases = rig.take(2)
    rig.manager.pause()
    waiting = rig.ask()
    assert rig.manager.try_connect("us") is None
    leases.pop().release()
    with pytest.raises(NotFired):
        result_of(waiting)
    rig.manager.resume()
    assert result_of(waiting).protocol is leases[0].protocol


def test_draining_waits_for_every_slot() -> None:
    rig = Sharing(limit=1)
    leases = rig.take(3)
    waiting = rig.ask()
    drained = rig.manager.drain()
    with pytest.raises(Draining):
        result_of(waiting)
    with pytest.raises(Draining):
        rig.manager.try_connect("us")
    for lease in leases:
        rig.turn()
        with pytest.raises(NotFired):
            result_of(drained)
        lease.release()
    rig.turn()
    assert result_of(drained) is None
    assert rig.manager.status().state is State.CLOSED


def test_closing_tells_of_every_slot_that_is_still_held(log_events: list[Any]) -> None:
    rig = Sharing(limit=1)
    leases = rig.take(3)
    lost = [lease.when_lost() for lease in leases]
    closed = rig.manager.close(10)
    leases.pop().release()
    rig.clock.advance(10)
    rig.turn()
    assert result_of(closed) is None
    assert [each.called for each in lost] == [True, True, False]
    told = [each for each in log_events if "still held" in str(each["log_format"])]
    assert len(told) == 2
    for lease in leases:
        lease.release()
    with pytest.raises(Closed):
        result_of(rig.ask())


def test_a_smaller_limit_retires_connections_in_use_and_a_larger_one_serves() -> None:
    rig = Sharing(limit=2, observed=True)
    leases = rig.take(6)
    rig.manager.resize(1)
    assert rig.manager.status().limit == 3
    waiting = rig.ask()
    for lease in leases:
        lease.release()
    rig.turn()
    assert len(rig.fake.connections) == 1
    assert reasons(rig) == [Why.RESIZED]
    leases = [result_of(waiting), *rig.take(2)]
    waiting = rig.ask()
    rig.manager.resize(2)
    leases.append(result_of(waiting))
    for lease in leases:
        lease.release()
    rig.end()


def test_what_a_smaller_limit_allows_is_leased_while_what_it_does_not_is_closing() -> None:
    rig = Sharing(limit=2)
    leases = rig.take(6)
    rig.manager.resize(1)
    for lease in reversed(leases):  # the second connection comes home first, and goes
        lease.release()
    assert len(rig.fake.connections) == 2, "it is not gone yet"
    lease = rig.lease()
    assert lease.protocol is rig.protocols[0]
    lease.release()
    rig.end()


def test_invalidating_retires_what_is_in_use_and_new_leases_get_new_connections() -> None:
    rig = Sharing(limit=2)
    old = rig.take(2)
    rig.manager.invalidate()
    new = rig.lease()
    assert new.protocol is rig.protocols[1]
    old.pop().release()
    rig.turn()
    assert rig.fake.accepted[0].open
    old.pop().release()
    rig.turn()
    assert not rig.fake.accepted[0].open
    new.release()
    rig.end()


# Owners


def test_the_slots_of_an_owner_end_with_it() -> None:
    rig = Sharing(limit=2)
    owner: Deferred[None] = Deferred()
    owned = [rig.lease(owner) for _ in range(2)]
    other = rig.lease()
    owner.callback(None)
    assert [lease.held for lease in owned] == [False, False]
    other.protocol.transport.write(b"mine")
    other.release()
    rig.turn()
    assert not rig.fake.connections
    rig.end()


def test_an_owner_that_holds_all_slots_and_asks_for_one_more_fails_at_once() -> None:
    rig = Sharing(limit=1)
    owner: Deferred[None] = Deferred()
    leases = [rig.lease(owner) for _ in range(3)]
    with pytest.raises(LeaseError, match="never"):
        result_of(rig.ask(owner=owner))
    leases.pop().release()
    rig.lease(owner).release()
    leases.append(rig.lease())
    waiting = rig.ask(owner=owner)
    leases.pop().release()
    leases.append(result_of(waiting))
    for lease in leases:
        lease.release()


def test_an_owner_whose_leases_were_lost_may_ask_again_before_it_settles_them() -> None:
    rig = Sharing(limit=1)
    owner: Deferred[None] = Deferred()
    lost = [rig.lease(owner) for _ in range(3)]
    rig.fake.accepted[0].reset()
    again = rig.lease(owner)
    for lease in [*lost, again]:
        lease.release()
    rig.end()


# Explaining


def test_every_slot_is_explained() -> None:
    rig = Sharing(limit=1)
    owner: Deferred[None] = Deferred()
    leases = [rig.lease(owner), *rig.take(2)]
    waiting = rig.ask(timeout=10)
    rig.clock.advance(2)
    explanation = rig.manager.explain()
    assert [each.held for each in explanation.leases] == [2, 2, 2]
    assert sorted(each.uses for each in explanation.leases) == [1, 2, 3]
    assert sum(each.owner is not None for each in explanation.leases) == 1
    assert explanation.why == "all 3 slots are leased, the oldest for 2 s"
    waiting.cancel()
    waiting.addErrback(lambda _: None)
    del leases


def test_in_debug_mode_a_stale_use_of_a_shared_protocol_is_caught_and_others_go_on() -> None:
    rig = Sharing(limit=1, debug=True)
    first, second = rig.take(2)
    stale = first.protocol
    first.release()
    with pytest.raises(LeaseError, match="settled here"):
        stale.transport.write(b"late")
    second.protocol.transport.write(b"in time")
    assert rig.fake.accepted[0].received == b"in time"
    second.release()

"""A request for a fresh connection gets one that was never leased, in its turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from kolus import (
    Closed,
    ConnectFailed,
    Draining,
    LeaseError,
    LeaseTimeout,
    Pool,
    PoolFull,
    WrongIdent,
)
from kolus.events import Retired, Why
from kolus.interfaces import IGivesFresh
from kolus.testing import NotFired, result_of
from tests.rigs.either import either, use
from tests.rigs.idents import Idents
from tests.rigs.pools import Managed, Pooled
from tests.rigs.sharing import Hears, Multiplexed, Sharing


def fresh(rig: Any, **how: Any) -> Deferred[Any]:
    asked: Deferred[Any] = rig.manager.connect("us", fresh=True, **how)
    return asked


def settle(rig: Any, *asked: Deferred[Any]) -> None:
    for each in asked:
        result_of(each).release()
    rig.turn()


@either
def test_both_kinds_say_that_they_give_fresh_connections(rig_of: Callable[..., Any]) -> None:
    verifyObject(IGivesFresh, rig_of().manager)


@either
def test_a_fresh_connection_is_made_beside_an_idle_one_that_was_leased(
    rig_of: Callable[..., Any],
) -> None:
    rig = rig_of(limit=2)
    use(rig)
    lease = result_of(fresh(rig))
    assert not lease.reused
    assert rig.fake.attempts == 2
    assert rig.manager.status().idle == 1
    lease.release()


@either
@pytest.mark.parametrize("after", [0.0, 1.0])
def test_no_more_connections_are_made_than_are_asked_for(
    rig_of: Callable[..., Any], after: float
) -> None:
    rig = rig_of(limit=20)
    use(rig)
    rig.fake.accept(after=after, always=True)
    asked = [fresh(rig), rig.ask(), fresh(rig)]
    rig.clock.pump([0, after, 0])
    assert rig.fake.attempts == 3
    settle(rig, *asked)


@either
def test_an_idle_connection_that_was_never_leased_is_fresh(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(limit=3, min_idle=1)
    held = rig.lease()  # and one more is kept ready
    lease = result_of(fresh(rig))
    assert not lease.reused
    assert rig.fake.attempts == 3  # the head-room was refilled
    settle_all(rig, held, lease)


def settle_all(rig: Any, *leases: Any) -> None:
    for each in leases:
        each.release()
    rig.turn()


@either
def test_such_a_connection_is_leased_once_as_a_fresh_one(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(limit=2)
    rig.fake.accept(after=1.0)
    rig.ask().addErrback(lambda _: None).cancel()
    rig.clock.advance(1.0)
    first = rig.manager.try_connect("us", None, True)
    assert first is not None
    first.release()
    assert rig.manager.try_connect("us", None, True) is None
    again = rig.manager.try_connect("us")
    assert again is not None
    again.release()


@either
def test_a_fresh_connection_that_was_idle_for_long_is_checked_first(
    rig_of: Callable[..., Any],
) -> None:
    checks: list[Deferred[bool]] = []

    def check(protocol: Any) -> Deferred[bool]:
        checks.append(Deferred())
        return checks[-1]

    rig = rig_of(limit=2, check=check, check_after=5.0)
    rig.fake.accept(after=1.0)
    rig.ask().addErrback(lambda _: None).cancel()
    rig.clock.pump([1.0, 6.0])
    assert rig.manager.try_connect("us", None, True) is None
    asked = fresh(rig)
    assert len(checks) == 1
    checks[0].callback(True)
    lease = result_of(asked)
    assert not lease.reused
    lease.release()


@either
def test_a_check_of_one_that_was_leased_before_keeps_no_new_one_from_its_own(
    rig_of: Callable[..., Any],
) -> None:
    checks: list[Deferred[bool]] = []

    def check(protocol: Any) -> Deferred[bool]:
        checks.append(Deferred())
        return checks[-1]

    rig = rig_of(limit=2, check=check, check_after=0.0)
    first = rig.ask()
    checks[0].callback(True)
    result_of(first).release()
    others, asked = [rig.ask(), rig.ask()], fresh(rig)
    rig.clock.pump([0.0] * 4)
    assert rig.fake.attempts == 2, "what waits for its check is not replaced"
    for check_under_way in checks[1:]:
        check_under_way.callback(True)
    settle(rig, *others)
    for check_under_way in checks:
        if not check_under_way.called:
            check_under_way.callback(True)
    rig.clock.pump([0.0] * 4)
    for check_under_way in checks:
        if not check_under_way.called:
            check_under_way.callback(True)
    lease = result_of(asked)
    assert not lease.reused
    lease.release()


# At the limit


@either
def test_at_the_limit_an_idle_connection_makes_way(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(limit=1, observed=True)
    use(rig)
    asked = fresh(rig)
    with pytest.raises(NotFired):
        result_of(asked)
    rig.turn()
    lease = result_of(asked)
    assert not lease.reused
    assert len(rig.fake.connections) == 1
    assert [each.why for each in rig.events if isinstance(each, Retired)] == [Why.DISPLACED]
    lease.release()


@either
def test_at_the_limit_the_first_to_come_home_makes_way(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(limit=2)
    held = [rig.lease(), rig.lease()]
    asked = fresh(rig)
    held[1].release()
    rig.turn()
    lease = result_of(asked)
    assert not lease.reused
    held[0].release()
    lease.release()
    assert rig.manager.status().idle == 2


@either
def test_what_was_leased_before_serves_those_behind_a_request_that_it_cannot_serve(
    rig_of: Callable[..., Any],
) -> None:
    rig = rig_of(limit=2)
    held = rig.lease()
    rig.fake.accept(after=1.0)
    first, second = fresh(rig), rig.ask()
    held.release()  # a connection for the first is on its way
    lease = result_of(second)
    assert lease.reused
    rig.clock.advance(1.0)
    settle(rig, first)
    lease.release()


@either
def test_one_that_takes_anything_is_served_at_once_beside_one_that_waits_for_a_fresh_connection(
    rig_of: Callable[..., Any],
) -> None:
    rig = rig_of(limit=2)
    use(rig)
    rig.fake.accept(after=1.0)
    asked = fresh(rig)
    for _ in range(3):
        result_of(rig.ask()).release()
    rig.clock.advance(1.0)
    settle(rig, asked)


@either
def test_requests_for_fresh_connections_are_not_starved_by_those_that_take_anything(
    rig_of: Callable[..., Any],
) -> None:
    rig = rig_of(limit=1, acquire_timeout=None)
    held = rig.lease()
    served: list[str] = []

    def use_it(lease: Any, name: str) -> None:
        served.append(name)
        rig.clock.callLater(1.0, lease.release)
        if name == "any":
            ask_any()

    def ask_any() -> None:
        rig.ask().addCallback(use_it, "any").addErrback(lambda _: None)

    ask_any()
    asked = fresh(rig).addCallback(use_it, "fresh")
    ask_any()
    held.release()
    rig.clock.pump([0.5] * 8)
    assert served[:3] == ["any", "fresh", "any"]
    assert asked.called
    rig.manager.close(0)
    rig.clock.pump([0, 1, 60])


@either
def test_a_new_connection_goes_to_whoever_came_first(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(limit=1)
    rig.fake.accept(after=1.0)
    first, second = rig.ask(), fresh(rig)
    rig.clock.advance(1.0)
    lease = result_of(first)
    with pytest.raises(NotFired):
        result_of(second)
    lease.release()
    rig.turn()
    settle(rig, second)
    assert rig.fake.attempts == 2


@either
def test_a_newcomer_does_not_overtake_those_who_wait_for_a_fresh_connection(
    rig_of: Callable[..., Any],
) -> None:
    rig = rig_of(limit=1)
    held = rig.lease()
    first, second = fresh(rig), fresh(rig)
    held.release()
    rig.turn()
    lease = result_of(first)
    with pytest.raises(NotFired):
        result_of(second)
    lease.finished()
    rig.turn()
    settle(rig, second)


@either
def test_many_requests_for_fresh_connections_get_one_each_within_the_limit(
    rig_of: Callable[..., Any],
) -> None:
    rig = rig_of(limit=2)
    use(rig, 2)
    asked = [fresh(rig) for _ in range(6)]
    protocols = []
    for each in asked:
        rig.turn()
        assert len(rig.fake.connections) <= 2
        lease = result_of(each)
        assert not lease.reused
        protocols.append(lease.protocol)
        lease.release()
    assert len(set(map(id, protocols))) == 6


# How it ends


@either
def test_a_cancelled_request_leaves_the_queue(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(limit=1)
    held = rig.lease()
    asked = fresh(rig)
    assert rig.manager.status().waiting == 1
    asked.cancel()
    with pytest.raises(CancelledError):
        result_of(asked)
    assert rig.manager.status().waiting == 0
    held.release()
    assert rig.manager.status().idle == 1  # nothing makes way for one that is gone
    assert not rig.manager.groups.joined


@either
def test_a_request_fails_at_its_deadline(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(limit=1, acquire_timeout=5.0)
    held = rig.lease()
    own, usual = fresh(rig, timeout=1.0), fresh(rig)
    rig.clock.advance(1.0)
    with pytest.raises(LeaseTimeout):
        result_of(own)
    rig.clock.advance(3.9)
    with pytest.raises(NotFired):
        result_of(usual)
    rig.clock.advance(0.1)
    with pytest.raises(LeaseTimeout):
        result_of(usual)
    held.release()


@either
def test_a_failed_connect_fails_the_request(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(limit=1)
    use(rig)
    rig.fake.refuse(always=True)
    asked = fresh(rig)
    rig.turn()
    rig.clock.advance(5)
    with pytest.raises(ConnectFailed):
        result_of(asked)


@either
def test_while_the_next_attempt_is_not_due_nothing_makes_way(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(limit=2, fail_fast=False, max_connecting=1)
    use(rig, 2)
    rig.fake.refuse()
    first = fresh(rig)
    rig.turn()
    assert rig.manager.status().idle == 1
    second = fresh(rig)
    rig.turn()
    assert rig.manager.status().idle == 1
    rig.clock.pump([0.5] * 8)
    assert not result_of(first).reused
    rig.manager.close(0)
    rig.clock.pump([0, 60])
    second.addErrback(lambda _: None)


@either
@pytest.mark.parametrize(("how", "error"), [("drain", Draining), ("close", Closed)])
def test_draining_and_closing_fail_the_requests_in_the_queue(
    rig_of: Callable[..., Any], how: str, error: type[Exception]
) -> None:
    rig = rig_of(limit=1)
    held = rig.lease()
    asked = fresh(rig)
    getattr(rig.manager, how)(*(() if how == "drain" else (10.0,)))
    with pytest.raises(error):
        result_of(asked)
    with pytest.raises(error):
        result_of(fresh(rig))
    held.release()
    rig.turn()
    assert not rig.clock.getDelayedCalls()


@either
def test_while_paused_it_waits_and_nothing_makes_way(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(limit=1)
    use(rig)
    rig.manager.pause()
    asked = fresh(rig)
    rig.turn()
    assert rig.manager.status().idle == 1
    assert rig.manager.try_connect("us", None, True) is None
    rig.manager.resume()
    rig.turn()
    settle(rig, asked)


@either
def test_another_ident_is_refused(rig_of: Callable[..., Any]) -> None:
    rig = rig_of()
    with pytest.raises(WrongIdent):
        result_of(rig.manager.connect("them", fresh=True))
    with pytest.raises(WrongIdent):
        rig.manager.try_connect("them", None, True)


@either
def test_the_bound_of_the_queue_counts_them(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(limit=1, max_waiters=1)
    held = rig.lease()
    asked = fresh(rig)
    for each in (fresh(rig), rig.ask()):
        with pytest.raises(PoolFull):
            result_of(each)
    held.release()
    rig.turn()
    settle(rig, asked)


@either
def test_with_no_queue_an_idle_connection_makes_way_all_the_same(
    rig_of: Callable[..., Any],
) -> None:
    rig = rig_of(limit=1, max_waiters=0)
    use(rig)
    asked = fresh(rig)
    rig.turn()
    lease = result_of(asked)
    with pytest.raises(PoolFull):
        result_of(fresh(rig))
    lease.release()


# Owners


@either
def test_a_request_ends_with_its_owner(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(limit=1)
    held = rig.lease()
    owner: Deferred[None] = Deferred()
    asked = fresh(rig, owner=owner)
    owner.callback(None)
    with pytest.raises(CancelledError):
        result_of(asked)
    held.release()
    owned = fresh(rig, owner=(other := Deferred()))
    rig.turn()
    lease = result_of(owned)
    other.callback(None)
    assert not lease.held


@either
def test_a_request_whose_owner_has_ended_is_refused(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(limit=1)
    owner: Deferred[None] = Deferred()
    owner.callback(None)
    with pytest.raises(LeaseError):
        result_of(fresh(rig, owner=owner))


@either
def test_a_request_that_only_its_owner_could_serve_fails_at_once(
    rig_of: Callable[..., Any],
) -> None:
    rig = rig_of(limit=1)
    owner: Deferred[None] = Deferred()
    held = result_of(rig.manager.connect("us", None, owner))
    with pytest.raises(LeaseError):
        result_of(fresh(rig, owner=owner))
    held.release()


@either
def test_an_owner_that_comes_to_hold_everything_has_its_requests_failed(
    rig_of: Callable[..., Any],
) -> None:
    rig = rig_of(limit=1)
    owner: Deferred[None] = Deferred()
    rig.fake.accept(after=1.0)
    first, second = rig.manager.connect("us", None, owner), fresh(rig, owner=owner)
    rig.clock.advance(1.0)
    held = result_of(first)
    with pytest.raises(LeaseError):
        result_of(second)
    held.release()


# Explained


@either
def test_it_is_explained_as_every_request_is(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(limit=1)
    held = rig.lease()
    asked, other = fresh(rig), rig.ask()
    explanation = rig.manager.explain()
    assert [each.position for each in explanation.waiters] == [1, 2]
    assert "wants a fresh connection" in explanation.waiters[0].why
    assert "fresh" not in explanation.waiters[1].why
    held.release()
    rig.turn()
    settle(rig, asked, other)


# Shared connections


def test_a_connection_with_free_slots_is_not_fresh() -> None:
    rig = Sharing(limit=2, slots=3)
    held = rig.lease()
    lease = result_of(fresh(rig))
    assert not lease.reused
    assert lease.protocol is not held.protocol
    other = rig.lease()
    assert other.reused
    settle_all(rig, held, lease, other)


def test_at_the_limit_a_shared_connection_takes_no_new_leases_and_makes_way() -> None:
    rig = Sharing(limit=1, slots=3)
    held = rig.take(2)
    first, second = fresh(rig), rig.ask()
    with pytest.raises(NotFired):
        result_of(second)  # else the connection might never be free
    held[0].release()
    held[1].release()
    rig.turn()
    lease = result_of(first)
    assert not lease.reused
    assert result_of(second).protocol is lease.protocol
    assert rig.fake.attempts == 2


def test_all_who_wait_for_a_fresh_connection_share_the_next_one() -> None:
    rig = Sharing(limit=1, slots=3)
    held = rig.take(3)
    asked = [fresh(rig) for _ in range(3)]
    late = fresh(rig)
    for each in held:
        each.release()
    rig.turn()
    leases = [result_of(each) for each in asked]
    assert [each.reused for each in leases] == [False] * 3
    assert len({id(each.protocol) for each in leases}) == 1
    assert rig.fake.attempts == 2
    with pytest.raises(NotFired):
        result_of(late)
    settle_all(rig, *leases)
    settle(rig, late)
    assert rig.fake.attempts == 3


def test_one_that_asks_when_a_new_connection_is_leased_waits_for_the_next() -> None:
    rig = Sharing(limit=2, slots=3)
    rig.fake.accept(after=1.0, always=True)
    later: list[Deferred[Any]] = []
    asked = fresh(rig)
    asked.addCallback(lambda lease: (later.append(fresh(rig)), lease)[1])
    rig.clock.advance(1.0)
    first = result_of(asked)
    with pytest.raises(NotFired):
        result_of(later[0])
    rig.clock.advance(1.0)
    second = result_of(later[0])
    assert second.protocol is not first.protocol
    settle_all(rig, first, second)


def test_a_lessee_that_releases_at_once_does_not_keep_the_others_from_sharing() -> None:
    rig = Sharing(limit=1, slots=2)
    held = rig.lease()
    reused: list[bool] = []
    for _ in range(4):
        fresh(rig).addCallback(lambda lease: (reused.append(lease.reused), lease.release()))
    held.release()
    rig.turn()
    assert reused == [False] * 4
    assert rig.fake.attempts == 2
    rig.end()


def test_a_new_connection_that_has_no_slots_yet_waits_until_it_has() -> None:
    class Silent(Multiplexed):
        first = 0

    rig = Sharing(Silent, limit=1, slots=2)
    asked = fresh(rig)
    rig.turn()
    with pytest.raises(NotFired):
        result_of(asked)
    rig.protocols[0].change(2)
    lease = result_of(asked)
    assert not lease.reused
    lease.release()
    rig.end()


# Several idents


def test_a_sibling_s_idle_connection_makes_way_too() -> None:
    rig = Idents("separate", limit=1)
    rig.lease("them").release()
    asked = rig.pool.connect("us", rig.backend, fresh=True)
    rig.turn()
    lease = result_of(asked)
    assert not lease.reused
    assert rig.most == 1
    lease.release()
    rig.end()


def test_a_fresh_connection_for_one_ident_never_takes_more_than_the_limit() -> None:
    rig = Idents("separate", limit=2)
    rig.lease("us").release()
    held = rig.lease("them")
    asked = [rig.pool.connect("us", rig.backend, fresh=True) for _ in range(2)]
    rig.turn()
    first = result_of(asked[0])
    with pytest.raises(NotFired):
        result_of(asked[1])
    held.release()
    rig.turn()
    second = result_of(asked[1])
    assert (first.reused, second.reused) == (False, False)
    assert rig.most == 2
    first.release()
    second.release()
    rig.end()


# Under one limit over all backends


@pytest.mark.parametrize("slots", [None, 2])
def test_where_the_limit_of_the_pool_binds_an_idle_connection_makes_way(slots: int | None) -> None:
    rig = Pooled(limit=3, slots=slots)
    rig.pool = Pool(rig.clock, Hears, policy=rig.pool.policy, limit=1)
    for used in rig.backends[:2]:
        for _ in range(2):
            other = rig.pool.connect("us", used)
            rig.turn()
            result_of(other).release()
        asked = rig.pool.connect("us", used, fresh=True)
        rig.turn()
        lease = result_of(asked)
        assert not lease.reused
        assert sum([len(each.connections) for each in rig.fakes]) == 1
        lease.release()


def test_where_the_limit_of_the_pool_binds_the_first_to_come_home_makes_way() -> None:
    rig = Pooled(limit=3)
    rig.pool = Pool(rig.clock, Hears, policy=rig.pool.policy, limit=1)
    held = result_of(rig.pool.connect("us", rig.backends[0]))
    elsewhere = rig.pool.connect("us", rig.backends[1], fresh=True)
    here = rig.pool.connect("us", rig.backends[0], fresh=True)
    held.release()
    rig.turn()
    lease = result_of(elsewhere)
    assert not lease.reused
    lease.release()
    rig.turn()
    settle(rig, here)


# What it costs others


def test_a_manager_is_smooth_again_when_those_requests_are_served() -> None:
    rig = Managed(limit=2)
    use(rig)
    lease = result_of(fresh(rig))
    lease.release()
    rig.lease().release()
    assert rig.manager.smooth


@either
def test_a_fresh_connection_is_given_in_debug_mode(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(limit=1, debug=True)
    use(rig)
    asked = fresh(rig)
    rig.turn()
    lease = result_of(asked)
    assert not lease.reused
    lease.release()


@either
def test_reset_and_most_uses_do_not_bring_back_what_was_leased(
    rig_of: Callable[..., Any],
) -> None:
    rig = rig_of(limit=1, max_uses=3)
    use(rig)
    for _ in range(2):
        asked = fresh(rig)
        rig.turn()
        settle(rig, asked)


def test_a_lost_connection_is_replaced_by_a_fresh_one() -> None:
    rig = Managed(Hears, limit=1)
    lease = rig.lease()
    asked = fresh(rig)
    rig.fake.connections[0].reset()
    lease.release()
    rig.turn()
    settle(rig, asked)


@either
def test_a_fresh_request_that_is_cancelled_is_counted_once(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(limit=1)
    rig.fake.never_answer()
    asked = fresh(rig)
    asked.cancel()
    with pytest.raises(CancelledError):
        result_of(asked)
    assert rig.manager.counters.cancels == 1


@either
def test_who_asks_from_a_callback_does_not_take_what_a_fresh_request_waits_for(
    rig_of: Callable[..., Any],
) -> None:
    rig = rig_of(limit=5, min_idle=2)
    held = rig.lease()
    rig.turn()
    ready = [each.protocol for each in rig.manager.connections.idle]
    assert len(ready) == 2
    rig.manager.pause()
    first, second = fresh(rig), fresh(rig)
    again: list[Deferred[Any]] = []

    def ask(lease: Any) -> Any:
        again.append(rig.ask())
        return lease

    first.addCallback(ask)
    rig.manager.resume()
    leases = [result_of(first), result_of(second)]
    assert [each.protocol for each in leases] == ready
    rig.turn()
    settle(rig, *again)
    for each in (*leases, held):
        each.release()


def test_a_shared_connection_that_is_checked_for_a_fresh_request_counts_as_out() -> None:
    answers: list[Any] = [True]
    rig = Sharing(check=lambda protocol: answers[-1], check_after=0.0, min_idle=1)
    held = rig.lease()
    answers.append(Deferred())
    rig.turn()
    asked = fresh(rig)
    (connection,) = rig.manager.connections.checking
    assert not connection.uses
    assert rig.manager.status().idle == 3 - 1, "the free slots of the other"
    answers[-1].callback(True)
    settle(rig, asked)
    held.release()


@either
@pytest.mark.parametrize("most_idle", [None, 0])
def test_a_check_for_a_fresh_request_keeps_nobody_else_from_a_check(
    rig_of: Callable[..., Any], most_idle: int | None
) -> None:
    checks: list[Deferred[bool]] = []

    def check(protocol: Any) -> Deferred[bool]:
        checks.append(Deferred())
        return checks[-1]

    rig = rig_of(limit=5, check=check, check_after=0.0, max_idle=most_idle)
    asked = [fresh(rig), *[rig.ask() for _ in range(rig.manager.policy.slots or 1)]]
    rig.turn()
    assert (len(checks), rig.fake.attempts) == (2, 2)
    for each in tuple(checks):
        each.callback(True)
    rig.manager.drain()
    settle(rig, *asked)


def test_a_new_connection_that_can_carry_nothing_yet_does_not_make_way_for_another() -> None:
    silent = type("Silent", (Multiplexed,), {"first": 0})
    rig = Sharing(silent, limit=1)
    rig.fake.accept(after=0.1, always=True)
    asked = [fresh(rig) for _ in range(4)]
    rig.clock.pump([0.1] * 5)
    assert rig.fake.attempts == 1
    rig.protocols[0].change(4)
    settle(rig, *asked)
    rig.end()

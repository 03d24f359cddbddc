"""Rule 40: after C{resize} to less, whatever comes home first goes, until the limit holds."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, Lease, Policy, Pool
from kolus.events import Retired, Why
from kolus.testing import FakeBackend, NotFired, result_of
from tests.rigs.either import either
from tests.rigs.idents import Idents
from tests.rigs.pool_limits import LimitedPool
from tests.rigs.sharing import Sharing


def assert_waits(asked: Deferred[Any]) -> None:
    with pytest.raises(NotFired):
        result_of(asked)


def reasons(rig: Any) -> Counter[Why]:
    return Counter(each.why for each in rig.events if isinstance(each, Retired))


@either
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_whichever_lease_ends_last_is_the_one_that_serves_the_next_request(
    rig_of: Any, order: tuple[int, ...]
) -> None:
    rig = rig_of(limit=3, observed=True)
    leases = [rig.lease() for _ in range(3)]
    rig.manager.resize(1)
    asked = rig.ask()
    *first, last = order
    for each in first:
        leases[each].release()
        rig.turn()
        assert_waits(asked)
    assert len(rig.fake.connections) == 1
    leases[last].release()
    result_of(asked).release()
    assert reasons(rig) == {Why.RESIZED: 2}


@either
def test_no_more_go_than_are_above_the_limit_however_they_go(rig_of: Any) -> None:
    rig = rig_of(limit=5, observed=True)
    leases = [rig.lease() for _ in range(5)]
    rig.manager.resize(3)
    leases[0].finished()
    leases[1].release()
    leases[2].release()
    rig.turn()
    assert len(rig.fake.connections) == 3
    assert reasons(rig) == {Why.FINISHED: 1, Why.RESIZED: 1}
    again = rig.lease()
    assert again.reused
    for lease in (again, *leases[3:]):
        lease.release()
    assert len(rig.fake.connections) == 3


@either
def test_a_limit_that_is_raised_before_anything_came_home_keeps_everything(rig_of: Any) -> None:
    rig = rig_of(limit=4, observed=True)
    leases = [rig.lease() for _ in range(4)]
    rig.manager.resize(1)
    rig.manager.resize(4)
    for lease in leases:
        lease.release()
    rig.turn()
    assert rig.numbers() == (4, 0, 0, 0, 0)
    assert not reasons(rig)


@either
def test_a_limit_that_is_raised_halfway_keeps_what_is_left(rig_of: Any) -> None:
    rig = rig_of(limit=4)
    leases = [rig.lease() for _ in range(4)]
    rig.manager.resize(1)
    leases.pop().release()
    rig.manager.resize(3)
    for lease in leases:
        lease.release()
    rig.turn()
    assert len(rig.fake.connections) == 3
    assert len(rig.fake.accepted) == 4


@either
def test_what_nobody_has_goes_at_once_before_anything_that_is_leased(rig_of: Any) -> None:
    rig = rig_of(limit=4, observed=True)
    leases = [rig.lease() for _ in range(4)]
    for lease in leases[2:]:
        lease.release()
    rig.manager.resize(3)
    rig.turn()
    assert rig.numbers() == (1, 2, 0, 0, 0)
    for lease in leases[:2]:
        lease.release()
    rig.turn()
    assert rig.numbers() == (3, 0, 0, 0, 0)


@either
def test_retired_connections_count_until_they_are_home(rig_of: Any) -> None:
    rig = rig_of(limit=3)
    old = [rig.lease(), rig.lease()]
    rig.manager.invalidate()
    new = rig.lease()
    rig.manager.resize(2)
    new.release()
    rig.turn()
    assert len(rig.fake.connections) == 2
    asked = rig.ask()
    assert_waits(asked)
    old[0].release()
    rig.turn()
    result_of(asked).release()
    old[1].release()


@either
def test_a_connection_that_passed_its_check_goes_too(rig_of: Any) -> None:
    checked: list[Deferred[None]] = []

    def check(protocol: object) -> Deferred[None]:
        checked.append(Deferred())
        return checked[-1]

    rig = rig_of(limit=2, observed=True, check=check, check_after=1.0)
    held, other = rig.lease(), rig.lease()
    other.release()
    rig.clock.advance(2)
    asked = rig.ask()
    assert_waits(asked)
    rig.manager.resize(1)
    checked.pop().callback(None)
    rig.turn()
    assert_waits(asked)
    assert reasons(rig) == {Why.RESIZED: 1}
    held.release()
    result_of(asked).release()


def test_a_connection_that_was_reset_goes_too() -> None:
    reset: list[Deferred[None]] = []

    def hook(protocol: object) -> Deferred[None]:
        reset.append(Deferred())
        return reset[-1]

    rig = Idents("reject", limit=2, reset=hook)
    held, other = rig.lease("a"), rig.lease("a")
    other.release()
    rig.pool.resize(1)
    reset.pop().callback(None)
    rig.turn()
    assert rig.retired() == [("a", Why.RESIZED)]
    held.release()
    reset.pop().callback(None)
    assert len(rig.open()) == 1
    rig.end()


@either
def test_min_idle_does_not_refill_what_is_above_the_limit(rig_of: Any) -> None:
    rig = rig_of(limit=4, min_idle=2, observed=True)
    leases = [rig.lease() for _ in range(2)]
    rig.turn()
    assert len(rig.fake.connections) == 4
    rig.manager.resize(2)
    rig.turn()
    assert len(rig.fake.connections) == 2
    leases.pop().release()
    rig.turn()
    assert rig.numbers() == (1, 1, 0, 0, 0)
    leases.pop().release()


@either
def test_a_connection_about_to_expire_is_replaced_when_the_limit_holds_again(rig_of: Any) -> None:
    rig = rig_of(limit=3, lifetime=100.0, lifetime_jitter=0.0, idle_timeout=None, leak_after=None)
    leases = [rig.lease() for _ in range(3)]
    rig.manager.resize(2)
    rig.clock.advance(99)
    assert len(rig.fake.accepted) == 3
    for lease in leases:
        lease.release()
    rig.clock.pump([0, 0, 2, 0, 0])
    assert len(rig.fake.connections) <= 2
    rig.lease().release()


# Several idents


def test_the_ident_with_most_connections_closes_its_idle_ones_first() -> None:
    rig = Idents("separate", limit=7)
    leases = [rig.lease(ident) for ident in "aaaabbc"]
    for lease in leases:
        lease.release()
    rig.pool.resize(4)
    rig.turn()
    left = {each.ident: each.idle for each in rig.pool.status()}
    assert left in ({"a": 2, "b": 1, "c": 1}, {"a": 1, "b": 2, "c": 1})
    rig.end()


def test_an_ident_that_has_nothing_idle_leaves_it_to_others_until_its_leases_end() -> None:
    rig = Idents("separate", limit=4)
    held = [rig.lease("a") for _ in range(3)]
    rig.lease("b").release()
    rig.pool.resize(2)
    rig.turn()
    assert [each.idle for each in rig.pool.status() if each.ident == "b"] == [0]
    held.pop().release()
    rig.turn()
    held.pop().release()
    rig.turn()
    assert rig.retired() == [("b", Why.RESIZED), ("a", Why.RESIZED)]
    held.pop().release()
    rig.end()


@pytest.mark.parametrize("slots", [None, 3])
def test_the_lease_of_any_ident_that_ends_first_makes_the_limit_hold(slots: int | None) -> None:
    rig = Idents("separate", limit=3, slots=slots)
    leases = {ident: rig.lease(ident) for ident in "abc"}
    rig.pool.resize(2)
    leases["b"].release()
    rig.turn()
    assert rig.retired() == [("b", Why.RESIZED)]
    leases["a"].release()
    asked = rig.ask("d")
    rig.turn()
    result_of(asked).release()
    leases["c"].release()
    rig.end()
    assert rig.retired().count(("b", Why.RESIZED)) == 1


# Shared connections


def test_new_leases_go_to_the_connections_with_most_leases_so_that_others_come_home() -> None:
    rig = Sharing(limit=3, slots=3)
    leases = rig.take(9)
    by_protocol: dict[Any, list[Lease[Any]]] = {}
    for lease in leases:
        by_protocol.setdefault(lease.protocol, []).append(lease)
    first, second, third = by_protocol.values()
    rig.manager.resize(1)
    first.pop().release()
    second.pop().release()
    asked = rig.ask()
    assert_waits(asked)  # the third has most, and is full
    third.pop().release()
    again = result_of(asked)
    by_protocol[again.protocol].append(again)
    most = max(by_protocol.values(), key=len)
    for lease in [each for those in by_protocol.values() if those is not most for each in those]:
        lease.release()
        rig.turn()
    assert len(rig.fake.connections) == 1
    most.pop().release()
    last = rig.lease()
    assert last.protocol is most[0].protocol
    for lease in (last, *most):
        lease.release()
    rig.end()


@pytest.mark.parametrize("idents", ["a", "ab"])
def test_the_limit_comes_to_hold_though_there_are_always_requests(idents: str) -> None:
    rig = Idents("separate", limit=4, slots=3, max_waiters=1000, idle_timeout=None)
    held: list[Lease[Any]] = []

    def keep_busy() -> None:
        for ident in idents:
            manager = rig.pool.manager(rig.backend, ident)
            for _ in range(4 - (len(manager.waiting) if manager else 0)):  # type: ignore[attr-defined]
                rig.ask(ident, timeout=1000).addCallbacks(held.append, lambda _: None)

    for _ in range(4):
        keep_busy()
        rig.turn()
    assert len(rig.open()) == 4
    rig.pool.resize(2)
    for turn in range(60):
        keep_busy()
        held.pop(turn % len(held)).release()
        rig.turn()
    assert len(rig.open()) == 2
    for manager in tuple(rig.pool._managers):
        for waiter in tuple(manager.waiting):  # type: ignore[attr-defined]
            waiter.cancel()
    for lease in held:
        lease.release()
    rig.end()


def test_a_shared_connection_goes_on_serving_while_another_is_held_above_the_limit() -> None:
    rig = Sharing(limit=2, slots=3)
    leases = rig.take(4)
    rig.manager.resize(1)
    busy = leases[0].protocol
    assert leases[3].protocol is not busy
    for _ in range(10):
        leases.pop(0).release()
        leases.insert(0, rig.lease())
        assert leases[0].protocol is busy
    for lease in leases:
        lease.release()
    rig.end()


# Whoever lowers it


def test_a_pools_own_limit_goes_the_same_way() -> None:
    rig = Idents("separate", limit=3)
    leases = [rig.lease("a") for _ in range(3)]
    rig.pool.resize(1)
    for lease in leases[1:]:
        lease.release()
    rig.turn()
    assert len(rig.open()) == 1
    leases[0].release()
    rig.end()


# What it costs


def test_the_short_way_of_a_release_is_taken_again_when_the_limit_holds() -> None:
    clock = Clock()
    fake = FakeBackend(clock)
    backend = Backend(fake, name="b")
    pool: Pool[Any] = Pool(clock, Protocol, policy=Policy(limit=3))
    leases = [result_of(pool.connect("us", backend)) for _ in range(3)]
    manager: Any = pool.manager(backend)
    assert manager._plain
    pool.resize(2, backend)
    assert not manager._plain
    leases.pop().release()
    clock.pump([0] * 5)
    assert manager._plain


def test_a_backend_without_connections_has_none_to_let_go() -> None:
    """The pool has too many, all of them elsewhere: this backend's leases take the short way."""
    rig = LimitedPool(4)
    leases = [result_of(rig.ask("a")) for _ in range(3)]
    rig.lease("b").finished()
    rig.turn()
    rig.pool.resize_pool(1)
    record = rig.pool._managers.records.find(rig.backends["b"].key)
    assert record is not None
    assert not record.shrinking.active
    for each in leases:
        each.release()
    rig.turn()
    rig.end()

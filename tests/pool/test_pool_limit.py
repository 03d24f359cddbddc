"""C{Pool(limit=...)}: one limit over all backends and idents of a pool, on a clock."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError

from kolus import ConnectFailed, Draining, Lease, balance
from kolus.backoff import Backoff
from kolus.events import Why
from kolus.testing import result_of
from kolus.testing.results import failure_of
from tests.rigs.pool_limits import LimitedPool, is_waiting


def test_without_a_limit_each_backend_has_its_own() -> None:
    rig = LimitedPool(None, limit=2)
    assert rig.pool.limit is None
    leases = [rig.lease(name) for name in "aabbcc"]
    assert rig.open() == 6
    for each in leases:
        each.release()
    rig.end()


@pytest.mark.parametrize("limit", [0, -1, 1.5, "4", True])
def test_a_limit_that_is_not_a_whole_number_of_at_least_one_is_refused(limit: Any) -> None:
    with pytest.raises(ValueError, match="limit"):
        LimitedPool(limit)
    with pytest.raises(ValueError, match="limit"):
        LimitedPool(None).pool.resize_pool(limit)


@pytest.mark.parametrize("slots", [None, 1])
def test_the_connection_that_is_idle_longest_anywhere_makes_way(slots: int | None) -> None:
    rig = LimitedPool(3, slots=slots)
    for name, ident in (("a", "x"), ("b", "y"), ("a", "y")):
        rig.lease(name, ident).release()
        rig.clock.advance(1)
    rig.lease("a", "x").release()  # so that of b is idle longest now
    asked = rig.ask("c")
    rig.turn()
    result_of(asked).release()
    assert rig.retired() == [("b", "y", Why.DISPLACED)]
    assert rig.open() == 3
    rig.end()


def test_nothing_makes_way_while_there_is_room() -> None:
    rig = LimitedPool(3)
    for name in "abc":
        rig.lease(name).release()
    assert rig.retired() == []
    rig.end()


@pytest.mark.parametrize("slots", [None, 1])
def test_one_that_comes_home_makes_way_if_nobody_waits_for_it(slots: int | None) -> None:
    rig = LimitedPool(1, slots=slots)
    lease = rig.lease("a")
    asked = rig.ask("b")
    rig.turn()
    assert is_waiting(asked)
    lease.release()
    rig.turn()
    result_of(asked).release()
    assert rig.retired() == [("a", "us", Why.DISPLACED)]
    rig.end()


def test_what_is_idle_for_a_waiter_does_not_make_way() -> None:
    checked: list[Deferred[None]] = []

    def check(_: object) -> Deferred[None]:
        checked.append(Deferred())
        return checked[-1]

    rig = LimitedPool(2, check=check, check_after=1.0, check_timeout=None)
    rig.lease("a").release()
    rig.lease("a", "other")
    rig.clock.advance(1)
    own = rig.ask("a")  # its connection is in a check now
    asked = rig.ask("b")
    rig.turn()
    checked[0].callback(None)
    rig.turn()
    assert is_waiting(asked)
    result_of(own).release()
    rig.turn()
    result_of(asked)
    rig.end()


def test_waiters_of_all_backends_are_served_by_arrival() -> None:
    rig = LimitedPool(1, backends=4)
    lease = rig.lease("a")
    served: list[str] = []

    def note(lease: Lease[Any]) -> None:
        served.append(lease.backend.name or "")
        rig.clock.callLater(1, lease.release)

    order = "bacdbbadca"
    for name in order:
        rig.ask(name, timeout=1000).addCallback(note)
        rig.turn()
    lease.release()
    for _ in range(len(order)):
        rig.turn()
        rig.clock.advance(1)
    assert "".join(served) == order
    rig.end()


@pytest.mark.parametrize("slots", [None, 4])
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_busy_backend_does_not_keep_all_slots_while_anothers_waiter_is_waiting(
    limit: int, slots: int | None
) -> None:
    rig = LimitedPool(limit, slots=slots, limit=10)
    served: list[int] = []

    def again(lease: Any) -> None:
        served.append(1)
        rig.clock.callLater(1, lease.release)
        rig.ask("a", timeout=1000).addCallbacks(again, lambda _: None)

    for _ in range(20):
        rig.ask("a", timeout=1000).addCallbacks(again, lambda _: None)
    rig.turn()
    asked = rig.ask("b", timeout=1000)
    before = len(served)
    for _ in range(100):
        rig.turn()
        rig.clock.advance(1)
        if asked.called:
            break
    assert len(served) - before <= 20 + 2 * limit * (slots or 1) + limit
    result_of(asked).release()
    rig.end()


def test_a_backend_with_a_connection_is_overtaken_by_no_more_requests_than_the_limit() -> None:
    rig = LimitedPool(2)
    kept, lease = rig.lease("b"), rig.lease("a")
    asked = rig.ask("b", timeout=1000)
    overtaking = 0
    while asked.called is False:
        later = rig.ask("a", timeout=1000)
        lease.release()
        rig.turn()
        if not asked.called:
            lease = result_of(later)
            overtaking += 1
    assert overtaking <= 2
    result_of(asked).release()
    rig.turn()
    result_of(later).release()
    kept.release()
    rig.end()


def test_when_all_are_busy_slots_are_divided_and_then_left_alone() -> None:
    rig = LimitedPool(6, limit=10)

    def again(lease: Any) -> None:
        rig.clock.callLater(1, lease.release)
        rig.ask(lease.backend.name, timeout=1000).addCallbacks(again, lambda _: None)

    for _ in range(20):
        for name in "abc":
            rig.ask(name, timeout=1000).addCallbacks(again, lambda _: None)
    for _ in range(30):
        rig.turn()
        rig.clock.advance(1)
    assert [rig.open(name) for name in "abc"] == [2, 2, 2]
    before = sum(each.attempts for each in rig.fakes.values())
    for _ in range(30):
        rig.turn()
        rig.clock.advance(1)
    assert sum(each.attempts for each in rig.fakes.values()) == before
    rig.end()


def test_the_idents_of_a_backend_share_what_the_pool_leaves_it() -> None:
    rig = LimitedPool(2, limit=5)
    leases = [rig.lease("a", "x"), rig.lease("a", "y")]
    asked = [rig.ask("a", "z"), rig.ask("b", "z")]
    rig.turn()
    assert is_waiting(asked[0])
    assert is_waiting(asked[1])
    for each in leases:
        each.release()
    rig.turn()
    for request in asked:
        result_of(request).release()
    rig.end()


def test_min_idle_connects_only_within_the_limit_and_displaces_nobody() -> None:
    rig = LimitedPool(4, min_idle=2, idle_timeout=None)
    leases = [rig.lease("a"), rig.lease("b")]
    rig.turn()
    assert rig.open() == 4
    assert rig.retired() == []
    for each in leases:
        each.finished()
    rig.turn()
    assert rig.open() == 4
    rig.end()


def test_a_slot_that_nobody_waits_for_is_used_for_min_idle_elsewhere() -> None:
    rig = LimitedPool(2, min_idle=1, idle_timeout=None)
    lease, asked = rig.lease("a"), rig.ask("b")
    rig.turn()
    other = result_of(asked)
    assert (rig.open("a"), rig.open("b")) == (1, 1)
    rig.pool.drain(rig.backends["b"])
    other.release()
    rig.turn()
    assert (rig.open("a"), rig.open("b")) == (2, 0)
    lease.release()
    rig.end()


def test_a_failed_connect_leaves_its_slot_to_the_next() -> None:
    rig = LimitedPool(1)
    rig.fakes["a"].refuse(after=1, always=True)
    failing, asked = rig.ask("a"), rig.ask("b", timeout=60)
    failing.addErrback(lambda _: None)
    for _ in range(20):
        rig.turn()
        rig.clock.advance(0.5)
    result_of(asked).release()
    rig.end()


def test_a_slot_is_used_for_min_idle_elsewhere_if_the_connect_that_it_was_for_fails_at_once() -> (
    None
):
    rig = LimitedPool(2, min_idle=2, idle_timeout=None, limit=2)
    rig.lease("b").release()
    rig.turn()
    assert rig.open("b") == 2
    rig.fakes["a"].refuse(always=True)
    failing = rig.ask("a")  # one of those makes way for it
    rig.turn()
    failure_of(ConnectFailed, failing)
    assert rig.open("b") == 2
    rig.end()


def test_a_cancelled_waiter_leaves_its_turn_to_the_next() -> None:
    rig = LimitedPool(1)
    lease = rig.lease("a")
    first, second = rig.ask("b"), rig.ask("c")
    first.addErrback(lambda _: None)
    first.cancel()
    lease.release()
    rig.turn()
    assert rig.open("b") == 0
    result_of(second).release()
    rig.end()


def test_what_was_idle_for_a_cancelled_waiter_makes_way() -> None:
    rig = LimitedPool(1)
    rig.lease("a").release()
    rig.pool.pause(rig.backends["a"])
    paused = rig.ask("a")
    paused.addErrback(lambda _: None)
    asked = rig.ask("b")
    rig.turn()
    result_of(asked).release()
    paused.cancel()
    rig.end()


# At run time


def test_a_larger_limit_serves_waiters_at_once() -> None:
    rig = LimitedPool(1)
    rig.lease("a")
    asked = [rig.ask("b"), rig.ask("c")]
    rig.pool.resize_pool(2)
    assert rig.pool.limit == 2
    rig.turn()
    assert [is_waiting(each) for each in asked] == [False, True]
    rig.pool.resize_pool(None)
    rig.turn()
    assert rig.open() == 3
    for each in asked:
        result_of(each).release()
    rig.end()


@pytest.mark.parametrize("limit", [None, 3])
def test_a_larger_limit_lets_all_idents_that_wait_connect_at_once(limit: int | None) -> None:
    rig = LimitedPool(1)
    rig.lease("a", "us").release()
    asked = rig.ask("a", "them")  # its manager is younger, and its turn is first
    rig.turn()
    held = result_of(asked)
    rig.fakes["a"].accept(after=1, always=True)
    waiting = [rig.ask("a", "them"), rig.ask("a", "us")]
    rig.pool.resize_pool(limit)
    rig.clock.advance(1)
    for each in [*map(result_of, waiting), held]:
        each.release()
    rig.end()


@pytest.mark.parametrize("slots", [None, 1])
def test_a_smaller_limit_closes_what_is_idle_longest_and_then_whatever_comes_home(
    slots: int | None,
) -> None:
    rig = LimitedPool(None, slots=slots)
    leases = [rig.lease(name) for name in "abc"]
    for name in "ab":
        idle = rig.lease(name)
        rig.clock.advance(1)
        idle.release()
    rig.pool.resize_pool(4)
    rig.turn()
    assert rig.retired() == [("a", "us", Why.RESIZED)]
    rig.pool.resize_pool(1)
    rig.turn()
    assert (rig.open("a"), rig.open("b"), rig.open("c")) == (1, 1, 1)
    leases[1].release()
    rig.turn()
    leases[2].release()
    rig.turn()
    leases[0].release()
    rig.turn()
    assert (rig.open("a"), rig.open("b"), rig.open("c")) == (1, 0, 0)
    rig.lease("a").release()
    assert rig.fakes["a"].attempts == 2
    rig.end()


def test_another_goes_for_a_smaller_limit_if_one_that_was_to_go_is_detached_with_its_slot() -> None:
    rig = LimitedPool(None, slots=2, idle_timeout=None)
    first, second = rig.lease("a"), rig.lease("a")
    rig.lease("b").release()
    first.finished()  # their connection goes when the second comes home
    rig.pool.resize_pool(1)
    rig.turn()
    assert rig.open() == 2
    protocol = second.detach(keep_slot=True)
    rig.turn()
    assert rig.retired() == [("b", "us", Why.RESIZED)]
    protocol.transport.loseConnection()
    rig.end()


def test_a_smaller_limit_closes_connects_under_way_that_are_too_many() -> None:
    rig = LimitedPool(2)
    rig.fakes["a"].accept(after=1, always=True)
    asked = [rig.ask("a"), rig.ask("a")]
    rig.pool.resize_pool(1)
    rig.turn()
    rig.clock.advance(1)
    rig.turn()
    assert rig.open() == 1
    result_of(asked[0]).release()
    rig.turn()
    result_of(asked[1]).release()
    rig.end()


def test_a_busy_shared_connection_goes_too_when_the_limit_is_lowered() -> None:
    rig = LimitedPool(None, slots=2)
    held = [rig.lease(name) for name in "abcabc"]
    rig.pool.resize_pool(1)
    waiting = []
    for _ in range(12):  # all are always busy
        lease = held.pop(0)
        waiting.append(rig.ask(lease.backend.name or "", timeout=1000))
        lease.release()
        rig.turn()
        held += [result_of(each) for each in waiting if each.called]
        waiting = [each for each in waiting if not each.called]
        if rig.open() == 1:
            break
    assert rig.open() == 1
    for each in waiting:
        each.addErrback(lambda _: None)
        each.cancel()
    for lease in held:
        lease.release()
    rig.end()


@pytest.mark.parametrize("slots", [None, 1])
def test_nothing_makes_way_for_a_request_whose_own_attempt_is_slow(slots: int | None) -> None:
    rig = LimitedPool(2, backends=1, slots=slots, min_idle=1, connect_timeout=None)
    for ident in ("x", "z"):
        asked = rig.ask("a", ident)
        rig.turn()
        result_of(asked).release()  # and one is kept ready from here on
    rig.fakes["a"].never_answer()
    asked = rig.pool.group([rig.backends["a"]]).connect("y", timeout=1.0)
    asked.addErrback(lambda _: None)
    rig.clock.pump([0.2] * 4)
    assert rig.fakes["a"].attempts <= 4
    asked.cancel()


def test_what_is_idle_makes_way_for_who_waits_beside_an_attempt_that_is_never_answered() -> None:
    rig = LimitedPool(2, fail_fast=False)
    rig.lease("b").release()
    rig.fakes["a"].refuse().never_answer()
    left = rig.ask("a", "x")
    rig.clock.advance(0.25)  # after the back-off its second attempt begins
    asked = rig.ask("a", "y")
    rig.clock.pump([0.1] * 16)
    rig.turn()
    assert rig.retired() == [("b", "us", Why.DISPLACED)]
    result_of(asked).release()
    left.addErrback(lambda _: None).cancel()
    rig.end()


@pytest.mark.parametrize("slots", [None, 3])
@pytest.mark.parametrize("idents", ["separate", "replace"])
def test_what_is_only_kept_ready_does_not_come_and_go_while_somebody_waits(
    idents: Any, slots: Any
) -> None:
    rig = LimitedPool(1, backends=2, slots=slots, idents=idents, min_idle=1, fail_fast=False)
    rig.lease("a", "x").release()  # and one is kept ready from here on
    rig.fakes["b"].refuse(after=0.01, always=True)
    group = rig.pool.group([rig.backends["b"], rig.backends["a"]], balance.fill_first)
    asked = group.connect("y", timeout=3.0)
    rig.clock.pump([0.05] * 40)
    assert rig.fakes["a"].attempts <= 10
    asked.addErrback(lambda _: None).cancel()


def test_a_waiter_is_served_in_time_although_its_turn_came_in_a_pause_for_another_backend() -> None:
    """A fault of the machine at one backend pauses all connects, also of who waits for a slot."""
    rig = LimitedPool(2)
    rig.lease("a")
    rig.fakes["c"].refuse(after=1.0, reason=ConnectError(osError=errno.EMFILE))
    asked = rig.ask("c")
    waits = rig.ask("b", timeout=20.0)
    rig.turn()
    asked.addErrback(lambda _: None)
    rig.clock.advance(0.5)
    asked.cancel()
    rig.clock.advance(0.5)
    assert is_waiting(waits)
    rig.clock.pump([0.1] * 10)
    result_of(waits).release()
    rig.end()


def test_the_first_backend_with_room_is_known_whether_or_not_the_pools_limit_binds() -> None:
    rig = LimitedPool(1, limit=1)
    group = rig.pool.group(list(rig.backends.values()), balance.fill_first)
    lease = result_of(group.connect("us"))
    assert balance.fill_first(group.statuses).backend.name == "b"
    rig.pool.resize_pool(None)
    assert balance.fill_first(group.statuses).backend.name == "b"
    lease.release()
    rig.turn()
    rig.end()


@pytest.mark.parametrize("slots", [None, 2])
def test_a_smaller_limit_closes_what_is_idle_though_a_fresh_request_waits(
    slots: int | None,
) -> None:
    rig = LimitedPool(5, slots=slots, limit=4, fail_fast=False, backoff=Backoff(first=60, most=60))
    for each in [rig.lease("a") for _ in range(3 * (slots or 1))]:
        each.release()
    assert rig.open() == 3
    rig.fakes["a"].refuse(always=True)
    asked = rig.ask("a", fresh=True)
    rig.turn()
    rig.pool.resize_pool(1)
    rig.turn()
    assert rig.open() <= 1
    asked.addErrback(lambda _: None).cancel()
    rig.end()


def test_a_backend_that_is_drained_by_who_was_served_first_connects_no_more() -> None:
    rig = LimitedPool(1, limit=5)
    rig.lease("a").finished()
    rig.turn()
    kept = rig.lease("c")
    first = rig.ask("b")
    first.addCallback(lambda lease: (rig.pool.drain(rig.backends["a"]), lease)[1])
    second = rig.ask("a")
    rig.pool.resize_pool(3)
    rig.turn()
    failure_of(Draining, second)
    assert (rig.fakes["a"].attempts, rig.open("a")) == (1, 0)
    for each in (kept, result_of(first)):
        each.release()
    rig.end()


def test_what_is_idle_is_shared_again_as_soon_as_enough_others_are_to_go() -> None:
    rig = LimitedPool(None, slots=2)
    at_a, at_b = [rig.lease("a") for _ in range(4)], rig.lease("b")
    assert (rig.open("a"), rig.open("b")) == (2, 1)
    rig.pool.resize_pool(2)
    at_a.pop(0).release()  # its connection takes no new leases
    at_b.release()
    result_of(rig.ask("b")).release()
    for each in at_a:
        each.release()
    rig.end()


def test_what_is_kept_ready_is_made_when_the_limit_is_lifted_while_others_wait() -> None:
    rig = LimitedPool(2, min_idle=1)
    rig.lease("a")
    other = rig.ask("b")  # what a keeps ready makes way for it
    rig.turn()
    lease, asked = result_of(other), rig.ask("c")
    rig.turn()
    assert is_waiting(asked)
    rig.pool.resize_pool(None)
    rig.turn()
    result_of(asked).release()
    assert [rig.open(name) for name in "ab"] == [2, 2]
    lease.release()
    rig.end()


def test_what_is_made_while_a_request_waits_serves_it_before_it_has_to_make_way() -> None:
    rig = LimitedPool(2)
    rig.lease("b")
    group = rig.pool.group([rig.backends["a"], rig.backends["c"]], lambda statuses: statuses[1])
    rig.lease("a").finished()
    warm = rig.pool.warm(rig.backends["a"], 1, ident="us")
    asked = group.connect("us")
    rig.turn()
    assert rig.fakes["a"].attempts + rig.fakes["c"].attempts <= 3
    result_of(warm)
    result_of(asked).release()
    rig.end()

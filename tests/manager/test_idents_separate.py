"""Rule 22, on a clock: a manager for each ident, and one limit that they share."""

from __future__ import annotations

import errno
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError

from kolus import Closed, ConnectFailed, Draining, Lease, LeaseTimeout
from kolus.backoff import Backoff
from kolus.context import ConnectContext
from kolus.events import Why
from kolus.testing import NotFired, result_of
from tests.rigs.idents import Idents


def note(lease: Lease[Any], served: list[Any]) -> None:
    served.append(lease.ident)
    lease.release()


def test_each_ident_has_a_manager_and_they_share_the_limit() -> None:
    rig = Idents("separate")
    leases = [rig.lease("a"), rig.lease("b")]
    assert leases[0].manager is rig.manager("a")
    assert leases[1].manager is rig.manager("b")
    waiting = [rig.ask("a"), rig.ask("b"), rig.ask("c")]
    rig.turn()
    for each in waiting:
        with pytest.raises(NotFired):
            result_of(each)
    (total,) = rig.pool.status([rig.backend])
    assert (total.idle, total.leased, total.unused, total.waiting, total.limit) == (0, 2, 0, 3, 2)
    served: list[Any] = []
    for each in waiting:
        each.addCallback(note, served)
    for lease in leases:
        lease.release()
    for _ in range(3):
        rig.turn()
    assert sorted(served) == ["a", "b", "c"]
    rig.end()
    assert rig.most == 2


def test_the_oldest_idle_connection_of_a_sibling_makes_way() -> None:
    rig = Idents("separate", limit=3)
    for ident in "abc":
        rig.lease(ident).release()
        rig.clock.advance(1)
    rig.lease("a").release()
    asked = rig.ask("d")
    assert len(rig.open()) == 3
    rig.turn()
    result_of(asked).release()
    assert rig.retired() == [("b", Why.DISPLACED)]
    rig.end()
    assert rig.most == 3


def test_no_connection_makes_way_while_there_is_room() -> None:
    rig = Idents("separate", limit=2)
    rig.lease("a").release()
    rig.lease("b").release()
    assert rig.retired() == []
    assert rig.fake.attempts == 2


def test_a_connection_that_comes_when_its_requester_has_gone_makes_way() -> None:
    rig = Idents("separate", limit=1)
    rig.fake.accept(after=2)
    impatient = rig.ask("a", timeout=1)
    asked = rig.ask("b")
    rig.clock.advance(1)
    impatient.addErrback(lambda _: None)
    rig.clock.advance(1)
    rig.turn()
    result_of(asked).release()
    rig.end()
    assert rig.most == 1


class Demand:
    """Idents that always have as many requests as they want; each lease lasts a second.

    @ivar served: whom the leases went to, in order.
    """

    def __init__(self, rig: Idents) -> None:
        self.served: list[str] = []
        self._rig = rig
        self._asked: Counter[str] = Counter()

    def spin(self, wanted: dict[str, int], rounds: int) -> list[str]:
        """
        @return: whom the leases went to that were given meanwhile.
        """
        before = len(self.served)
        for _ in range(rounds):
            for ident, most in wanted.items():
                for _ in range(most - self._asked[ident]):
                    self._asked[ident] += 1
                    self._rig.ask(ident, timeout=1000).addCallbacks(self._serve, lambda _: None)
            self._rig.clock.advance(1)
            self._rig.turn()
            assert len(self._rig.open()) <= self._rig.pool.policy.limit
        return self.served[before:]

    def _serve(self, lease: Any) -> None:
        self.served.append(lease.ident)
        self._asked[lease.ident] -= 1
        self._rig.clock.callLater(1, lease.release)

    def end(self) -> None:
        """Serve nobody any more."""
        for manager in tuple(self._rig.pool._managers):
            for waiter in tuple(manager.waiting):  # type: ignore[attr-defined]
                waiter.cancel()
        self._rig.clock.pump([1, 0, 0, 1, 0, 0])
        self._rig.end()


@pytest.mark.parametrize("slots", [None, 1, 4])
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_one_waiter_does_not_starve_beside_a_hundred_of_other_idents(
    limit: int, slots: int | None
) -> None:
    rig = Idents("separate", limit=limit, slots=slots, max_waiters=1000, idle_timeout=None)
    demand = Demand(rig)
    served = demand.spin({"a": 100, "b": 100, "c": 1}, 60)
    shares = Counter(served)
    assert min(shares.values()) >= 60 / 3 / 2, shares
    gaps = [place for place, ident in enumerate(served) if ident == "c"]
    longest = max(after - before for before, after in pairwise(gaps))
    assert longest <= 6 * limit * (slots or 1), longest
    demand.end()


@pytest.mark.parametrize("slots", [None, 3])
def test_when_all_are_busy_slots_are_divided_evenly_and_then_left_alone(slots: int | None) -> None:
    rig = Idents("separate", limit=6, slots=slots, max_waiters=1000, lifetime=None)
    demand = Demand(rig)
    demand.spin({"a": 100}, 5)
    demand.spin({"a": 100, "b": 100, "c": 100}, 30)
    sizes = sorted(len(each.connections.all) for each in rig.pool._managers)  # type: ignore[attr-defined]
    assert sizes == [2, 2, 2]
    before = rig.fake.attempts
    served = demand.spin({"a": 100, "b": 100, "c": 100}, 30)
    assert rig.fake.attempts == before
    assert max(Counter(served).values()) - min(Counter(served).values()) <= 6 * (slots or 1)
    demand.end()


def test_a_busy_ident_whose_slots_are_never_all_released_makes_way_too() -> None:
    rig = Idents("separate", limit=1, slots=2)
    first = rig.lease("a")
    asked = rig.ask("b", timeout=1000)
    for _ in range(3):
        second = rig.ask("a", timeout=1000)
        rig.clock.advance(1)
        first.release()
        rig.turn()
        if asked.called:
            break
        first = result_of(second)
    lease = result_of(asked)
    lease.release()
    rig.turn()
    result_of(second).release()
    rig.end()


@pytest.mark.parametrize(("most", "attempts"), [(None, [4, 12, 20]), (2, [2, 4, 6])])
def test_the_slow_start_and_the_most_connects_are_the_backends_whoever_asks(
    most: int | None, attempts: list[int]
) -> None:
    rig = Idents("separate", limit=20, max_connecting=most)
    rig.fake.accept(after=1, always=True)
    asked = [rig.ask(ident, timeout=60) for ident in "abcdefghij" for _ in range(2)]
    for number in attempts:
        assert rig.fake.attempts == number
        rig.clock.advance(1)
    rig.clock.pump([1] * 10)
    for each in asked:
        result_of(each).release()
    rig.end()


def test_a_backend_that_fails_is_left_alone_by_all_idents() -> None:
    rig = Idents("separate", backoff=Backoff(first=8, most=8), fail_fast=False)
    rig.fake.refuse(always=True)
    asked = [rig.ask(ident, timeout=20) for ident in "abc"]
    assert rig.fake.attempts == 1
    rig.clock.advance(1)
    rig.turn()
    assert rig.fake.attempts == 1
    rig.fake.accept(always=True)
    rig.clock.pump([1] * 10)
    for each in asked:
        lease = result_of(each)
        lease.release()
        rig.turn()
    rig.end()


def test_what_one_ident_learns_of_the_backend_fails_the_others_at_once() -> None:
    rig = Idents("separate", backoff=Backoff(first=2, most=2))
    rig.fake.refuse(after=1, always=True)
    asked = [rig.ask(ident) for ident in "abc"]
    rig.clock.advance(1)
    rig.turn()
    assert sum([each.called for each in asked]) == 1  # a first failure fails one request
    rig.clock.advance(1)  # the back-off
    rig.clock.advance(1)
    rig.turn()
    for each in asked:
        with pytest.raises(ConnectFailed):
            result_of(each)
    rig.end()


def test_siblings_that_keep_some_ready_do_not_displace_each_other_for_ever() -> None:
    rig = Idents("separate", limit=2, min_idle=1, idle_timeout=None, lifetime=None)
    for ident in "abc":
        asked = rig.ask(ident)
        rig.turn()
        result_of(asked).release()
        rig.turn()
    before = rig.fake.attempts
    rig.clock.pump([1] * 100)
    assert rig.fake.attempts == before
    assert len(rig.open()) == 2
    rig.end()


def test_a_request_goes_before_what_its_siblings_would_keep_ready() -> None:
    rig = Idents("separate", limit=2, min_idle=1, idle_timeout=None, lifetime=None)
    for ident in "abcdefgh":
        asked = rig.ask(ident)
        rig.turn()
        result_of(asked).release()
        rig.turn()
    rig.end()


def test_resizing_holds_for_all_idents_together() -> None:
    rig = Idents("separate", limit=4)
    leases = [rig.lease(ident) for ident in "aaab"]
    rig.pool.resize(2, rig.backend)
    waiting = [rig.ask("b"), rig.ask("c")]
    for lease in leases:
        lease.release()
        rig.turn()
    for each in waiting:
        rig.turn()
        result_of(each).release()
    rig.turn()
    assert len(rig.open()) <= 2
    rig.pool.resize(4, rig.backend)
    held = [rig.lease(ident) for ident in "abcd"]
    assert len(rig.open()) == 4
    for lease in held:
        lease.release()
    rig.end()


@pytest.mark.parametrize("slots", [None, 3])
def test_a_manager_that_nobody_uses_goes_away_and_leaves_the_account(slots: int | None) -> None:
    rig = Idents("separate", slots=slots, idle_timeout=5, manager_idle_timeout=10)
    rig.lease("a").release()
    for _ in range(20):
        rig.lease("b").release()
        rig.clock.advance(1)
    rig.turn()
    assert [each.ident for each in rig.pool.status()] == ["b"]
    (record,) = rig.pool._managers.records
    assert len(record.members) == 1
    rig.lease("a").release()
    rig.end()


def test_draining_a_backend_drains_every_ident_and_refuses_new_ones() -> None:
    rig = Idents("separate", limit=4)
    leases = [rig.lease("a"), rig.lease("b")]
    drained = rig.pool.drain(rig.backend)
    for ident in "abc":
        with pytest.raises(Draining):
            result_of(rig.ask(ident))
    leases[0].release()
    rig.turn()
    for ident in "abc":
        with pytest.raises(Draining):
            result_of(rig.ask(ident))
    leases[1].release()
    rig.turn()
    result_of(drained)
    rig.lease("c").release()
    rig.end()


@pytest.mark.parametrize("ending", ["close", "drain"])
def test_the_end_of_one_manager_serves_no_other_that_ends_with_it(ending: str) -> None:
    rig = Idents("separate", limit=1)
    rig.fake.never_answer()
    asked = [rig.ask("a"), rig.ask("b")]
    ended = rig.pool.close(10) if ending == "close" else rig.pool.drain(rig.backend)
    for each in asked:
        with pytest.raises((Closed, Draining)):
            result_of(each)
    rig.turn()
    result_of(ended)
    assert rig.fake.attempts == 1
    rig.end()


def test_it_is_explained_that_others_hold_the_limit() -> None:
    rig = Idents("separate", limit=2)
    leases = [rig.lease("a"), rig.lease("a")]
    asked = rig.ask("b")
    why = {each.status.ident: each.why for each in rig.pool.explain().managers}
    assert why["b"] == (
        "the limit is shared: other idents of the backend hold 2 of its 2 connections"
    )
    leases[0].release()
    rig.turn()
    result_of(asked).release()
    leases[1].release()
    rig.end()


def test_what_is_idle_for_one_who_gives_up_makes_way() -> None:
    never: list[Deferred[object]] = []

    def check(protocol: object) -> Deferred[object]:
        never.append(Deferred())
        return never[-1]

    rig = Idents("separate", check=check, check_after=1.0, check_timeout=None)
    held = [rig.lease("a"), rig.lease("a")]
    for each in held:
        each.release()
    rig.clock.advance(2)
    impatient, asked = rig.ask("a"), rig.ask("b")
    rig.turn()
    assert len(never) == 1  # and the other one is idle
    impatient.addErrback(lambda _: None)
    impatient.cancel()
    rig.turn()
    result_of(asked).release()
    assert rig.retired() == [("a", Why.DISPLACED)]
    rig.end()
    assert rig.most == 2


def test_above_a_limit_that_was_lowered_as_many_make_way_as_are_needed() -> None:
    rig = Idents("separate", limit=3)
    kept, *others = [rig.lease("a") for _ in range(3)]
    rig.pool.resize(2)
    for lease in others:
        lease.release()
    asked = rig.ask("b")
    assert len(rig.manager("a").connections.closing) == 2  # type: ignore[attr-defined]
    rig.turn()
    result_of(asked).release()
    assert rig.retired() == [("a", Why.RESIZED), ("a", Why.DISPLACED)]
    kept.release()
    rig.end()


def test_one_who_may_not_try_again_does_when_a_sibling_has_succeeded() -> None:
    rig = Idents("separate", limit=3, backoff=None)
    held = rig.lease("a")
    rig.fake.refuse()
    asked = rig.ask("a")
    rig.turn()
    with pytest.raises(NotFired):
        result_of(asked)
    assert rig.fake.attempts == 2
    rig.lease("b").release()
    rig.turn()
    result_of(asked).release()
    held.release()
    rig.end()


def test_who_lacked_something_here_tries_again_when_a_siblings_attempt_has_failed() -> None:
    rig = Idents("separate", backoff=None, acquire_timeout=None)
    rig.fake.refuse(after=1)
    rig.ask("b", timeout=0.5).addErrback(lambda failure: failure.trap(LeaseTimeout))
    rig.fake.refuse(reason=ConnectError(errno.ENOBUFS, "No buffer space available"))
    asked = rig.ask("a")
    rig.clock.pump([0.1] * 11)
    result_of(asked).release()
    rig.end()


def test_a_siblings_success_allows_the_next_attempt_even_if_another_fails_meanwhile() -> None:
    rig = Idents("separate", limit=3, backoff=None, connect_timeout=1, acquire_timeout=None)
    last = rig.lease("a")
    rig.fake.refuse()
    asked = rig.ask("a")
    rig.turn()
    rig.fake.accept()
    rig.fake.accept(after=20, always=True)
    held = rig.lease("b")
    last.finished()
    rig.ask("c", timeout=0.5).addErrback(lambda failure: failure.trap(LeaseTimeout))
    rig.turn()
    rig.pool.resize(2, rig.backend)
    assert [rig.manager(each).status().connecting for each in "ac"] == [0, 1]
    rig.fake.accept(always=True)
    rig.clock.pump([0.1] * 11)
    for each in (result_of(asked), held):
        each.release()
    rig.end()


@pytest.mark.parametrize("useless", ["prepare", "check"])
def test_a_siblings_success_is_no_reason_to_repeat_connects_that_are_of_no_use(
    useless: str,
) -> None:
    failing: list[str] = []

    def prepare(protocol: Any, context: ConnectContext) -> bool:
        return not (context.ident == "a" and useless in failing)

    def check(protocol: Any) -> bool:
        return useless not in failing

    hooks = {"prepare": prepare} if useless == "prepare" else {"check": check, "check_after": 0}
    rig = Idents("separate", backoff=None, **hooks)
    held = rig.lease("a")
    failing.append(useless)
    rig.fake.accept(after=0.01, always=True)
    asked = rig.ask("a")
    warmed = rig.pool.warm(rig.backend, 2, ident="b")
    warmed.addErrback(lambda failure: failure.trap(LeaseTimeout))
    rig.clock.pump([0.01] * 100)
    assert rig.fake.attempts == 3
    failing.clear()
    held.release()
    rig.turn()
    result_of(asked).release()
    rig.clock.advance(60)
    rig.end()


def test_idents_that_share_a_backend_that_accepts_and_ends_do_not_connect_in_a_loop() -> None:
    rig = Idents("separate", limit=4, min_idle=1, idle_timeout=None, lifetime=None)
    for ident in "ab":
        rig.lease(ident).finished()
    rig.fake.accept(after=0.02, always=True)
    for _ in range(1000):
        rig.clock.advance(0.01)
        for connection in rig.fake.connections:
            connection.reset()
    assert rig.fake.attempts < 30
    rig.end()

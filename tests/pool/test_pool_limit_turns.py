"""C{Pool(limit=...)}: a slot of the pool is for requests first, and for one that can take it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from kolus.balance import fill_first
from kolus.testing import FakeBackend, result_of
from tests.rigs.pool_limits import LimitedPool, is_waiting

_MOST_ATTEMPTS = 50
_MOST_READS = 2000


class Rig(LimitedPool):
    """One whose attempts to connect are counted."""

    def __init__(self, limit: int, /, **policy: Any) -> None:
        super().__init__(limit, **policy)
        for fake in self.fakes.values():
            self._count(fake)

    def _count(self, fake: FakeBackend) -> None:
        connect = fake.connect

        def counted(factory: Any) -> Deferred[Any]:
            assert fake.attempts < _MOST_ATTEMPTS, "it connects again and again"
            return connect(factory)

        fake.connect = counted  # type: ignore[method-assign]

    def count_reads(self) -> None:
        """Count how often the time is read. Each offer of a slot reads it."""
        seconds, reads = self.clock.seconds, itertools.count()

        def counted() -> float:
            assert next(reads) < _MOST_READS, "it offers the slot again and again"
            return seconds()

        self.clock.seconds = counted  # type: ignore[method-assign]

    def attempts(self) -> int:
        return sum(fake.attempts for fake in self.fakes.values())

    def ask_group(self, names: str, ident: str = "us", **options: Any) -> Deferred[Any]:
        backends = [self.backends[name] for name in names]
        return self.pool.group(backends, fill_first).connect(ident, **options)


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("slots", [None, 3])
def test_what_is_warmed_leaves_a_slot_of_the_pool_to_the_request_of_a_group(
    slots: int | None, fresh: bool
) -> None:
    rig = Rig(1, limit=1, slots=slots)
    lease = rig.lease("c", "them")
    asked = rig.ask_group("abc", fresh=fresh)
    warmed = rig.pool.warm(rig.backends["c"], 1, ident="us")
    rig.turn()
    lease.release()
    rig.turn()
    result_of(asked).release()
    rig.turn()
    assert result_of(warmed) is None
    assert rig.attempts() <= 4
    rig.end()


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("slots", [None, 2])
def test_a_request_that_turns_to_another_backend_does_not_lose_its_slot_to_what_is_kept_ready(
    slots: int | None, fresh: bool
) -> None:
    rig = Rig(2, min_idle=2, slots=slots)
    rig.fakes["a"].never_answer(always=True)
    lease = rig.lease("c", "them")
    asked = rig.ask_group("ab", fresh=fresh)
    rig.clock.pump([0.1] * 4)
    assert is_waiting(asked)  # it waits for a slot beside its attempt, which is slow
    lease.finished()
    rig.turn()
    served = result_of(asked)
    assert str(served.backend) == "b"
    served.release()
    rig.end()


@pytest.mark.parametrize("min_idle", [0, 1])
@pytest.mark.parametrize("slots", [None, 1])
@pytest.mark.parametrize("is_early", [False, True])
def test_nothing_makes_way_for_a_request_at_a_backend_that_is_paused(
    slots: int | None, min_idle: int, is_early: bool
) -> None:
    rig = Rig(2, limit=1, min_idle=min_idle, slots=slots)
    lease, other = rig.lease("a"), rig.lease("c", "them")
    if is_early:
        rig.pool.pause(rig.backends["b"])
    asked = rig.ask_group("ab")
    rig.pool.pause(rig.backends["b"])
    other.release()
    rig.turn()
    assert is_waiting(asked)
    assert rig.retired() == []
    rig.pool.resume(rig.backends["b"])
    rig.turn()
    served = result_of(asked)
    assert str(served.backend) == "b"
    for each in (lease, served):
        each.release()
    rig.end()


def ask_where_one_is_slow(rig: Rig, fresh: bool) -> tuple[Any, Deferred[Any]]:
    """Ask a group of C{a}, which is chosen and does not answer, and C{b}, which has no room.

    @return: the group, and a request to it. Another, which waited for room at C{b}, was cancelled.
    """
    rig.fakes["a"].never_answer(always=True)
    group = rig.pool.group([rig.backends[name] for name in "ab"], lambda statuses: statuses[0])
    first, given_up = [group.connect("us", fresh=fresh) for _ in range(2)]
    given_up.addErrback(lambda _: None).cancel()
    return group, first


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("slots", [None, 1])
def test_a_request_takes_at_once_a_slot_that_the_pool_got_while_nobody_lacked_one(
    slots: int | None, fresh: bool
) -> None:
    rig = Rig(2, limit=1, slots=slots)
    taken = rig.lease("c")
    group, first = ask_where_one_is_slow(rig, fresh)
    taken.finished()
    rig.turn()
    second = group.connect("us", fresh=fresh)
    second.addCallbacks(lambda lease: lease.release(), lambda _: None)
    rig.turn()
    served = result_of(first)  # which is the oldest, and gets what was made for the second
    assert str(served.backend) == "b"
    served.release()
    second.cancel()
    rig.end()


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("slots", [None, 1])
def test_a_request_gets_a_slot_of_the_pool_at_a_backend_that_was_full_when_it_was_looked_at(
    slots: int | None, fresh: bool
) -> None:
    rig = Rig(3, limit=1, slots=slots)
    own, taken = rig.lease("b", "them"), rig.lease("c")
    group, first = ask_where_one_is_slow(rig, fresh)
    rig.pool.resize(2, rig.backends["b"])
    second = group.connect("us", fresh=fresh)
    second.addCallbacks(lambda lease: lease.release(), lambda _: None)
    taken.finished()
    rig.turn()
    served = result_of(first)
    assert str(served.backend) == "b"
    served.release()
    own.release()
    second.cancel()
    rig.end()


@pytest.mark.parametrize("slots", [None, 1])
def test_a_slot_is_not_offered_for_ever_to_two_backends_that_take_none(slots: int | None) -> None:
    rig = Rig(2, idents="reject", limit=4, slots=slots)
    rig.fakes["a"].never_answer(always=True)
    begun = rig.ask("a", "them")
    taken, own = rig.lease("c"), rig.ask("b")
    theirs = rig.ask_group("abc", "them")  # waits for room at "b" and "c", too
    begun.addErrback(lambda _: None).cancel()
    ours = [rig.ask_group("abc") for _ in range(2)]
    rig.count_reads()
    rig.pool.resize_pool(4)  # "c" decides, then "b" for an older waiter, which connects at once
    rig.turn()
    assert rig.open() == 3  # and an attempt at "a" is under way
    for each in (taken, result_of(own), result_of(ours[0])):
        each.release()
    rig.turn()
    result_of(ours[1]).release()
    theirs.addErrback(lambda _: None).cancel()
    rig.end()


@pytest.mark.parametrize("limit", [4, 5, 8])
@pytest.mark.parametrize("slots", [None, 1])
@pytest.mark.parametrize("order", ["abc", "acb", "cab"])
def test_a_backend_whose_last_slot_goes_while_the_pools_is_granted_takes_no_more(
    limit: int, slots: int | None, order: str
) -> None:
    plan = {"a": ("abc", "us"), "b": ("abc", "us"), "c": ("cab", "them")}
    rig = Rig(limit, limit=2, slots=slots)
    rig.pool.pause()
    asked = [rig.ask_group(*plan[each]) for each in order]
    rig.pool.resume()
    assert max(map(rig.open, rig.fakes)) <= 2
    for each in asked:
        result_of(each).release()
    rig.end()


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("slots", [None, 1])
def test_what_was_made_for_a_request_that_is_placed_elsewhere_does_not_make_way_for_it(
    slots: int | None, fresh: bool
) -> None:
    checks: list[Deferred[bool]] = []

    def check(_: object) -> Deferred[bool]:
        checks.append(Deferred())
        return checks[-1]

    rig = Rig(2, limit=2, slots=slots, check=check, check_after=1)
    result_of(rig.ask("a")).release()
    rig.clock.advance(1)
    rig.ask("a").addErrback(lambda _: None).cancel()  # its check goes on
    ending = rig.lease("b")
    warmed = rig.pool.warm(rig.backends["b"], 2, ident="us")
    asked = rig.ask_group("ab", fresh=fresh)  # placed at "a", for the connection in the check
    ending.finished()  # "b" connects for it, and wants one more for the call of warm
    rig.turn()
    served = result_of(asked)
    assert (str(served.backend), rig.attempts()) == ("b", 3)
    checks[0].callback(True)
    rig.turn()
    assert result_of(warmed) is None  # what was in the check has made way
    assert rig.attempts() == 4
    served.release()
    rig.end()

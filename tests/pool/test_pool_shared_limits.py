"""C{Pool.share_limits}: a pool takes the place of another, and both keep the limits together."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kolus import Backend, Lease, Policy, Pool
from kolus.testing import FakeBackend, result_of
from tests.rigs.sharing import Hears


class Two:
    """Two pools with the same backends, which share their limits.

    @ivar used: the connections of one of them before that.
    """

    def __init__(
        self, limit: int = 2, over_all: int | None = None, used: int = 0, min_idle: int = 0
    ) -> None:
        self.clock = Clock()
        self.fakes = [FakeBackend(self.clock) for _ in "ab"]
        self.backends = [
            Backend(each, name=name) for each, name in zip(self.fakes, "ab", strict=True)
        ]
        policy = Policy(limit=limit, lifetime=None, acquire_timeout=60, min_idle=min_idle)
        self.old, self.new = [
            Pool[Any](self.clock, Hears, policy=policy, limit=over_all) for _ in range(2)
        ]
        self.held = [result_of(self.ask(self.old)) for _ in range(used)]
        self.new.share_limits(self.old)

    def ask(self, pool: Pool[Any], backend: int = 0) -> Deferred[Lease[Any]]:
        return pool.connect("us", self.backends[backend])

    @property
    def open(self) -> list[int]:
        return [len(each.connections) for each in self.fakes]

    def turn(self) -> None:
        for _ in range(4):
            self.clock.advance(0)

    def end(self) -> None:
        for each in (self.old, self.new):
            closed = each.close(0)
            self.turn()
            assert result_of(closed) is None
        assert self.clock.getDelayedCalls() == []


def test_what_one_has_counts_at_the_other_from_before_and_from_then_on() -> None:
    rig = Two(used=1)
    rig.held.append(result_of(rig.ask(rig.new)))
    asked = [rig.ask(rig.new), rig.ask(rig.old)]
    rig.turn()
    assert not any(each.called for each in asked)
    assert rig.open == [2, 0]
    for pool in (rig.old, rig.new):
        (status,) = pool.status(rig.backends[:1])
        assert (status.leased, status.unused, status.detached) == (1, 0, 1)
    for each in asked:
        each.addErrback(lambda _: None)
    rig.end()


def test_the_limit_over_all_backends_counts_both() -> None:
    rig = Two(over_all=3, used=2)
    lease = result_of(rig.ask(rig.new, 1))
    asked = rig.ask(rig.new, 1)
    rig.turn()
    assert not asked.called
    rig.held[0].finished()
    rig.turn()
    assert result_of(asked).backend == lease.backend
    assert rig.open == [1, 2]
    rig.end()


def test_a_slot_is_for_those_who_wait_in_the_same_pool_first() -> None:
    rig = Two(used=2)
    newer, older = rig.ask(rig.new), rig.ask(rig.old)
    rig.held[0].finished()
    rig.turn()
    assert (older.called, newer.called) == (True, False)
    rig.held[1].finished()
    rig.turn()
    assert newer.called
    assert rig.open == [2, 0]
    rig.end()


def test_nothing_of_a_pool_counts_once_it_is_closed() -> None:
    rig = Two(used=2)
    asked = [rig.ask(rig.new), rig.ask(rig.new)]
    closed = rig.old.close(5)
    rig.clock.pump([1] * 6)
    assert result_of(closed) is None
    assert [each.called for each in asked] == [True, True]
    for each in asked:
        result_of(each).finished()
    rig.turn()
    (status,) = rig.new.status(rig.backends[:1])
    assert (status.unused, status.detached) == (2, 0)
    assert rig.old.status() == []
    rig.end()


def test_two_pools_share_once_and_none_with_itself() -> None:
    rig = Two(over_all=2)
    rig.new.share_limits(rig.old)
    rig.old.share_limits(rig.new)
    with pytest.raises(ValueError, match="not with itself"):
        rig.old.share_limits(rig.old)
    result_of(rig.ask(rig.old)).finished()
    rig.turn()
    leases = [result_of(rig.ask(rig.new, backend)) for backend in (0, 1)]
    assert {each.backend for each in leases} == set(rig.backends)
    rig.end()


@pytest.mark.parametrize("over_all", [None, 2])
def test_what_is_idle_in_one_makes_way_for_who_waits_in_the_other(over_all: int | None) -> None:
    rig = Two(limit=2 if over_all is None else 5, over_all=over_all, used=2)
    for each in rig.held:
        each.release()
    asked = rig.ask(rig.new, 0 if over_all is None else 1)
    rig.turn()
    assert result_of(asked).held
    assert sum(rig.open) == 2  # one made way, no more
    rig.end()


@pytest.mark.parametrize("over_all", [None, 2])
def test_what_becomes_idle_in_one_makes_way_soon(over_all: int | None) -> None:
    rig = Two(limit=2 if over_all is None else 5, over_all=over_all, used=2)
    asked = rig.ask(rig.new)
    rig.turn()
    rig.held.pop().release()
    rig.clock.advance(0.2)
    rig.turn()
    assert result_of(asked).held
    assert sum(rig.open) == 2
    rig.end()


def test_what_somebody_waits_for_in_its_own_pool_does_not_make_way() -> None:
    rig = Two(used=2)
    own, others = rig.ask(rig.old), rig.ask(rig.new)
    for _ in range(5):
        rig.clock.advance(0.1)
    rig.held.pop().release()
    for _ in range(5):
        rig.clock.advance(0.1)
    assert result_of(own).held
    assert not others.called
    others.addErrback(lambda _: None)
    rig.end()


def test_what_one_keeps_ready_does_not_make_way_and_is_not_made_again_and_again() -> None:
    rig = Two(used=2, min_idle=1)
    others = rig.ask(rig.new)
    rig.held.pop().release()
    for _ in range(5):
        rig.clock.advance(0.1)
    assert not others.called
    assert len(rig.fakes[0].accepted) == 2
    others.addErrback(lambda _: None)
    rig.end()


@pytest.mark.parametrize("is_idle", [False, True])
def test_what_is_idle_makes_way_for_a_limit_that_only_the_other_pool_has(is_idle: bool) -> None:
    rig = Two(limit=5, used=2)
    if is_idle:
        rig.held.pop().release()
    rig.new.resize_pool(2)
    asked = rig.ask(rig.new, 1)
    rig.turn()
    if not is_idle:
        assert not asked.called
        rig.held.pop().release()
    rig.clock.advance(0.2)
    rig.turn()
    assert result_of(asked).held
    assert rig.open == [1, 1]
    rig.end()


def test_what_is_idle_longest_and_kept_ready_does_not_keep_what_is_spare() -> None:
    rig = Two(limit=5, over_all=3, min_idle=1)
    result_of(rig.ask(rig.old)).finished()
    rig.clock.advance(1)
    lease = result_of(rig.ask(rig.old, 1))
    rig.turn()
    lease.release()
    assert rig.open == [1, 2]
    asked = rig.ask(rig.new)
    for _ in range(5):
        rig.clock.advance(0.1)
    assert result_of(asked).held
    assert rig.open == [2, 1]
    rig.end()

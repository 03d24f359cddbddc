"""C{SlotQueue}: which backend gets the next slot of a pool, and what it costs to find out."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, Policy, Pool
from kolus.balance import pick_two
from kolus.manager import BackendRecord
from kolus.manager.backend.room import Room
from kolus.manager.backend.slot_queue import SlotQueue
from kolus.testing import FakeBackend, result_of


class FakeAsker:
    """Somebody who asks for a slot, with the number of the first waiter."""

    def __init__(self, order: float) -> None:
        self.order = order

    def first_order(self) -> float:
        return self.order


class Place:
    """A backend, with those who ask there now. It is its own C{turns}."""

    def __init__(self, *askers: FakeAsker) -> None:
        self.now = askers
        self.turns = self

    def askers(self) -> tuple[FakeAsker, ...]:
        return self.now


def backend(*askers: FakeAsker) -> Any:
    return Place(*askers)


class Thing:
    """Whatever a test needs, and a key."""

    def __init__(self, **its: Any) -> None:
        self.__dict__.update(its)


def slot_queue(*backends: Any) -> SlotQueue:
    made = SlotQueue(lambda each: made.set(each, each.turns.askers()))  # type: ignore[attr-defined]
    for each in backends:
        made.set(each, each.turns.askers())
    return made


def test_the_backend_whose_next_waiter_arrived_first_is_the_first() -> None:
    late, early = backend(FakeAsker(2)), backend(FakeAsker(1))
    assert slot_queue(late, early).first() == (early, 1)


def test_of_those_who_ask_at_a_backend_the_oldest_waiter_counts() -> None:
    manager, queue, other = FakeAsker(3), FakeAsker(1), FakeAsker(2)
    both, alone = backend(manager, queue), backend(other)
    found = slot_queue(both, alone)
    assert found.first() == (both, 1)
    queue.order = 4
    assert found.first() == (alone, 2)
    other.order = 5
    assert found.first() == (both, 3)


def test_a_backend_where_nobody_asks_any_more_is_not_wanting() -> None:
    first, second = backend(FakeAsker(1)), backend(FakeAsker(2))
    found = slot_queue(first, second)
    first.now = ()
    assert found.first() == (second, 2)
    assert list(found.wanting) == [second]


def test_a_backend_where_another_asks_now_has_the_turn_of_that_one() -> None:
    first, second, later = backend(FakeAsker(1)), backend(FakeAsker(2)), FakeAsker(3)
    found = slot_queue(first, second)
    first.now = (later,)
    assert found.first() == (second, 2)
    found.discard(second)
    assert found.first() == (first, 3)
    assert found.wanting == {first: (later,)}


def test_who_asks_and_has_no_waiter_comes_last() -> None:
    gone, waits = FakeAsker(1), FakeAsker(2)
    empty, other = backend(gone), backend(waits)
    found = slot_queue(empty, other)
    gone.order = math.inf
    assert found.first() == (other, 2)


def test_a_waiter_that_arrived_earlier_is_noted_when_told() -> None:
    asker, other = FakeAsker(3), FakeAsker(2)
    first, second = backend(asker), backend(other)
    found = slot_queue(first, second)
    asker.order = 1
    found.set(first, first.turns.askers())
    assert found.first() == (first, 1)


def test_nothing_is_kept_of_those_that_are_removed() -> None:
    first, second = backend(FakeAsker(1)), backend(FakeAsker(2))
    found = slot_queue(first, second)
    found.discard(first)
    found.discard(first)
    found.set(second, ())
    assert (found.first(), dict(found.wanting), found._at, found._askers.ranks) == (
        None,
        {},
        {},
        {},
    )


def test_a_queue_that_waits_outside_and_at_a_manager_asks_once() -> None:
    clock = Clock()
    record = BackendRecord(1, 2, Backend(FakeBackend(clock)), clock)
    queue: Any = Thing(wants_room_at=lambda backend: True)
    manager: Any = Thing(placements=Thing(wait_for_room={queue: None}))
    openings: Any = Thing(short=lambda: [queue])
    record.turns.outside[openings] = None
    record.turns.awaited[manager] = None
    assert record.turns.askers() == (queue,)


@pytest.mark.parametrize("own_limit", [1, 2])
def test_a_group_of_more_backends_is_not_looked_at_more_often_under_a_pools_limit(
    own_limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = [_looks(monkeypatch, number, own_limit) for number in (10, 100)]
    assert 0 < max(many) <= max(few)


def _looks(monkeypatch: pytest.MonkeyPatch, number: int, own_limit: int) -> list[int]:
    """How often each hand-off and wait at a group look at a backend, where a pool's limit binds."""
    looks = 0
    look = Room.has_own

    def has_own(room: Room) -> bool:
        nonlocal looks
        looks += 1
        return look(room)

    clock = Clock()
    backends = [Backend(FakeBackend(clock), name=f"b{at}") for at in range(number)]
    policy = Policy(limit=own_limit, lifetime=None, idle_timeout=None, acquire_timeout=None)
    pool: Pool[Protocol] = Pool(clock, Protocol, policy=policy, limit=number // 2)
    leases = [result_of(pool.connect("us", each)) for each in backends[: number // 2]]
    group = pool.group(backends, balancer=pick_two(random.Random(7)))
    waiting = [group.connect("us") for _ in range(2 * number)]
    found = []
    monkeypatch.setattr(Room, "has_own", has_own)
    for _ in range(4):
        looks = 0
        leases.pop(0).release()
        leases.append(result_of(waiting.pop(0)))
        waiting.append(group.connect("us"))
        found.append(looks)
    monkeypatch.undo()
    for each in waiting:
        each.addErrback(lambda failure: failure.trap(CancelledError))
        each.cancel()
    return found

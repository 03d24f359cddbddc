"""C{IdleOrder}: which idle connection is next, and which is the oldest, however many have left."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from kolus import Policy
from kolus.connection.state import IDLE, LEASED
from kolus.manager.connections.idle_order import IdleOrder


class Idle:
    """Stands in for a connection."""

    def __init__(self, since: float) -> None:
        self.state = IDLE
        self.since = since
        self.uses = 0


POLICIES = {
    "lifo": Policy(),
    "fifo": Policy(reuse="fifo"),
    "keepalive": Policy(keepalive=10.0, check=repr),
}


@pytest.mark.parametrize("name", POLICIES)
def test_the_next_the_oldest_and_the_new_are_known_whoever_leaves(name: str) -> None:
    order: Any = IdleOrder(POLICIES[name])
    rng, idle = Random(7), list[Idle]()  # the oldest first
    for number in range(20_000):
        chance = rng.random()
        if chance < 0.45 or (number < 3_000 and chance < 0.7):
            each = Idle(number)
            idle.append(each)
            order.all[each] = None
            order.note_new(each)
        elif chance < 0.6 and idle:  # a lease and a release
            each, _ = order.all.popitem()
            each.uses, each.since = 1, number
            idle.remove(each)
            idle.append(each)
            order.all[each] = None
        elif chance < 0.9 and idle:
            each = idle.pop(0)
            each.state = LEASED
            order.leave(each)
        elif idle:
            order.remove(idle.pop(rng.randrange(len(idle))))
        if idle:
            assert order.oldest() is idle[0]
            assert order.freshest() is idle[-1]
            assert order.next() is idle[0 if name == "fifo" else -1]
            assert order.oldest_since() == idle[0].since
        if number % 100 == 0:
            assert list(order.all) == idle
            assert list(order.new(idle[:3])) == [each for each in idle[3:] if not each.uses]


def test_what_was_leased_is_new_no_more() -> None:
    order: Any = IdleOrder(Policy())
    first, second = Idle(1), Idle(2)
    for each in (first, second):
        order.all[each] = None
        order.note_new(each)
    assert list(order.new()) == [first, second]
    first.state = LEASED
    assert list(order.new()) == [second]
    first.state = IDLE
    first.uses = 1
    assert list(order.new()) == [second]
    order.leave(second)
    assert order.oldest() is first


def test_what_is_taken_out_may_be_put_back_as_the_next() -> None:
    for policy in POLICIES.values():
        order: Any = IdleOrder(policy)
        for since in (1, 2, 3):
            order.all[Idle(since)] = None
        before = list(order.all)
        each, _ = order.all.popitem()
        order.put_back(each)
        assert list(order.all) == before
        assert order.next() is each

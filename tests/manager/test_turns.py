"""C{Turns}: which of several managers that share a limit connects next."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock

from kolus import Backend
from kolus.manager import BackendRecord
from kolus.testing import FakeBackend


class FakeManager:
    """A manager that wants a connection, and counts how often it is told to look again."""

    ident = "us"

    def __init__(self, waiting: int) -> None:
        self.waiting = range(waiting)
        self.told = self.asked = 0
        self.ended = False
        self.connections: Any = SimpleNamespace(
            all=set(),
            connecting=set(),
            closing={},
            order=SimpleNamespace(oldest_since=lambda: math.inf),
        )
        self.waiters = SimpleNamespace(is_short=self.is_asked)

    def serves(self) -> bool:
        return not self.ended

    def demand(self) -> int:
        return len(self.waiting)

    def is_asked(self) -> bool:
        return self.demand() > 0

    def wants_connection(self) -> bool:
        self.asked += 1
        return True

    def connections_changed(self) -> None:
        self.told += 1


def shared(*members: Any) -> BackendRecord:
    clock = Clock()
    record = BackendRecord(1, 2, Backend(FakeBackend(clock)), clock)
    for each in members:
        record.join(each)
    return record


def test_who_asks_out_of_turn_is_refused_and_whose_turn_it_is_is_told() -> None:
    first, second = FakeManager(waiting=1), FakeManager(waiting=1)
    record = shared(first, second)
    record.turns.want(first)
    assert not record.turns.grant(second)
    assert (first.told, second.told) == (1, 0)
    assert record.turns.grant(first)
    assert list(record.turns.wanting) == [second]


def test_a_manager_that_ends_while_others_are_offered_its_slot_waits_for_none() -> None:
    member = FakeManager(waiting=1)
    record: Any = shared(member)

    def offer(*_: object) -> bool:
        member.ended = True
        return False

    record.budget.grants = offer
    assert not record.turns.grant(member)
    assert list(record.turns.wanting) == []


def test_where_somebody_waits_comes_before_where_nobody_does() -> None:
    ahead, waiting = FakeManager(waiting=0), FakeManager(waiting=1)
    record = shared(ahead, waiting)
    record.turns.want(ahead)
    assert record.turns.grant(waiting)


def test_where_all_have_one_connection_none_is_asked_whether_it_claims_what_comes_home() -> None:
    members = [FakeManager(waiting=1) for _ in range(100)]
    record = shared(*members)
    for each in members:
        each.connections.all.add(object())
        record.all |= each.connections.all
        record.turns.want(each)
    assert not record.turns.claims(members[0])
    assert sum(each.asked for each in members) == 0


def test_who_has_lost_its_only_connection_claims_what_comes_home_to_another() -> None:
    members = [FakeManager(waiting=1) for _ in range(3)]
    record = shared(*members)
    record.all.add(object())
    for each in members:
        each.connections.all.add(object())
        record.turns.want(each)
    members[2].connections.all.clear()
    record.turns.recount(members[2])
    assert record.turns.claims(members[0])
    assert next(record.turns._claimants()) is members[2]

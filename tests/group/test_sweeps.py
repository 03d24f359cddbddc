"""A group that lacks room looks at all its backends now and then, and at little cost."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, Policy, Pool
from kolus.group.room_finder import RoomFinder
from kolus.testing import FakeBackend, result_of

BACKENDS, STEPS, STEP = 50, 24, 0.5


def looks_of(groups: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often groups of the same backends, all of them leased, look whether one has room."""
    clock, looks = Clock(), 0
    policy = Policy(limit=1, acquire_timeout=None, idle_timeout=None, lifetime=None)
    pool: Pool[Protocol] = Pool(clock, Protocol, policy=policy)
    backends = [Backend(FakeBackend(clock), name=f"b{at}") for at in range(BACKENDS)]
    held = [result_of(pool.connect("us", each)) for each in backends]
    made = [pool.group(backends) for _ in range(groups)]
    waiting: list[Deferred[Any]] = [each.connect("us") for each in made]
    look = RoomFinder.has_room

    def has_room(finder: RoomFinder, backend: Backend) -> bool:
        nonlocal looks
        looks += 1
        return look(finder, backend)

    with monkeypatch.context() as patch:
        patch.setattr(RoomFinder, "has_room", has_room)
        for _ in range(STEPS):
            clock.advance(STEP)
            for each in made:  # looks for room
                asked = each.connect("us").addErrback(lambda failure: None)
                asked.cancel()
    assert not any(each.called for each in waiting)
    held.pop().release()
    assert sum(each.called for each in waiting) == 1
    return looks - STEPS * groups  # each request looks at the backend that was chosen


def test_all_groups_together_look_for_room_as_seldom_as_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few, many = looks_of(20, monkeypatch), looks_of(60, monkeypatch)
    assert 0 < many <= 1.5 * few

"""What one queue of a group learns about room, the others know."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import pytest

from kolus import Backend, Lease
from kolus.group.room_finder import RoomFinder
from kolus.testing import result_of
from tests.rigs.groups import Grouped, Sourced

Ask = Callable[[Grouped, int], Any]


def full(count: int) -> tuple[Grouped, list[Lease[Any]]]:
    """A group whose backends one ident has all leased, and what it has."""
    rig = Grouped(count, idents="separate", acquire_timeout=None)
    return rig, [result_of(rig.pool.connect("them", each)) for each in rig.backends]


def looks_of_another(count: int, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many backends of so many a request looks at, after another of its kind."""
    rig, _ = full(count)
    looks = 0
    look = RoomFinder.has_room

    def has_room(finder: RoomFinder, backend: Backend) -> bool:
        nonlocal looks
        looks += 1
        return look(finder, backend)

    first = ask(rig, 0)
    with monkeypatch.context() as patch:
        patch.setattr(RoomFinder, "has_room", has_room)
        second = ask(rig, 1)
    assert not first.called
    assert not second.called
    rig.group.close()
    for each in (first, second):
        each.addErrback(lambda failure: None)
    return looks


ASKS: dict[str, Ask] = {
    "ident": lambda rig, at: rig.group.connect(("new", at)),
    "ident and a list": lambda rig, at: rig.pool.select(("new", at), rig.backends),
    "ident and exclude": lambda rig, at: rig.group.connect(("new", at), exclude=[rig.backends[at]]),
}


@pytest.mark.parametrize("kind", ASKS)
def test_a_request_of_another_ident_does_not_look_at_backends_known_to_be_full(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = [looks_of_another(count, ASKS[kind], monkeypatch) for count in (4, 10)]
    assert 0 < many <= few


def test_each_ident_of_those_who_wait_hears_of_the_next_slot() -> None:
    rig, held = full(3)
    asked = [rig.group.connect(ident) for ident in ("a", "b", "c")]
    for at, lease in enumerate(reversed(held), 1):
        lease.finished()
        rig.turn()
        assert sum([each.called for each in asked]) == at


def test_one_backend_serves_one_ident_after_the_other() -> None:
    rig, (lease, *_) = full(2)
    waiting = [rig.group.connect(ident) for ident in "abcd"]
    while waiting:
        lease.finished()
        rig.turn()
        served = [each for each in waiting if each.called]
        assert len(served) == 1
        waiting.remove(served[0])
        lease = result_of(served[0])


def test_a_backend_that_leaves_and_comes_back_is_known_to_be_full_no_more() -> None:
    rig = Sourced("ab", idents="separate")
    held = [result_of(rig.pool.connect("them", rig.known[each])) for each in "ab"]
    asked = rig.ask()
    rig.tell("a")
    held[1].finished()
    rig.turn()
    assert not asked.called
    rig.tell("ab")
    rig.turn()
    assert str(result_of(asked).backend) == "b"


def test_each_panic_lets_the_ejected_backends_serve_those_who_wait() -> None:
    rig, held = full(3)
    for _ in range(2):
        asked = rig.group.connect("us", balancer=itemgetter(2))
        rig.pool.eject(rig.backends[0])
        held[0].finished()
        rig.turn()
        assert not asked.called
        rig.pool.eject(rig.backends[1])
        rig.turn()
        lease = result_of(asked)
        assert lease.backend is rig.backends[0]
        for each in rig.backends[:2]:
            rig.pool.admit(each)
        lease.finished()
        rig.turn()
        held[0] = result_of(rig.pool.connect("them", rig.backends[0]))


def test_an_ident_without_a_manager_connects_when_the_next_attempt_is_due() -> None:
    rig, held = full(2)
    rig.fakes[0].refuse()
    held[0].finished()
    rig.turn()
    failing = rig.pool.connect("them", rig.backends[0])
    failing.addErrback(lambda failure: None)
    rig.turn()
    assert failing.called
    asked = rig.group.connect("us")
    rig.fakes[0].accept()
    rig.clock.pump([1.0] * 5)
    assert result_of(asked).backend is rig.backends[0]


def test_what_one_ident_finds_full_is_not_so_for_another_that_has_connections_there() -> None:
    rig = Grouped(2, idents="replace", limit=2)
    held = [rig.lease(), result_of(rig.pool.connect("us", rig.backends[1]))]
    held.append(result_of(rig.group.connect("them", balancer=itemgetter(0))))
    asked = rig.ask(balancer=itemgetter(0))  # what they have there makes way, but not at once
    rig.turn()
    assert result_of(asked).backend is rig.backends[1]


def test_who_waits_gets_the_room_that_a_manager_of_his_own_ident_leaves() -> None:
    rig = Grouped(2)
    held, asked = rig.fill(), rig.ask()
    one, other = rig.backends
    there = next(each for each in (one, other) if rig.pool.status([each])[0].waiting == 0)
    manager: Any = rig.pool.manager(there, "us")
    manager.drain()
    held[str(there)].release()
    rig.turn()
    assert result_of(asked).backend is there


def test_a_list_with_too_many_ejected_backends_lets_them_serve_those_who_wait() -> None:
    rig = Sourced("abcd", idents="separate")
    held = [result_of(rig.pool.connect("them", rig.known[each])) for each in "ad"]
    for each in "bc":
        rig.pool.eject(rig.known[each])
    asked = rig.ask()
    rig.turn()
    assert not asked.called
    rig.tell("abc")
    rig.turn()
    assert str(result_of(asked).backend) == "b"
    assert all(each.held for each in held)

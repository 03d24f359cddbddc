"""Rule 22, on a clock: another ident is served, is rejected, or takes over."""

from __future__ import annotations

from typing import Any

import pytest

from kolus import Closed, Draining, Rejected, WrongIdent
from kolus.events import Event, Paused, Why
from kolus.status import State
from kolus.testing import NotFired, result_of
from tests.rigs.idents import Idents

# By default


@pytest.mark.parametrize("slots", [None, 2])
def test_by_default_each_ident_is_served_by_connections_of_its_own(slots: int | None) -> None:
    rig = Idents(None, slots=slots)
    ours, theirs = rig.lease("a"), rig.lease("b")
    assert ours.protocol.transport is not theirs.protocol.transport
    third = rig.ask("c")
    with pytest.raises(NotFired):  # the limit is that of the backend
        result_of(third)
    theirs.release()
    rig.turn()
    assert result_of(third).ident == "c"
    ours.release()
    del third
    rig.end()
    assert rig.most == 2


def test_by_default_select_and_groups_serve_each_ident() -> None:
    rig = Idents(None)
    group = rig.pool.group([rig.backend])
    ours, theirs = result_of(group.connect("a")), result_of(group.connect("b"))
    assert (ours.ident, theirs.ident) == ("a", "b")
    theirs.release()
    third = rig.pool.select("c", [rig.backend])
    rig.turn()
    assert result_of(third).ident == "c"
    ours.release()
    del third
    rig.end()


# Reject


def test_a_rejected_ident_is_told_the_setting_and_its_alternatives() -> None:
    rig = Idents("reject")
    lease = rig.lease("a")
    group = rig.pool.group([rig.backend])
    told = "fake .*'b'.*idents='reject'.*'separate'.*'replace'"
    for ask in (
        lambda: result_of(rig.ask("b")),
        lambda: rig.pool.try_connect("b", rig.backend),
        lambda: result_of(rig.pool.select("b", [rig.backend])),
        lambda: result_of(group.connect("b")),
        lambda: result_of(rig.pool.connect("b", lease.manager)),
    ):
        with pytest.raises(WrongIdent, match=told):
            ask()
    lease.release()
    rig.end()


def test_a_manager_that_is_asked_for_another_ident_says_to_ask_the_pool() -> None:
    rig = Idents("separate")
    lease = rig.lease("a")
    with pytest.raises(WrongIdent, match=r"manager of fake .*'b'; ask the pool"):
        result_of(rig.pool.connect("b", lease.manager))
    lease.release()
    rig.end()


def test_another_ident_is_rejected_while_the_manager_lives() -> None:
    rig = Idents("reject")
    lease = rig.lease("a")
    with pytest.raises(WrongIdent):
        result_of(rig.ask("b"))
    with pytest.raises(WrongIdent):
        rig.pool.try_connect("b", rig.backend)
    with pytest.raises(WrongIdent):
        result_of(rig.pool.select("b", [rig.backend]))
    lease.release()
    with pytest.raises(WrongIdent):
        result_of(rig.ask("b"))
    assert rig.fake.attempts == 1
    rig.end()


def test_another_ident_is_served_when_the_manager_has_gone() -> None:
    rig = Idents("reject", idle_timeout=1, manager_idle_timeout=1)
    old = rig.lease("a")
    manager = old.manager
    old.release()
    rig.clock.pump([1, 0, 1, 0])
    lease = rig.lease("b")
    assert lease.ident == "b"
    assert lease.manager is not manager
    with pytest.raises(WrongIdent):
        result_of(rig.ask("a"))
    with pytest.raises((Closed, WrongIdent)):
        result_of(rig.pool.connect("a", manager))
    lease.release()
    rig.end()


def test_another_ident_is_served_after_a_drain() -> None:
    rig = Idents("reject")
    lease = rig.lease("a")
    drained = rig.pool.drain(rig.backend)
    with pytest.raises(Rejected):
        result_of(rig.ask("b"))
    lease.release()
    rig.turn()
    result_of(drained)
    rig.lease("b").release()
    rig.end()


# Replace


def test_the_new_ident_takes_over_and_idle_connections_of_the_old_close_now() -> None:
    rig = Idents("replace")
    rig.lease("a").release()
    lease = rig.lease("b")
    rig.turn()
    assert len(rig.open()) == 1
    assert rig.retired() == [("a", Why.CLOSED)]
    assert [each.ident for each in rig.pool.status()] == ["b"]
    lease.release()
    rig.end()


def test_leased_connections_of_the_old_ident_close_when_they_come_home() -> None:
    rig = Idents("replace")
    old = rig.lease("a")
    new = rig.lease("b")
    rig.turn()
    old.protocol.transport.write(b"still mine")
    assert rig.fake.accepted[0].received == b"still mine"
    assert len(rig.open()) == 2
    old.release()
    rig.turn()
    assert [each.transport is new.protocol.transport for each in rig.open()] == [True]
    new.release()
    rig.end()


def test_waiters_of_the_old_ident_are_rejected() -> None:
    rig = Idents("replace", limit=1)
    old = rig.lease("a")
    waiting = [rig.ask("a") for _ in range(3)]
    new = rig.ask("b")
    for each in waiting:
        with pytest.raises(Rejected, match="'a'"):
            result_of(each)
    with pytest.raises(NotFired):
        result_of(new)
    old.release()
    rig.turn()
    result_of(new).release()
    rig.end()
    assert rig.most == 1


def test_the_old_and_the_new_ident_share_the_limit_all_the_time() -> None:
    rig = Idents("replace", limit=3, slots=None)
    old = [rig.lease("a") for _ in range(2)]
    new = [rig.ask("b") for _ in range(3)]
    result_of(new[0]).release()
    held = result_of(new[1])
    with pytest.raises(NotFired):
        result_of(new[2])
    assert len(rig.open()) == 3
    for lease in old:
        lease.release()
        assert len(rig.open()) <= 3
        rig.turn()
    result_of(new[2]).release()
    held.release()
    rig.end()
    assert rig.most == 3


def test_two_idents_may_take_over_from_each_other_again_and_again() -> None:
    rig = Idents("replace", limit=3)
    held = []
    for turn in range(3):
        held.append(rig.lease("ab"[turn % 2]))
        rig.turn()
    first, *others = (str(each.ident) for each in rig.pool.status())
    assert first == "a"
    assert sorted(others) == ["a", "b"]
    fourth = rig.ask("b")
    with pytest.raises(NotFired):
        result_of(fourth)
    held.pop(0).release()
    rig.turn()
    result_of(fourth).release()
    for lease in held:
        lease.release()
    rig.turn()
    assert [each.ident for each in rig.pool.status()] == ["b"]
    for turn in range(100):
        rig.lease("ab"[turn % 2]).release()
        rig.turn()
    rig.end()
    assert rig.most == 3


def test_an_old_waiter_that_asks_again_when_it_is_rejected_takes_over_again() -> None:
    rig = Idents("replace", limit=1)
    old = rig.lease("a")
    again: list[Any] = []
    waiting = rig.ask("a").addErrback(lambda _: again.append(rig.ask("a")))
    new = rig.ask("b")
    assert result_of(waiting) is None
    serving = [each.ident for each in rig.pool.status() if each.state is State.OPEN]
    assert serving == ["a"]
    with pytest.raises((Rejected, Closed)):
        result_of(new)
    old.release()
    rig.turn()
    result_of(again[0]).release()
    rig.end()
    assert rig.most == 1


def test_those_that_leave_are_seen_explained_and_drained() -> None:
    rig = Idents("replace", limit=3)
    old, new = rig.lease("a"), rig.lease("b")
    (status,) = rig.pool.status([rig.backend])
    assert (status.leased, status.unused, status.limit) == (2, 1, 3)
    assert status.state is State.OPEN
    explained = rig.pool.explain().managers
    assert [each.status.ident for each in explained] == ["b", "a"]
    assert [len(each.leases) for each in explained] == [1, 1]
    drained = rig.pool.drain(rig.backend)
    new.release()
    rig.turn()
    with pytest.raises(NotFired):
        result_of(drained)
    old.release()
    rig.turn()
    result_of(drained)
    rig.end()


def test_while_one_that_leaves_is_drained_nobody_is_served() -> None:
    rig = Idents("replace", limit=3)
    old, new = rig.lease("a"), rig.lease("b")
    drained = rig.pool.drain(rig.backend)
    new.release()
    rig.turn()
    with pytest.raises(Draining):
        result_of(rig.ask("b"))
    old.release()
    rig.turn()
    result_of(drained)
    rig.lease("b").release()
    rig.end()


def test_closing_the_pool_closes_those_that_leave_too() -> None:
    rig = Idents("replace", limit=3)
    old, new = rig.lease("a"), rig.lease("b")
    closed = rig.pool.close(10)
    new.release()
    rig.turn()
    with pytest.raises(NotFired):
        result_of(closed)
    rig.clock.advance(10)
    rig.turn()
    result_of(closed)
    assert not rig.open()
    old.release()
    rig.end()


def test_a_paused_backend_stays_paused_for_the_ident_that_takes_over() -> None:
    rig = Idents("replace")
    rig.lease("a").release()
    rig.pool.pause(rig.backend)
    asked = rig.ask("b")
    rig.turn()
    with pytest.raises(NotFired):
        result_of(asked)
    rig.pool.resume(rig.backend)
    rig.turn()
    result_of(asked).release()
    rig.end()


def test_try_connect_takes_nothing_over() -> None:
    rig = Idents("replace")
    rig.lease("a").release()
    assert rig.pool.try_connect("b", rig.backend) is None
    assert len(rig.open()) == 1
    rig.lease("a").release()
    assert rig.fake.attempts == 1


def test_slots_are_taken_over_as_connections_are() -> None:
    rig = Idents("replace", limit=1, slots=2)
    old = [rig.lease("a") for _ in range(2)]
    waiting, new = rig.ask("a"), rig.ask("b")
    with pytest.raises(Rejected):
        result_of(waiting)
    for lease in old:
        with pytest.raises(NotFired):
            result_of(new)
        lease.release()
    rig.turn()
    result_of(new).release()
    rig.end()
    assert rig.most == 1


def test_an_observer_may_let_a_third_ident_take_over_meanwhile() -> None:
    rig = Idents("replace")
    rig.lease("a").release()
    asked: list[Any] = []

    def ask(event: Event) -> None:
        if isinstance(event, Paused) and event.ident == "b":
            asked.append(rig.ask("c"))

    rig.pool._observers.append(ask)
    rig.pool.pause()
    with pytest.raises((Closed, Draining)):
        result_of(rig.ask("b"))
    rig.pool.resume()
    rig.turn()
    result_of(asked[0]).release()
    assert [each.ident for each in rig.pool.status() if each.state is State.OPEN] == ["c"]
    rig.end()

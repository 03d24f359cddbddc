"""What a pool keeps of its backends, of those who used them, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from kolus.testing import result_of
from tests.grouping import Rig


def account_of(rig: Rig, name: str) -> Any:
    account = rig.pool._managers.accounts.find(rig.known[name].key)
    assert account is not None
    return account


# Idents


@pytest.mark.parametrize("by", ["a group", "name"])
def test_nothing_is_kept_of_idents_whose_managers_have_gone(by: str) -> None:
    rig = Rig("ab", idents="separate", manager_idle_timeout=1.0)
    for user in range(20):
        if by == "a group":
            asked = rig.group.connect(user)
        else:
            asked = rig.pool.connect(user, rig.known["ab"[user % 2]])
        result_of(asked).finished()
        rig.clock.pump([1.0] * 3)
    assert list(rig.pool._managers) == []
    assert not any(account._shared for account in rig.pool._managers.accounts)


def test_no_queue_is_kept_that_nobody_needs() -> None:
    rig = Rig("ab", idents="separate", manager_idle_timeout=1.0)
    for user in range(20):
        result_of(rig.group.connect(user, exclude=[rig.known["a"]])).finished()
        rig.clock.pump([1.0] * 3)
    rig.group.close()
    assert rig.pool._managers.accounts._queues == {}


def test_a_manager_serves_the_queues_that_came_before_it_and_after() -> None:
    rig = Rig("ab")
    held = [rig.lease(), rig.lease()]
    waits_for_b = rig.ask(exclude=[rig.known["a"]])
    waits_for_both = rig.ask()
    for each in held:
        each.finished()
    rig.turn()
    for asked in (waits_for_b, waits_for_both):
        result_of(asked).release()


def test_an_ident_that_takes_over_again_serves_its_queues_when_its_first_manager_ends() -> None:
    rig = Rig("a", idents="replace", limit=3)
    first = rig.lease()
    other = result_of(rig.pool.connect("them", rig.known["a"]))
    again = rig.lease()
    assert again.manager is not first.manager
    more = rig.ask()
    first.release()
    other.release()
    rig.turn()
    assert len(account_of(rig, "a").members) == 1
    assert list(account_of(rig, "a")._shared) == ["us"]
    result_of(more).release()
    again.release()

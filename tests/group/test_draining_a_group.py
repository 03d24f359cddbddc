"""A backend that is drained serves nobody who asked before, not even by its next manager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from kolus import Draining, Lease
from kolus.testing import result_of
from kolus.testing.results import failure_of
from tests.rigs.groups import Grouped

Ask = Callable[[Grouped], Deferred[Lease[Any]]]

WAYS: dict[str, Ask] = {
    "connect": lambda rig: rig.pool.connect("us", rig.backends[0]),
    "select": lambda rig: rig.pool.select("us", rig.backends),
    "group": lambda rig: rig.group.connect("us"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("slots", [None, 2])
@pytest.mark.parametrize("when", ["connecting", "leased", "paused", "failing"])
def test_those_who_wait_fail_and_nothing_is_connected_for_them(
    way: str, slots: int | None, when: str
) -> None:
    rig = Grouped(1, slots=slots, fail_fast=False)
    fake, backend = rig.fakes[0], rig.backends[0]
    leases: list[Lease[Any]] = []
    if when == "connecting":
        fake.accept(after=1, always=True)
    elif when == "leased":
        leases = [rig.lease() for _ in range(slots or 1)]
    elif when == "paused":
        rig.pool.pause(backend)
    else:
        fake.refuse()
    asked = [WAYS[way](rig) for _ in range(3)]
    attempts = fake.attempts
    drained = rig.pool.drain(backend)
    for each in asked:
        failure_of(Draining, each)
    for lease in leases:
        lease.release()
    rig.clock.pump([0, 0, 0, 1, 1, 1])
    result_of(drained)
    assert fake.attempts == attempts
    rig.pool.resume(backend)
    fake.accept(always=True)
    result_of(WAYS[way](rig)).release()


def test_those_who_wait_for_several_are_served_by_the_others() -> None:
    rig = Grouped(2)
    rig.fakes[0].accept(after=1, always=True)
    rig.fakes[1].accept(after=2, always=True)
    asked = rig.ask()
    rig.pool.drain(rig.backends[0])
    rig.clock.pump([1, 1, 1])
    assert result_of(asked).backend is rig.backends[1]

"""Rule 18, on a clock: C{min_idle} connections are kept ready, by events and without polling."""

from __future__ import annotations

from typing import Any

import pytest

from kolus import ConnectFailed, Policy
from kolus.status import State
from tests.rigs.either import either, use


@either
def test_head_room_is_made_with_the_first_request(rig_of: Any) -> None:
    rig = rig_of(limit=5, min_idle=2)
    lease = rig.lease()
    assert rig.numbers() == (2, 1, 0, 2, 0)
    lease.release()


@either
@pytest.mark.parametrize("how", ["connect", "try_connect"])
def test_head_room_is_refilled_as_it_is_taken_without_time_passing(rig_of: Any, how: str) -> None:
    rig = rig_of(limit=5, min_idle=2)
    leases = [rig.lease()]
    for leased in (2, 3):
        leases.append(rig.lease() if how == "connect" else rig.manager.try_connect("us"))
        assert rig.numbers() == (2, leased, 0, 3 - leased, 0)


@either
def test_head_room_never_goes_beyond_the_limit(rig_of: Any) -> None:
    rig = rig_of(limit=3, min_idle=2)
    leases = [rig.lease() for _ in range(3)]
    assert rig.numbers() == (0, 3, 0, 0, 0)
    assert rig.fake.attempts == 3
    for lease in leases:
        lease.release()
    assert rig.numbers() == (3, 0, 0, 0, 0)


@either
def test_head_room_is_made_when_the_request_that_came_first_is_cancelled(rig_of: Any) -> None:
    rig = rig_of(limit=5, min_idle=2)
    rig.fake.accept(after=1, always=True)
    asked = rig.manager.connect("us")
    asked.addErrback(lambda _: None)
    asked.cancel()
    rig.clock.advance(1)
    assert rig.manager.status().idle == 2 * (rig.manager.policy.slots or 1)


@either
def test_head_room_that_is_lost_is_made_again_at_once(rig_of: Any) -> None:
    rig = rig_of(limit=5, min_idle=2)
    use(rig)
    rig.clock.advance(2)
    for each in list(rig.fake.connections):
        each.reset()
    assert rig.manager.status().idle == 2


@either
def test_the_idle_timeout_and_the_manager_idle_timeout_spare_the_head_room(rig_of: Any) -> None:
    rig = rig_of(limit=5, min_idle=2, lifetime=None)
    use(rig, 3)
    rig.clock.pump([10] * 100)
    assert rig.numbers() == (2, 0, 0, 3, 0)
    assert rig.manager.status().state is State.OPEN


@either
def test_head_room_is_recycled_make_before_break(rig_of: Any) -> None:
    rig = rig_of(limit=5, min_idle=2, lifetime=100)
    use(rig)
    fewest = 2
    for _ in range(500):
        rig.clock.advance(1)
        fewest = min(fewest, len(rig.manager.connections.idle))
    assert fewest == 2
    assert 10 <= rig.fake.attempts <= 18


@either
def test_nothing_wakes_up_to_look_at_the_head_room(rig_of: Any) -> None:
    rig = rig_of(limit=5, min_idle=2, lifetime=None, idle_timeout=None, leak_after=None)
    use(rig)
    rig.clock.advance(5)  # the deadline of the request
    assert rig.clock.getDelayedCalls() == []


@either
def test_head_room_is_no_storm_on_a_backend_that_refuses(rig_of: Any) -> None:
    rig = rig_of(limit=5, min_idle=2)
    rig.fake.refuse(always=True)
    with pytest.raises(ConnectFailed):
        rig.lease()
    rig.clock.pump([0.1] * 600)
    assert rig.fake.attempts < 65
    rig.fake.accept(always=True)
    rig.clock.advance(30)
    assert rig.manager.status().idle == 2


def test_head_room_without_a_back_off_is_refused() -> None:
    with pytest.raises(ValueError, match="min_idle needs a backoff"):
        Policy(min_idle=1, backoff=None)

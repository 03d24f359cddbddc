"""Rule 21, on a clock: unused managers close themselves."""

from __future__ import annotations

import pytest

from kolus import LeaseTimeout
from kolus.status import State
from kolus.testing import result_of
from tests.rigs.pools import Managed

# 21: managers go away


def test_a_manager_without_connections_closes_after_the_manager_idle_timeout() -> None:
    rig = Managed(manager_idle_timeout=300)
    closed = rig.manager.when_closed()
    rig.lease().finished()
    rig.turn()
    rig.clock.advance(299.9)
    assert rig.manager.status().state is State.OPEN
    rig.clock.advance(0.1)
    result_of(closed)
    assert rig.clock.getDelayedCalls() == []


def test_a_manager_that_is_used_again_does_not_go_away() -> None:
    rig = Managed(manager_idle_timeout=300, idle_timeout=None, lifetime=None)
    rig.lease().finished()
    rig.turn()
    rig.clock.advance(200)
    rig.lease().release()
    rig.clock.advance(1000)
    assert rig.manager.status().state is State.OPEN


def test_a_manager_whose_waiters_gave_up_goes_away_in_the_end() -> None:
    rig = Managed(manager_idle_timeout=300, fail_fast=False)
    rig.fake.refuse(always=True)
    asked = rig.ask(400)
    rig.clock.pump([1] * 400)
    with pytest.raises(LeaseTimeout):
        result_of(asked)
    rig.clock.pump([1] * 310)
    assert rig.manager.status().state is State.CLOSED

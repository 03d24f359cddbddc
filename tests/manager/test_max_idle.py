"""C{Policy(max_idle=...)}: of idle connections only so many are kept."""

from __future__ import annotations

from typing import Any

import pytest

from kolus import Policy
from kolus.events import Retired, Why
from kolus.metrics import Metrics
from kolus.testing import result_of
from tests.rigs.pools import Managed, Pooled
from tests.rigs.sharing import Hears, Multiplexed, Sharing


def test_more_connections_than_may_be_idle_are_closed_as_they_come_home() -> None:
    rig = Managed(max_idle=2, limit=5, observed=True)
    metrics = Metrics()
    rig.manager.observers.append(metrics)
    leases = [rig.lease() for _ in range(5)]
    kept = [each.protocol for each in leases[:2]]
    for each in leases:
        each.release()
    rig.turn()
    assert rig.numbers() == (2, 0, 0, 3, 0)
    assert rig.manager.counters.releases == 5
    retired = [each for each in rig.events if isinstance(each, Retired)]
    assert retired == [Retired(rig.manager.backend, "us", Why.SURPLUS)] * 3
    assert metrics.total().closes == {"surplus": 3}
    assert {rig.lease().protocol, rig.lease().protocol} == set(kept)


def test_a_connection_that_a_request_waits_for_is_not_closed() -> None:
    rig = Managed(max_idle=0, limit=1)
    for _ in range(3):
        lease, asked = rig.lease(), rig.ask()
        lease.release()
        again = result_of(asked)
        assert again.reused
        again.release()
        rig.turn()
        assert not rig.fake.connections


def test_a_connection_that_was_made_for_a_request_that_left_is_closed_too() -> None:
    rig = Managed(max_idle=1, limit=2)
    first = rig.lease()
    rig.fake.accept(after=1)
    asked = rig.ask()
    asked.addErrback(lambda _: None)
    asked.cancel()
    first.release()
    rig.clock.advance(1)
    rig.turn()
    assert rig.numbers()[0] == 1
    assert len(rig.fake.connections) == 1


def test_what_comes_from_a_check_or_a_reset_is_closed_too() -> None:
    rig = Managed(max_idle=1, limit=3, reset=lambda protocol: None)
    leases = [rig.lease() for _ in range(3)]
    for each in leases:
        each.release()
    rig.turn()
    assert len(rig.fake.connections) == 1


def test_the_bound_holds_while_the_manager_is_paused() -> None:
    rig = Managed(max_idle=1, limit=3)
    leases = [rig.lease() for _ in range(3)]
    rig.manager.pause()
    for each in leases:
        each.release()
    rig.turn()
    assert len(rig.fake.connections) == 1


def test_the_head_room_is_kept() -> None:
    rig = Managed(max_idle=2, min_idle=2, limit=5)
    leases = [rig.lease() for _ in range(5)]
    for each in leases:
        each.release()
    rig.turn()
    assert rig.numbers()[0] == 2
    rig.clock.pump([20] * 10)
    assert rig.numbers()[0] == 2
    assert len(rig.fake.connections) == 2


def test_waiters_of_groups_get_what_comes_home_before_it_is_closed() -> None:
    rig = Pooled(max_idle=0, limit=1)
    group = rig.pool.group(rig.backends[:1])
    lease = result_of(group.connect("us"))
    asked = group.connect("us")
    lease.release()
    again = result_of(asked)
    assert again.reused
    again.release()
    rig.turn()
    assert not rig.fakes[0].connections


def test_an_idle_shared_connection_counts_once() -> None:
    rig = Sharing(Hears, max_idle=1, limit=3, slots=2)
    leases = rig.take(6)
    for each in leases:
        each.release()
    rig.turn()
    assert len(rig.fake.connections) == 1
    assert rig.manager.status().idle == 2
    rig.end()


class Slow(Multiplexed):
    """Says only later how many leases it can carry."""

    first = 0


def test_what_somebody_waits_for_is_kept_although_it_can_carry_nothing_yet() -> None:
    rig = Sharing(Slow, max_idle=0)
    rig.fake.accept(after=0.1, always=True)
    asked = rig.ask()
    rig.clock.pump([0.1] * 5)
    assert rig.fake.attempts == 1
    rig.protocols[0].change(2)
    result_of(asked).release()
    rig.turn()
    assert rig.fake.connections == []
    rig.end()


def test_it_is_closed_when_the_last_who_waits_for_it_leaves() -> None:
    rig = Sharing(Slow, max_idle=0)
    asked = rig.ask()
    asked.addErrback(lambda _: None)
    rig.turn()
    assert len(rig.fake.connections) == 1
    asked.cancel()
    rig.turn()
    assert rig.fake.connections == []
    rig.end()


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "2"])
def test_the_bound_is_a_whole_number(wrong: Any) -> None:
    with pytest.raises(ValueError, match="max_idle"):
        Policy(max_idle=wrong)


def test_a_head_room_above_the_bound_is_refused() -> None:
    with pytest.raises(ValueError, match=r"min_idle=3 is more than max_idle=2"):
        Policy(min_idle=3, max_idle=2)

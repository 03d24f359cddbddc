"""Slow start: the weight of an admitted backend grows with time."""

from __future__ import annotations

import pytest

from kolus import Ejection
from kolus.balance import Balancer, least_leased, pick_two, round_robin
from kolus.status import State
from tests.rigs.health_rigs import Nursed


def test_a_backend_that_is_admitted_starts_with_a_tenth_of_its_weight() -> None:
    rig = Nursed(1, ejection=Ejection(slow_start=10.0))
    rig.fail()
    rig.until_due()
    rig.lease().release()
    ramps = []
    for _ in range(6):
        (status,) = rig.pool.status(rig.backends)
        ramps.append(status.ramp)
        assert status.load == pytest.approx(1 / status.ramp)
        rig.clock.advance(2.0)
    assert ramps == pytest.approx([0.1, 0.2, 0.4, 0.6, 0.8, 1.0])


def test_without_a_slow_start_a_backend_has_its_full_weight_at_once() -> None:
    rig = Nursed(1)
    rig.fail()
    rig.pool.admit(rig.backends[0])
    assert rig.pool.status(rig.backends)[0].ramp == 1.0


@pytest.mark.parametrize("balancer", [least_leased, pick_two(), round_robin()])
def test_a_backend_that_starts_slowly_gets_fewer_requests(balancer: Balancer) -> None:
    rig = Nursed(2, balancer, ejection=Ejection(slow_start=100.0), limit=100)
    rig.fail()
    rig.pool.admit(rig.backends[0])
    rig.clock.advance(25.0)
    held = [rig.lease() for _ in range(50)]
    share = [str(each.backend) for each in held].count("a")
    assert share == pytest.approx(10, abs=1)
    for each in held:
        each.release()


def test_a_backend_that_is_ejected_while_it_starts_slowly_is_ejected() -> None:
    rig = Nursed(ejection=Ejection(slow_start=10.0))
    rig.fail()
    rig.pool.admit(rig.backends[0])
    rig.fail()
    assert rig.state() is State.EJECTED

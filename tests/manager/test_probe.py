"""A request as the probe that admits an ejected backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kolus.balance import Balancer, fill_first, least_leased, pick_two, round_robin
from kolus.events import Admitted, Ejected, Event, ProbeDue
from kolus.status import State
from kolus.testing import result_of
from tests.rigs.health_rigs import FIRST, Nursed

# The probe


def test_one_request_is_the_probe_and_a_second_goes_elsewhere() -> None:
    rig = Nursed()
    rig.fail()
    rig.until_due()
    probe, other = rig.lease(), rig.lease()
    assert [str(each.backend) for each in (probe, other)] == ["a", "b"]
    assert rig.state() is State.EJECTED
    probe.release()
    other.release()


@pytest.mark.parametrize("policy", [{}, {"reset": lambda protocol: None}, {"max_uses": 1}])
def test_who_hears_that_a_probe_went_well_may_end_its_connection(policy: Any) -> None:
    rig = Nursed(1, **policy)
    rig.fail()
    rig.until_due()
    probe = rig.lease()

    def ends(event: Event) -> None:
        if isinstance(event, Admitted):
            rig.fakes[0].connections[-1].reset()

    rig.heard = ends
    probe.release()
    assert rig.state() is State.OPEN
    assert rig.pool.status(rig.backends)[0].idle == 0
    rig.lease().release()


def test_one_request_is_the_probe_though_connections_are_idle_elsewhere() -> None:
    rig = Nursed()
    rig.fail()
    rig.use(1)
    rig.until_due()
    probe = rig.lease()
    assert str(probe.backend) == "a"
    probe.release()
    assert rig.state() is State.OPEN


@pytest.mark.parametrize("balancer", [fill_first, least_leased, round_robin(), pick_two()])
def test_a_backend_that_is_well_again_comes_back_whatever_the_others_have_idle(
    balancer: Balancer,
) -> None:
    rig = Nursed(2, balancer)
    rig.fail()
    for _ in range(100):
        rig.lease().release()
        rig.clock.advance(0.1)
    assert rig.state() is State.OPEN


def test_the_probe_is_connected_for_though_others_have_room() -> None:
    rig = Nursed()
    rig.refuse()
    rig.fakes[0].accept(after=0.1)
    rig.fakes[1].accept(after=5.0, always=True)
    rig.until_due()
    before = rig.fakes[0].attempts
    asked = rig.ask()
    assert rig.fakes[0].attempts == before + 1
    rig.clock.advance(0.1)
    assert str(result_of(asked).backend) == "a"
    assert rig.state() is State.OPEN


def test_a_request_whose_probe_fails_is_served_elsewhere() -> None:
    rig = Nursed()
    rig.refuse()
    rig.until_due()
    rig.fakes[0].refuse()
    assert str(rig.lease().backend) == "b"
    assert rig.told(Ejected)[-1].seconds == 2 * FIRST


def test_try_connect_that_gets_another_backends_lease_is_no_probe() -> None:
    rig = Nursed()
    rig.fail()
    rig.use(1)
    rig.until_due()
    lease = rig.group.try_connect("us")
    assert lease is not None
    assert str(lease.backend) == "b"
    assert rig.state() is State.DUE
    lease.release()


def test_a_probe_that_goes_well_admits_a_backend() -> None:
    rig = Nursed(1)
    rig.fail()
    rig.until_due()
    probe = rig.lease()
    assert rig.state() is State.EJECTED
    probe.release()
    assert rig.state() is State.OPEN
    assert rig.told(Admitted) == [Admitted(rig.backends[0], None, "a probe went well")]


def test_a_probe_that_can_connect_admits_a_backend_that_could_not_be_connected_to() -> None:
    rig = Nursed(1)
    rig.refuse()
    rig.until_due()
    probe = rig.lease()
    assert rig.state() is State.OPEN
    assert rig.told(Admitted) == [Admitted(rig.backends[0], None, "a probe could connect")]
    probe.release()


def test_a_probe_that_fails_ejects_a_backend_for_twice_as_long_and_tells_why() -> None:
    rig = Nursed(1)
    rig.fail()
    rig.until_due()
    rig.lease().finished(failed=True)
    assert rig.state() is State.EJECTED
    event = rig.told(Ejected)[-1]
    assert event.reason == "a probe failed: a lease was settled as failed"
    assert event.seconds == 2 * FIRST


def test_of_a_lease_from_before_the_probe_nothing_is_learnt() -> None:
    rig = Nursed(1)
    good, bad = rig.at(), rig.at()
    rig.fail()
    rig.until_due()
    rig.clock.advance(0.1)
    probe = rig.lease()
    good.release()
    bad.finished(failed=True)
    assert rig.state() is State.EJECTED
    assert len(rig.told(Ejected)) == 1
    probe.release()
    assert rig.state() is State.OPEN


@pytest.mark.parametrize("settle", [lambda lease: lease.finished(), lambda lease: None])
def test_a_probe_that_comes_to_nothing_is_made_again(settle: Callable[[Any], None]) -> None:
    rig = Nursed(1)
    rig.fail()
    rig.until_due()
    probe = rig.lease()
    settle(probe)
    rig.turn()
    rig.clock.advance(FIRST - 0.01)
    assert rig.state() is State.EJECTED
    rig.clock.advance(0.01)
    assert rig.state() is State.DUE
    assert len(rig.told(ProbeDue)) == 2
    rig.lease().release()
    assert rig.state() is State.OPEN
    if probe.held:
        probe.release()


def test_a_probe_that_is_cancelled_is_made_again() -> None:
    rig = Nursed(1)
    rig.fail()
    rig.until_due()
    rig.fakes[0].never_answer()
    asked = rig.ask()
    asked.addErrback(lambda failure: None)
    asked.cancel()
    rig.clock.advance(FIRST)
    assert rig.state() is State.DUE

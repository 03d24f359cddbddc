"""An ejected backend: which requests it still serves, and ejection by hand."""

from __future__ import annotations

import pytest

from kolus import KolusError
from kolus.balance import consistent, round_robin
from kolus.events import Admitted, Ejected, ProbeDue
from kolus.status import State
from kolus.testing import NotFired, result_of
from tests.rigs.health_rigs import BALANCERS, FIRST, Nursed

# Who is chosen


@pytest.mark.parametrize("name", BALANCERS)
@pytest.mark.parametrize("by", ["a group", "select"])
def test_no_balancer_chooses_an_ejected_backend_while_others_are_well(name: str, by: str) -> None:
    rig = Nursed(4)
    balancer = BALANCERS[name](rig)
    for place in (0, 2):
        rig.use(place)
        rig.fail(place)
        rig.use(place)  # so that it has a connection idle
    held = []
    for _ in range(20):
        if by == "a group":
            asked = rig.ask(balancer=balancer)
        else:
            asked = rig.pool.select("us", rig.backends, balancer)
        held.append(result_of(asked))
    assert {str(each.backend) for each in held} == {"b", "d"} or (
        name in ("fill_first", "prefer_zone") and {str(each.backend) for each in held} <= {"b", "d"}
    )
    for each in held:
        each.release()


@pytest.mark.parametrize("spill", [1.25, None])
def test_no_key_is_given_to_an_ejected_backend_while_others_are_well(spill: float | None) -> None:
    rig = Nursed(4)
    rig.fail(0)
    rig.fail(2)
    for key in range(40):
        lease = rig.lease(balancer=consistent(key, spill=spill))
        assert str(lease.backend) in "bd"
        lease.release()


def test_an_ejected_backend_does_not_serve_who_waits_for_all() -> None:
    rig = Nursed(limit=6)
    held = rig.fill_at(1)
    home = rig.at(0)
    rig.fail(0)
    asked = rig.ask()
    home.release()
    with pytest.raises(NotFired):
        result_of(asked)
    held.pop().release()
    assert str(result_of(asked).backend) == "b"


def test_requests_that_waited_at_a_backend_move_on_when_it_is_ejected() -> None:
    rig = Nursed(2, limit=1)
    rig.fakes[0].never_answer(always=True)
    rig.fakes[1].never_answer()
    asked = rig.ask()
    assert [each.waiting for each in rig.pool.status(rig.backends)] == [1, 0]
    rig.pool.eject(rig.backends[0])
    assert [each.waiting for each in rig.pool.status(rig.backends)] == [0, 1]
    with pytest.raises(NotFired):
        result_of(asked)
    rig.clock.advance(5)
    with pytest.raises(KolusError):
        result_of(asked)


def test_requests_that_waited_at_it_are_served_elsewhere_at_once_if_there_is_room() -> None:
    rig = Nursed(2, limit=1)
    rig.fakes[0].never_answer()
    asked = rig.ask()
    rig.pool.eject(rig.backends[0])
    assert str(result_of(asked).backend) == "b"


def test_who_asks_for_an_ejected_backend_by_name_gets_it() -> None:
    rig = Nursed()
    rig.fail()
    assert rig.state() is State.EJECTED
    lease = rig.at()
    assert lease.backend is rig.backends[0]
    lease.release()
    assert rig.state() is State.EJECTED
    again = rig.pool.try_connect("us", rig.backends[0])
    assert again is not None
    again.release()


# By hand


def test_a_backend_that_is_ejected_by_hand_stays_so_until_it_is_admitted() -> None:
    rig = Nursed(2, round_robin())
    rig.pool.eject(rig.backends[0])
    rig.clock.advance(10_000)
    assert rig.state() is State.EJECTED
    assert {str(rig.lease().backend) for _ in range(4)} == {"b"}
    rig.pool.admit(rig.backends[0])
    assert rig.state() is State.ABSENT
    assert {str(rig.lease().backend) for _ in range(4)} == {"a", "b"}
    assert rig.told() == [
        Ejected(rig.backends[0], None, "by hand", float("inf")),
        Admitted(rig.backends[0], None, "by hand"),
    ]


def test_a_backend_can_be_ejected_by_hand_though_failures_eject_none() -> None:
    rig = Nursed(ejection=None)
    rig.pool.eject(rig.backends[0])
    assert str(rig.lease().backend) == "b"
    rig.pool.admit(rig.backends[0])
    assert str(rig.lease().backend) == "a"


def test_admitting_a_backend_ends_the_ejection_that_its_failures_led_to() -> None:
    rig = Nursed()
    rig.fail()
    rig.pool.admit(rig.backends[0])
    assert rig.state() is State.OPEN
    rig.clock.advance(10)
    assert rig.told(ProbeDue) == []


def test_admitting_a_backend_that_is_well_does_nothing() -> None:
    rig = Nursed()
    rig.pool.admit(rig.backends[0])
    assert rig.told() == []


def test_admitting_a_backend_that_was_never_used_leaves_nothing_behind() -> None:
    rig = Nursed()
    rig.pool.admit("tcp:192.0.2.1:1")
    assert list(rig.pool._managers.records) == []


def test_a_backend_that_is_ejected_by_hand_twice_is_ejected_once() -> None:
    rig = Nursed()
    rig.fail()
    for _ in range(2):
        rig.pool.eject(rig.backends[0])
    assert [each.seconds for each in rig.told(Ejected)] == [FIRST, float("inf")]
    rig.pool.admit(rig.backends[0])
    rig.pool.eject(rig.backends[0])
    assert len(rig.told(Ejected)) == 3


def test_failures_of_a_backend_that_is_ejected_by_hand_do_not_bring_it_back() -> None:
    rig = Nursed()
    rig.pool.eject(rig.backends[0])
    rig.fail(times=10)
    rig.use()
    rig.clock.advance(1000)
    assert rig.state() is State.EJECTED


def test_a_backend_that_is_ejected_by_hand_while_it_is_probed_is_not_admitted_by_that() -> None:
    rig = Nursed(1)
    rig.fail()
    rig.until_due()
    probe = rig.lease()
    rig.pool.eject(rig.backends[0])
    probe.release()
    rig.clock.advance(1000)
    assert rig.state() is State.EJECTED


def test_a_backend_that_was_never_used_can_be_ejected() -> None:
    rig = Nursed()
    rig.pool.eject("tcp:192.0.2.1:1")
    (status,) = rig.pool.status(["tcp:192.0.2.1:1"])
    assert status.state is State.EJECTED

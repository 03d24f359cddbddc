"""Panic: if fewer than half of the backends are healthy, balancers choose among all."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, ConnectFailed, ConnectionManager, Ejection, Policy, Pool
from kolus.balance import fill_first, round_robin
from kolus.testing import FakeBackend, NotFired, result_of
from tests.rigs.health_rigs import BALANCERS, Nursed


def test_of_two_backends_one_can_be_out_of_use() -> None:
    rig = Nursed(2, round_robin())
    rig.fail(0)
    assert {str(rig.lease().backend) for _ in range(6)} == {"b"}
    assert not rig.group.status().panics


def test_the_only_backend_is_never_out_of_use() -> None:
    rig = Nursed(1)
    rig.fail()
    assert str(rig.lease().backend) == "a"
    assert rig.group.status().panics


@pytest.mark.parametrize("name", BALANCERS)
def test_below_half_healthy_all_are_chosen_from(name: str) -> None:
    rig = Nursed(4, limit=3)
    balancer = BALANCERS[name](rig)
    held = [rig.lease(balancer=balancer)]
    for place in (0, 2, 3):
        rig.pool.eject(rig.backends[place])
    held += [rig.lease(balancer=balancer) for _ in range(11)]
    assert {str(each.backend) for each in held[1:]} == set("abcd")
    for each in held:
        each.release()


def test_requests_given_to_ejected_backends_in_panic_are_counted() -> None:
    rig = Nursed(3, round_robin())
    for backend in rig.backends[:2]:
        rig.pool.eject(backend)
    held = [rig.lease() for _ in range(6)]
    status = rig.group.status()
    assert (status.ejected, status.panics, status.panicked) == (2, True, 4)
    for each in held:
        each.release()


def test_panic_is_told_in_the_log_once(log_events: list[Any]) -> None:
    rig = Nursed(3)
    for backend in rig.backends[:2]:
        rig.pool.eject(backend)
    for _ in range(3):
        rig.lease().release()
    told = [
        each
        for each in log_events
        if "balancers choose among all of them" in str(each["log_format"])
    ]
    assert [(each["ejected"], each["all"]) for each in told] == [(2, 3)]


def test_panic_is_over_when_half_are_healthy() -> None:
    rig = Nursed(3, round_robin())
    for backend in rig.backends[:2]:
        rig.pool.eject(backend)
    rig.lease().release()
    rig.pool.admit(rig.backends[0])
    assert not rig.group.status().panics
    held = [rig.lease() for _ in range(10)]
    assert {str(each.backend) for each in held} == {"a", "c"}


def test_in_panic_an_ejected_backend_serves_who_waits_already() -> None:
    rig = Nursed(3, limit=1)
    held = [rig.at(place) for place in range(3)]
    asked = rig.ask()
    for backend in rig.backends[:2]:
        rig.pool.eject(backend)
    held[1].release()
    assert str(result_of(asked).backend) == "b"


def test_after_a_panic_an_ejected_backend_serves_nobody_who_waited_in_it() -> None:
    rig = Nursed(3, limit=1)
    held = [rig.at(place) for place in range(3)]
    for backend in rig.backends[:2]:
        rig.pool.eject(backend)
    asked = rig.ask()
    rig.pool.admit(rig.backends[0])
    held[1].release()
    with pytest.raises(NotFired):
        result_of(asked)
    held[0].release()
    assert str(result_of(asked).backend) == "a"


def test_only_a_groups_own_backends_count_for_its_panic() -> None:
    rig = Nursed(4)
    group = rig.pool.group(rig.backends[2:])
    for backend in rig.backends[:3]:
        rig.pool.eject(backend)
    assert (group.status().ejected, group.status().panics) == (1, False)
    assert (rig.group.status().ejected, rig.group.status().panics) == (3, True)


# Lists


@pytest.mark.parametrize("name", BALANCERS)
def test_below_half_healthy_all_of_a_list_are_chosen_from(name: str) -> None:
    rig = Nursed(4, limit=3)
    balancer = BALANCERS[name](rig)
    for place in (0, 2, 3):
        rig.pool.eject(rig.backends[place])
    held = [result_of(rig.pool.select("us", rig.backends, balancer)) for _ in range(12)]
    assert {str(each.backend) for each in held} == set("abcd")
    for each in held:
        each.release()


def test_a_request_is_retried_at_an_ejected_backend_of_a_list_in_panic() -> None:
    rig = Nursed(2)
    for backend in rig.backends:
        rig.pool.eject(backend)
    rig.fakes[0].refuse(after=0.1)
    asked = rig.pool.select("us", rig.backends, fill_first)
    rig.clock.pump([0.1, 0])
    assert str(result_of(asked).backend) == "b"


def test_who_waits_for_a_list_is_served_by_what_is_ejected_once_there_is_panic() -> None:
    rig = Nursed(3, limit=1)
    held = [result_of(rig.pool.connect("us", each)) for each in rig.backends]
    rig.pool.eject(rig.backends[0])
    asked = rig.pool.select("us", rig.backends, fill_first)
    held[0].release()
    rig.clock.advance(0)
    with pytest.raises(NotFired):
        result_of(asked)
    rig.pool.eject(rig.backends[1])
    assert str(result_of(asked).backend) == "a"
    for each in held[1:]:
        each.release()


def test_the_panic_of_a_list_is_not_told_in_the_log(log_events: list[Any]) -> None:
    rig = Nursed(3)
    listed = [Backend(fake) for fake in rig.fakes]
    for backend in listed:
        rig.pool.eject(backend)
    for _ in range(3):
        result_of(rig.pool.select("us", listed)).release()
    assert not [each for each in log_events if "are chosen from" in str(each["log_format"])]


def looks_while_all_are_ejected(number: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often managers decide anew while a request is refused by so many backends, each of which
    is ejected for that."""
    clock, looks = Clock(), 0
    fakes = [FakeBackend(clock).refuse(after=0.01, always=True) for _ in range(number)]
    policy = Policy(ejection=Ejection(failures=1))
    pool: Pool[Protocol] = Pool(clock, Protocol, policy=policy)
    asked = pool.group([Backend(each) for each in fakes], fill_first).connect("us")
    decide = ConnectionManager.connections_changed

    def connections_changed(manager: ConnectionManager[Any]) -> None:
        nonlocal looks
        looks += 1
        decide(manager)

    with monkeypatch.context() as patch:
        patch.setattr(ConnectionManager, "connections_changed", connections_changed)
        while not asked.called:
            clock.advance(0.01)
    with pytest.raises(ConnectFailed):
        result_of(asked)
    assert all(each.attempts for each in fakes)
    return looks


def test_an_ejection_costs_the_same_however_many_backends_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few, many = (looks_while_all_are_ejected(each, monkeypatch) for each in (20, 80))
    assert many < 6 * few

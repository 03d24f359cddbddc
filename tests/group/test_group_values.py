"""The fields of the backends in a list: limits, names, weights and zones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from kolus import Backend, LeaseTimeout, Status
from kolus.events import TimedOut
from kolus.testing import FakeBackend, result_of
from tests.rigs.groups import Sourced


def with_limit(backend: Backend, limit: int) -> Backend:
    """The same backend with another limit, as a list may have it of an endpoint string."""
    other = object.__new__(Backend)
    for field in fields(Backend):
        object.__setattr__(other, field.name, getattr(backend, field.name))
    object.__setattr__(other, "limit", limit)
    return other


def test_a_changed_limit_takes_effect() -> None:
    rig = Sourced("")
    backend = rig.known["a"]
    rig.source.tell(Backend("tcp:192.0.2.1:1", limit=1), backend)
    rig.source.tell(Backend("tcp:192.0.2.1:1", limit=7), backend)
    assert [each.limit for each in rig.group.status().backends] == [7, 1]


def test_a_larger_limit_in_another_list_serves_who_waits() -> None:
    rig = Sourced("")
    one = Backend(FakeBackend(rig.clock), name="x", limit=1)
    rig.source.tell(one)
    held = rig.lease()
    asked = rig.ask()
    rig.source.tell(with_limit(one, 2))
    assert asked.called
    held.release()


def test_after_a_smaller_limit_in_another_list_whatever_comes_home_first_goes() -> None:
    rig = Sourced("")
    fake = FakeBackend(rig.clock)
    three = Backend(fake, name="x", limit=3)
    rig.source.tell(three)
    kept, *others = [rig.lease() for _ in range(3)]
    rig.source.tell(with_limit(three, 1))
    for lease in others:
        lease.release()
    rig.clock.pump([0] * 5)
    assert len(fake.connections) == 1
    asked = rig.ask()
    assert not asked.called
    kept.release()
    result_of(asked).release()


def test_a_limit_that_is_told_no_more_is_the_policys_again() -> None:
    rig = Sourced("", limit=3)
    rig.source.tell(Backend("tcp:192.0.2.1:1", limit=7))
    rig.pool.eject("tcp:192.0.2.1:1")
    rig.source.tell(Backend("tcp:192.0.2.1:1"))
    assert [each.limit for each in rig.group.status().backends] == [3]


HERE = "tcp:192.0.2.1:1"


def here(limit: int | None = None, **also: Any) -> Backend:
    return Backend(HERE, limit=limit, **also)


def limit_of(rig: Sourced) -> int:
    """What a manager of that backend has, once it is asked for."""
    rig.pool.connect("us", HERE).addErrback(lambda failure: None).cancel()
    (status,) = rig.pool.status([HERE])
    assert status.manager is not None
    return status.limit


@pytest.mark.parametrize(
    ("lists", "limits"),
    [
        ([here(5), here()], [5, 3]),
        ([here(), here(5), here()], [3, 5, 3]),
        ([here(5), None, here(7)], [5, 5, 7]),
        ([here(5), None, here()], [5, 5, 3]),
        ([None, here(5)], [3, 5]),
    ],
    ids=["no more", "and back", "left and came with another", "left and came without", "came"],
)
def test_the_limit_is_what_the_list_says(lists: list[Backend | None], limits: list[int]) -> None:
    rig = Sourced("", clock=MemoryReactorClock(), limit=3)
    told = []
    for each in lists:
        rig.source.tell(*([each] if each else [rig.known["a"]]))
        told.append(limit_of(rig))
    assert told == limits


def test_a_limit_set_by_hand_holds_until_the_list_says_another() -> None:
    rig = Sourced("", clock=MemoryReactorClock(), limit=3)
    rig.pool.resize(9, HERE)
    for told in ([here(5)], [here(5, weight=2.0)], [rig.known["a"]], [here(6)]):
        rig.source.tell(*told)
        assert limit_of(rig) == 9
    rig.source.tell(here(5))
    assert limit_of(rig) == 5
    rig.pool.resize(9, HERE)
    rig.pool.resize(2)
    assert limit_of(rig) == 9
    rig.source.tell(here())
    assert limit_of(rig) == 2
    rig.pool.resize(4)
    assert limit_of(rig) == 4


def test_of_several_lists_the_newest_that_says_a_limit_is_heeded() -> None:
    rig = Sourced("", clock=MemoryReactorClock(), limit=3)
    rig.source.tell(here(5))
    assert limit_of(rig) == 5
    rig.pool.group([here()])
    assert limit_of(rig) == 5
    group = rig.pool.group([here(7)])
    assert limit_of(rig) == 7
    group.close()
    assert limit_of(rig) == 5
    rig.source.tell(here(6))
    assert limit_of(rig) == 6


def test_the_list_of_a_group_that_is_closed_says_nothing_any_more() -> None:
    rig = Sourced("", clock=MemoryReactorClock(), limit=3)
    rig.source.tell(here(5))
    rig.pool.group([here(7)]).close()
    assert limit_of(rig) == 5


def test_what_messages_call_a_backend_follows_the_list() -> None:
    events: list[Any] = []
    rig = Sourced("", clock=MemoryReactorClock())
    rig.pool._observers.append(events.append)
    rig.source.tell(here(name="old", weight=2.0))
    first = rig.ask(timeout=3.0)
    rig.source.tell(here(name="new", weight=4.0))
    (status,) = rig.pool.status()
    assert (str(status.backend), status.backend.weight) == ("new", 4.0)
    assert "new (open" in str(rig.pool.explain())
    rig.clock.advance(3.0)
    with pytest.raises(LeaseTimeout, match="no connection to new "):
        result_of(first)
    assert [str(each.backend) for each in events if isinstance(each, TimedOut)] == ["new"]
    rig.pool.eject(HERE)
    assert str(events[-1].backend) == "new"


def test_a_backend_that_is_asked_for_by_its_string_is_called_what_the_list_calls_it() -> None:
    rig = Sourced("", clock=MemoryReactorClock(), limit=3)
    rig.source.tell(here(5, name="new"))
    assert limit_of(rig) == 5
    assert [str(each.backend) for each in rig.pool.status()] == ["new"]


def test_a_changed_weight_and_zone_take_effect(logged_failures: Any) -> None:
    rig = Sourced("")
    seen: list[Any] = []

    def look(statuses: Sequence[Status]) -> Status:
        seen.append((statuses[0].backend.weight, statuses[0].backend.zone, statuses[0].load))
        raise ArithmeticError

    for weight, zone in ((1.0, "x"), (4.0, "y")):
        rig.source.tell(Backend("tcp:192.0.2.1:1", weight=weight, zone=zone))
        rig.ask(balancer=look).addErrback(lambda failure: None)
    assert seen == [(1.0, "x", 1.0), (4.0, "y", 0.25)]
    logged_failures.flush(ArithmeticError)

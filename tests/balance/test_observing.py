"""Balancers with C{observe}: they get the time of each lease, or what the lessee reports."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, LeaseError, Policy, Pool, Status
from kolus.balance import prefer_zone
from kolus.testing import FakeBackend, result_of
from tests.conftest import LoggedFailures


class Learning:
    """A balancer that takes the first, and notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, float]] = []

    def __call__(self, statuses: Sequence[Status]) -> Status:
        return statuses[0]

    def observe(self, backend: Backend, seconds: float) -> None:
        self.heard.append((str(backend), seconds))


class Rig:
    """A pool of one backend that a learning balancer chooses."""

    def __init__(self, **policy: Any) -> None:
        self.clock = Clock()
        self.fake = FakeBackend(self.clock)
        self.backend = Backend(self.fake, name="a")
        self.pool: Pool[Any] = Pool(self.clock, Protocol, policy=Policy(**policy))
        self.balancer = Learning()
        self.group = self.pool.group([self.backend], self.balancer)

    def lease(self, how: str) -> Any:
        if how == "select":
            return result_of(self.pool.select("us", [self.backend], self.balancer))
        return result_of(self.group.connect("us"))


kinds = pytest.mark.parametrize("slots", [None, 2], ids=["exclusive", "shared"])


@kinds
@pytest.mark.parametrize("how", ["group", "select"])
def test_the_time_from_lease_to_release_is_heard(how: str, slots: int | None) -> None:
    rig = Rig(slots=slots)
    for seconds in (1.5, 0.5):
        lease = rig.lease(how)
        rig.clock.advance(seconds)
        lease.release()
    assert rig.balancer.heard == [("a", 1.5), ("a", 0.5)]


@kinds
def test_what_the_holder_says_is_heard_in_its_place(slots: int | None) -> None:
    rig = Rig(slots=slots)
    lease = rig.lease("group")
    lease.observe(0.25)
    lease.observe(0.5)
    rig.clock.advance(3)
    lease.release()
    assert rig.balancer.heard == [("a", 0.25), ("a", 0.5)]
    rig.lease("group").release()
    assert rig.balancer.heard[2:] == [("a", 0.0)]


@kinds
def test_of_a_lease_that_was_finished_nothing_is_heard(slots: int | None) -> None:
    rig = Rig(slots=slots)
    for failed in (False, True):
        rig.lease("group").finished(failed=failed)
    assert rig.balancer.heard == []


def test_a_lease_that_is_settled_has_nothing_to_say() -> None:
    lease = Rig().lease("group")
    lease.release()
    with pytest.raises(LeaseError):
        lease.observe(1.0)


@pytest.mark.parametrize("seconds", [-1.0, None, "soon", float("inf"), 10**400])
def test_what_is_no_length_of_time_is_refused(seconds: Any) -> None:
    rig = Rig()
    lease = rig.lease("group")
    with pytest.raises(ValueError, match="seconds"):
        lease.observe(seconds)
    assert rig.balancer.heard == []


def test_a_balancer_that_raises_when_it_hears_harms_nobody(
    logged_failures: LoggedFailures,
) -> None:
    rig = Rig()
    rig.balancer.heard = None  # type: ignore[assignment]
    rig.lease("group").release()
    assert len(logged_failures.flush(AttributeError)) == 1
    assert rig.pool.status([rig.backend])[0].idle == 1
    rig.group.close()
    rig.pool.close(0)


def test_a_balancer_that_hears_of_a_lease_may_end_its_connection() -> None:
    rig = Rig(reset=lambda protocol: None)

    class Ends(Learning):
        def observe(self, backend: Backend, seconds: float) -> None:
            super().observe(backend, seconds)
            rig.fake.connections[-1].reset()

    rig.balancer = Ends()
    lease = rig.lease("select")
    lease.release()
    assert rig.balancer.heard == [("a", 0.0)]
    assert rig.pool.status([rig.backend])[0].idle == 0


def test_an_observe_that_nobody_waits_for_is_logged(logged_failures: LoggedFailures) -> None:
    class Later(Learning):
        async def observe(self, backend: Backend, seconds: float) -> None:  # type: ignore[override]
            raise AssertionError("nobody waits for it")

    rig = Rig()
    rig.balancer = Later()
    rig.lease("select").release()
    (error,) = logged_failures.flush(TypeError)
    assert "returned an object of type coroutine" in str(error)


def test_a_group_that_is_closed_hears_no_more() -> None:
    rig = Rig()
    rig.lease("group").release()
    rig.group.close()
    heard = len(rig.balancer.heard)
    result_of(rig.pool.connect("us", rig.backend)).release()
    assert len(rig.balancer.heard) == heard


def test_a_balancer_made_for_one_request_is_not_kept() -> None:
    rig = Rig()
    rig.lease("group").release()
    for _ in range(20):
        balancer = Learning()
        result_of(rig.pool.select("us", [rig.backend], balancer)).release()
        assert len(balancer.heard) == 1
    record = rig.pool._managers.records.find(rig.backend.key)
    assert record is not None
    del balancer
    result_of(rig.pool.select("us", [rig.backend], Learning())).release()
    assert len(record.feedbacks.known) <= 2


def test_who_learns_through_another_balancer_hears_each_lease_once() -> None:
    rig = Rig()
    rig.group.close()
    for _ in range(3):
        chosen_by = prefer_zone("here", rig.balancer)
        lease = result_of(rig.pool.select("us", [rig.backend], chosen_by))
        del chosen_by
        rig.clock.advance(1)
        lease.release()
    assert len(rig.balancer.heard) == 3


@pytest.mark.parametrize("wrap", [functools.wraps, lambda inner: prefer_zone("", inner)])
def test_a_function_that_a_wrapper_has_too_hears_each_lease_once(wrap: Any) -> None:
    heard: list[str] = []

    def first(statuses: Sequence[Status]) -> Status:
        return statuses[0]

    first.observe = lambda backend, seconds: heard.append(str(backend))  # type: ignore[attr-defined]
    rig = Rig()
    group = rig.pool.group([rig.backend], first)
    for _ in range(3):
        made = wrap(first)
        wrapper = made(lambda statuses: first(statuses)) if wrap is functools.wraps else made
        result_of(group.connect("us", balancer=wrapper)).release()
        del made, wrapper
        result_of(group.connect("us")).release()
    assert heard == ["a"] * 6
    group.close()
    result_of(rig.pool.connect("us", rig.backend)).release()
    assert heard == ["a"] * 6

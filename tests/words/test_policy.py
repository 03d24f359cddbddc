"""The policy: its defaults, the original's, and everything that it refuses."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from kolus import Policy
from kolus.backoff import Backoff
from kolus.balance import fill_first


def test_the_defaults_are_the_documented_ones() -> None:
    policy = Policy()
    assert (policy.limit, policy.min_idle, policy.max_connecting) == (10, 0, None)
    assert (policy.acquire_timeout, policy.connect_timeout) == (5, 5)
    assert (policy.prepare_timeout, policy.check_timeout, policy.reset_timeout) == (5, 1, 5)
    assert (policy.idle_timeout, policy.idle_jitter) == (60, 0.1)
    assert (policy.lifetime, policy.lifetime_jitter) == (1800, 0.2)
    assert (policy.manager_idle_timeout, policy.reuse) == (300, "lifo")
    assert policy.backoff == Backoff(0.25, 2, 2)


def test_the_originals_policy_is_its_numbers_and_its_manners() -> None:
    policy = Policy.erlang()
    assert (policy.limit, policy.max_waiters, policy.reuse) == (10, 0, "fifo")
    assert (policy.connect_timeout, policy.idle_timeout, policy.idle_jitter) == (5, 5, 0)
    assert (policy.manager_idle_timeout, policy.lifetime, policy.backoff) == (5, None, None)
    assert policy.balancer is fill_first
    assert Policy.erlang(limit=3, idle_timeout=1.0).limit == 3


@pytest.mark.parametrize(("limit", "most"), [(1, 100), (10, 100), (11, 110)])
def test_the_queue_is_ten_times_the_limit_and_at_least_a_hundred(limit: int, most: int) -> None:
    assert Policy().most_waiters(limit) == most
    assert Policy(max_waiters=7).most_waiters(limit) == 7


def test_a_policy_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Policy().limit = 5  # type: ignore[misc]


DURATIONS = [
    name
    for name in Policy.__dataclass_fields__
    if name.endswith("_timeout") or name in ("lifetime", "check_after")
]


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize("value", [-1, math.nan, "5", True])
def test_a_duration_that_is_none_is_refused_and_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must"):
        Policy(**{name: value})


@pytest.mark.parametrize("name", [name for name in DURATIONS if name != "check_after"])
def test_a_duration_may_be_without_a_bound(name: str) -> None:
    assert getattr(Policy(**{name: None}), name) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", 0),
        ("limit", -3),
        ("limit", 2.0),
        ("limit", "10"),
        ("limit", True),
        ("max_waiters", -1),
        ("max_connecting", 0),
        ("min_idle", -1),
        ("idle_jitter", 1),
        ("lifetime_jitter", -0.1),
        ("lifetime_jitter", "some"),
        ("reuse", "random"),
        ("check_after", None),
        ("debug", "no"),
        ("fail_fast", 1),
    ],
)
def test_a_value_out_of_its_range_is_refused_and_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must .*{value}"):
        Policy(**{name: value})


@pytest.mark.parametrize("name", ["prepare", "check", "reset", "balancer"])
def test_a_hook_that_is_no_callable_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be callable"):
        Policy(**{name: "PING"})  # type: ignore[arg-type]


def test_a_back_off_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="backoff must be a Backoff"):
        Policy(backoff=1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("needy", [{"fail_fast": False}, {"min_idle": 1}])
def test_what_retries_by_itself_needs_a_back_off(needy: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needs a backoff"):
        Policy(backoff=None, **needy)

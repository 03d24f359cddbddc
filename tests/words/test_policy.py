"""The policy: its defaults, the original's, and everything that it refuses."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from kolus import Policy
from kolus.backoff import Backoff
from kolus.balance import fill_first


def test_the_defaults_are_the_documented_ones() -> None:
    policy = Policy()
    assert (policy.limit, policy.min_idle, policy.max_connecting) == (10, 0, None)
    assert policy.max_waiters is None
    assert (policy.acquire_timeout, policy.connect_timeout) == (5, 5)
    assert (policy.prepare_timeout, policy.check_timeout, policy.reset_timeout) == (5, 1, 5)
    assert (policy.idle_timeout, policy.idle_jitter) == (60, 0.1)
    assert (policy.lifetime, policy.lifetime_jitter) == (1800, 0.2)
    assert (policy.manager_idle_timeout, policy.reuse) == (300, "lifo")
    assert policy.idents == "separate"
    assert policy.backoff == Backoff(0.25, 2, 2)


def test_the_originals_policy_is_its_numbers_and_its_manners() -> None:
    policy = Policy.erlang()
    assert (policy.limit, policy.max_waiters, policy.reuse) == (10, 0, "fifo")
    assert (policy.connect_timeout, policy.idle_timeout, policy.idle_jitter) == (5, 5, 0)
    assert (policy.manager_idle_timeout, policy.lifetime, policy.backoff) == (5, None, None)
    assert (policy.balancer, policy.idents) == (fill_first, "reject")
    assert Policy.erlang(limit=3, idle_timeout=1.0).limit == 3


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


@pytest.mark.parametrize(
    "name",
    ["connect", "prepare", "check", "reset", "probe", "idle", "tcp", "lifetime", "keepalive"],
)
def test_a_time_that_nothing_can_keep_is_refused(name: str) -> None:
    name = name if name in ("lifetime", "keepalive") else f"{name}_timeout"
    with pytest.raises(ValueError, match=f"{name} must be more than 0; None turns it off"):
        Policy(**{name: 0.0})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["prepare", "check", "reset", "balancer"])
def test_a_hook_that_is_no_callable_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be callable"):
        Policy(**{name: "PING"})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["prepare", "check", "reset", "clean", "probe"])
@pytest.mark.parametrize("wrong", [lambda: True, lambda a, b, c: True, lambda a, *, b: True])
def test_a_hook_that_cannot_be_called_with_a_protocol_is_refused(name: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be callable with a protocol.*<lambda>"):
        Policy(**{name: wrong})


@pytest.mark.parametrize("name", ["check", "reset", "clean", "probe"])
@pytest.mark.parametrize("fine", [lambda a, b=1: True, lambda *a: True, bytes.strip, dict])
def test_a_hook_that_can_be_called_with_a_protocol_is_accepted(name: str, fine: Any) -> None:
    assert getattr(Policy(**{name: fine}), name) is fine


def test_a_back_off_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="backoff must be a Backoff"):
        Policy(backoff=1.0)  # type: ignore[arg-type]


def hook(protocol: object) -> None:
    """Does nothing."""


CONTRADICTIONS: list[tuple[dict[str, Any], list[str]]] = [
    ({"min_idle": 20, "limit": 10}, ["min_idle=20", "limit=10"]),
    ({"min_idle": 11}, ["min_idle=11", "limit=10"]),
    ({"min_idle": 2, "limit": 1, "slots": 5}, ["min_idle=2", "limit=1"]),
    ({"slots": 2, "reset": hook}, ["slots", "reset"]),
    ({"fail_fast": False, "backoff": None}, ["fail_fast=False", "backoff"]),
    ({"min_idle": 1, "backoff": None}, ["min_idle", "backoff"]),
    ({"probe": hook, "ejection": None}, ["probe", "ejection"]),
    ({"check": hook, "check_after": 61}, ["check_after=61", "idle_timeout=60.0"]),
    ({"check": hook, "idle_timeout": 2.0}, ["check_after=5.0", "idle_timeout=2.0"]),
    ({"check": hook, "lifetime": 4.0}, ["check_after=5.0", "lifetime=4.0"]),
    ({"check": hook, "lifetime": 4.0, "min_idle": 1}, ["check_after=5.0", "lifetime=4.0"]),
    ({"check": hook, "keepalive": 20.0, "lifetime": 10.0}, ["keepalive=20.0", "lifetime=10.0"]),
    ({"check": hook, "keepalive": 20.0, "max_idle": 0}, ["keepalive=20.0", "max_idle=0"]),
]


@pytest.mark.parametrize(("settings", "named"), CONTRADICTIONS)
@pytest.mark.parametrize("make", [Policy, lambda **changes: replace(Policy(), **changes)])
def test_settings_that_contradict_each_other_are_refused_and_both_are_named(
    make: Any, settings: dict[str, Any], named: list[str]
) -> None:
    with pytest.raises(ValueError, match=".*".join(named)):
        make(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"min_idle": 10},
        {"limit": 1, "max_connecting": 5},
        {"check": hook, "check_after": 60.0},
        {"check": hook, "check_after": 90.0, "idle_timeout": None},
        {"check": hook, "check_after": 90.0, "min_idle": 1},
        {"check": hook, "max_idle": 0},
        {"reset": hook, "max_uses": 1},
        {"lifetime": 10.0},
        {"acquire_timeout": 1.0},
        {"idle_timeout": None, "lifetime": None},
    ],
)
def test_settings_that_may_be_meant_are_accepted(settings: dict[str, Any]) -> None:
    assert Policy(**settings)


def test_a_limit_set_at_run_time_may_be_below_min_idle() -> None:
    policy = Policy(min_idle=5).resized(3)
    assert (policy.limit, policy.min_idle) == (3, 5)
    assert policy.resized(10) == Policy(min_idle=5)


@pytest.mark.parametrize("needy", [{"fail_fast": False}, {"min_idle": 1}])
def test_what_retries_by_itself_needs_a_back_off(needy: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needs a backoff"):
        Policy(backoff=None, **needy)

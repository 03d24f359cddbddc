"""Invalid arguments of a group are refused at once."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, Pool
from tests.rigs.groups import Sourced


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ([], ValueError, "at least one backend"),
        (["tcp:192.0.2.1:1", ("192.0.2.1", 1)], ValueError, "given twice"),
        (None, TypeError, "None"),
        ("tcp:192.0.2.1:1", TypeError, "several backends, not .tcp"),
        (5, TypeError, "5"),
        ([5], TypeError, "5"),
        (["nonsense"], ValueError, "nonsense"),
        (Backend("tcp:192.0.2.1:1"), TypeError, "192"),
    ],
)
def test_what_is_no_source_is_refused_at_once(source: Any, error: Any, says: str) -> None:
    pool: Pool[Any] = Pool(Clock(), Protocol)
    with pytest.raises(error, match=says):
        pool.group(source)


@pytest.mark.parametrize("balancer", [5, "round_robin"])
def test_what_is_no_balancer_is_refused_at_once(balancer: Any) -> None:
    rig = Sourced("a")
    for call in (
        lambda: rig.pool.group([rig.known["a"]], balancer),
        lambda: rig.ask(balancer=balancer),
        lambda: rig.group.try_connect("us", balancer=balancer),
    ):
        with pytest.raises(TypeError, match="balancer must be callable"):
            call()


@pytest.mark.parametrize("told", ["", "a"])
@pytest.mark.parametrize("exclude", [[5], ["nonsense"], [None]])
def test_an_exclude_that_is_no_backend_is_refused_at_once(told: str, exclude: Any) -> None:
    rig = Sourced(told)
    with pytest.raises((TypeError, ValueError), match="not a "):
        rig.ask(exclude=exclude)


@pytest.mark.parametrize("told", ["", "a"])
@pytest.mark.parametrize("exclude", ["tcp:192.0.2.1:1", Backend("tcp:192.0.2.1:1"), 5])
def test_an_exclude_that_is_not_several_is_refused_at_once(told: str, exclude: Any) -> None:
    rig = Sourced(told)
    with pytest.raises(TypeError, match="exclude"):
        rig.ask(exclude=exclude)


@pytest.mark.parametrize("told", ["", "a"])
@pytest.mark.parametrize("timeout", [-1, "5", float("nan"), True])
def test_a_timeout_that_is_no_time_is_refused_at_once(told: str, timeout: Any) -> None:
    rig = Sourced(told)
    with pytest.raises(ValueError, match="timeout"):
        rig.ask(timeout=timeout)


@pytest.mark.parametrize("told", ["", "a"])
def test_an_owner_that_can_be_none_is_refused_at_once(told: str) -> None:
    rig = Sourced(told)
    with pytest.raises(TypeError, match="owner"):
        rig.ask(owner=5)

"""What C{str()} and C{help()} tell of the values of a pool."""

from __future__ import annotations

import pydoc
from dataclasses import fields
from enum import Enum
from typing import Any

import pytest
from twisted.internet.task import Clock

from kolus import Backend, Ejection, GroupStatus, Policy, Pool, Status, events, metrics, status
from kolus.backoff import Backoff
from kolus.status import Counters
from kolus.testing import FakeBackend, result_of
from kolus.tunnel import pump
from kolus.watching import explanation
from tests.rigs.speakers import Protocol


def pool_of(names: str) -> tuple[Pool[Any], list[Backend]]:
    clock = Clock()
    backends = [Backend(FakeBackend(clock), name=name) for name in names]
    return Pool(clock, Protocol, policy=Policy(limit=2)), backends


# str()


def test_a_status_is_a_line_to_read() -> None:
    pool, (backend,) = pool_of("b")
    assert str(pool.status([backend])[0]) == (
        "b (absent: limit 2, idle 0, leased 0, connecting 0, waiting 0)"
    )
    lease = result_of(pool.connect("u", backend))
    now = pool.status([backend])[0]
    assert str(now) == "b (open: limit 2, idle 0, leased 1, connecting 0, waiting 0)"
    assert repr(now).startswith("Status(backend=Backend(")
    lease.release()


def test_the_status_of_a_group_is_a_line_to_read() -> None:
    pool, backends = pool_of("abc")
    group = pool.group(backends, name="shards")
    held = result_of(group.connect("u"))
    assert str(group.status()) == (
        "group shards (3 backends: idle 0, leased 1, connecting 0, waiting 0)"
    )
    pool.eject(backends[0])
    assert str(group.status()).startswith("group shards (3 backends, 1 ejected: ")
    for each in backends:
        pool.eject(each)
    assert "3 ejected, in panic: all may be chosen: " in str(group.status())
    assert str(pool.group(backends).status()).startswith("a group (3 backends")
    assert repr(group.status()).startswith("GroupStatus(name='shards', backends=(Status(")
    held.release()


def test_counters_are_a_line_to_read() -> None:
    pool, (backend,) = pool_of("b")
    assert str(pool.counters()) == "nothing yet"
    result_of(pool.connect("u", backend)).release()
    assert str(pool.counters()) == "connects 1, leases 1, releases 1"
    assert str(Counters(connect_failures=2)) == "connect failures 2"
    assert repr(Counters(closes=1)).startswith("Counters(connects=0, connect_failures=0, closes=1")


# help()


def public(module: Any) -> list[type]:
    """The dataclasses and enums of a module."""
    found = [getattr(module, name) for name in module.__all__]
    return [
        each
        for each in found
        if isinstance(each, type)
        and (hasattr(each, "__dataclass_fields__") or issubclass(each, Enum))
    ]


VALUES = [Policy, Backend, Ejection, Backoff, Status, GroupStatus]
for module in (status, events, metrics, explanation, pump):
    VALUES += [each for each in public(module) if each not in VALUES]


def names_of(kind: Any) -> list[str]:
    """Its members or fields. What it inherits is told where it comes from."""
    if issubclass(kind, Enum):
        return list(kind.__members__)
    own = vars(kind).get("__annotations__", {})
    return [each.name for each in fields(kind) if each.name in own]


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
def test_help_describes_each_field(kind: type) -> None:
    text = pydoc.render_doc(kind, renderer=pydoc.plaintext)
    for name in names_of(kind):
        assert f"var {name}: " in text, f"{kind.__name__}.{name}"


def test_help_of_a_policy_says_what_a_setting_is_for() -> None:
    text = " ".join(pydoc.render_doc(Policy, renderer=pydoc.plaintext).split())
    assert "idle_timeout: time after which an idle connection is closed" in text

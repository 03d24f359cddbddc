"""Invalid arguments of a pool: a clear error at once, and nothing changes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from zope.interface import classImplements

from kolus import (
    Backend,
    ConnectionManager,
    Ejection,
    IKolusManager,
    LeaseError,
    Policy,
    Pool,
)
from kolus.testing import FakeBackend, result_of
from tests.rigs.pools import Pooled


@pytest.mark.parametrize("backend", [None, 42, b"tcp:a:1", object(), ["tcp:a:1"]])
def test_a_backend_that_is_none_is_refused(backend: Any) -> None:
    pool: Pool[Any] = Pool(Clock(), Protocol)
    for call in (pool.try_connect, pool.connect):
        with pytest.raises(TypeError, match="not a backend"):
            call("us", backend)
    with pytest.raises(TypeError, match="not a backend"):
        pool.select("us", [backend])
    assert pool.status() == []


def test_an_ident_that_cannot_be_hashed_is_held_against_no_backend() -> None:
    clock = Clock()
    backend = Backend(FakeBackend(clock), name="a")
    pool: Pool[Any] = Pool(clock, Protocol, policy=Policy(ejection=Ejection(failures=1)))
    ident: Any = ["us"]
    for call in (pool.connect, pool.try_connect):
        with pytest.raises(TypeError, match="unhashable"):
            call(ident, backend)
    with pytest.raises(TypeError, match="unhashable"):
        pool.select(ident, [backend])
    for asked in (pool.warm(backend, 1, ident=ident), pool.run(ident, [backend], repr)):
        assert result_of(asked.addErrback(lambda failure: failure.type)) is TypeError
    assert pool.connect("us", backend).called


def test_nothing_is_not_several() -> None:
    with pytest.raises(TypeError, match="backends must be several"):
        Pool(Clock(), Protocol).select("us", None)  # type: ignore[arg-type]


def test_a_limit_of_the_pool_below_what_is_kept_ready_is_refused_and_both_are_named() -> None:
    with pytest.raises(ValueError, match=r"min_idle=5 is more than the pool's limit=2"):
        Pool(Clock(), Protocol, limit=2, policy=Policy(min_idle=5))


def test_a_bad_timeout_makes_no_manager() -> None:
    rig = Pooled()
    with pytest.raises(ValueError, match="timeout must not be negative"):
        rig.pool.connect("us", rig.backends[0], timeout=-1)
    assert rig.pool.status() == []


def test_a_manager_that_cannot_be_kept_is_refused_and_not_kept() -> None:
    made = ConnectionManager(Clock(), Protocol, Backend(FakeBackend(Clock())), "us")

    class Unreferable:
        """Provides the interface, but has no room for a weak reference."""

        __slots__ = ("backend", "ident")

        def __getattr__(self, name: str) -> Any:
            return getattr(made, name)

    classImplements(Unreferable, IKolusManager)
    unreferable: Any = Unreferable()
    unreferable.backend, unreferable.ident = made.backend, made.ident
    pool: Pool[Any] = Pool(Clock(), Protocol, make_manager=lambda backend, ident: unreferable)
    for _ in range(2):
        with pytest.raises(TypeError, match="weak reference"):
            pool.connect("us", "tcp:localhost:1")
    assert pool.status() == []


def test_a_single_backend_is_not_several() -> None:
    with pytest.raises(TypeError, match="backends must be several"):
        Pool(Clock(), Protocol).select("us", "tcp:localhost:1")


@pytest.mark.parametrize(
    ("exclude", "error", "says"),
    [
        ("tcp:localhost:1", TypeError, "exclude must be several backends"),
        (Backend("tcp:localhost:1"), TypeError, "exclude must be several backends"),
        (5, TypeError, "exclude must be several backends"),
        (["nonsense"], ValueError, "not a client endpoint string: 'nonsense'"),
        ([5], TypeError, "not a backend"),
    ],
)
def test_what_cannot_be_excluded_is_refused(exclude: Any, error: Any, says: str) -> None:
    pool: Pool[Any] = Pool(Clock(), Protocol)
    with pytest.raises(error, match=says):
        pool.select("us", ["tcp:localhost:1", "tcp:localhost:2"], exclude=exclude)
    assert pool.status() == []


def test_an_endpoint_that_this_reactor_cannot_make_is_refused() -> None:
    pool: Pool[Any] = Pool(Clock(), Protocol)
    with pytest.raises(ValueError, match="not a client endpoint string: 'tls:"):
        pool.connect("us", "tls:example.org")
    assert pool.status() == []


@pytest.mark.parametrize("timeout", [-1, float("nan"), "soon", True])
def test_a_bad_timeout_is_refused_at_once(timeout: Any) -> None:
    rig = Pooled()
    result_of(rig.pool.connect("us", rig.backends[0])).release()
    for call in (
        lambda: rig.pool.connect("us", rig.backends[0], timeout=timeout),
        lambda: rig.pool.select("us", rig.backends, timeout=timeout),
        lambda: rig.pool.close(timeout),
    ):
        with pytest.raises(ValueError, match="timeout must"):
            call()
    assert rig.pool.status()[0].idle == 1


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("policy", 5),
        ("make_manager", 5),
        ("observers", [5]),
        ("observers", print),
        ("protocol", 5),
        ("rng", 5),
    ],
)
def test_a_pool_refuses_what_it_cannot_use(argument: str, value: Any) -> None:
    arguments = {"reactor": Clock(), "protocol": Protocol} | {argument: value}
    with pytest.raises(
        TypeError, match=f"must .*, not {re.escape(repr(value))}|an observer must be"
    ):
        Pool(**arguments)


@pytest.mark.parametrize("value", [None, 5, "tcp:127.0.0.1:6379"])
def test_what_is_no_reactor_is_refused_by_its_type(value: Any) -> None:
    kind = type(value).__name__
    with pytest.raises(TypeError, match=f"reactor must be .*, not a {kind}: it comes first"):
        Pool(value, Protocol)


@pytest.mark.parametrize("failure", [None, False, True, 5, b"down", ValueError("down")])
def test_a_result_of_a_health_check_is_a_text(failure: Any) -> None:
    rig = Pooled()
    with pytest.raises(TypeError, match="failure must be a string that says why"):
        rig.pool.checked(rig.backends[0], failure)
    assert rig.pool.connect("us", rig.backends[0]).called


def test_limits_are_shared_with_another_pool_only() -> None:
    rig = Pooled()
    other: Any
    for other in (None, True, rig.backends[0]):
        with pytest.raises(TypeError, match="shares its limits with another pool, not"):
            rig.pool.share_limits(other)


def test_a_balancer_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="balancer must be callable"):
        Pool(Clock(), Protocol).select("us", ["tcp:localhost:1"], "pick_two")  # type: ignore[arg-type]


def test_settling_another_pools_lease_is_refused_and_changes_nothing() -> None:
    rig, other = Pooled(), Pooled()
    lease = result_of(other.pool.connect("us", other.backends[0]))
    for call in (rig.pool.return_, rig.pool.finished, rig.pool.get_socket):
        with pytest.raises(LeaseError, match="is not of this pool"):
            call(lease)
        with pytest.raises(LeaseError, match="not a lease"):
            call(object())  # type: ignore[arg-type]
    assert lease.held
    lease.release()
    with pytest.raises(LeaseError, match="settled before"):
        other.pool.return_(lease)

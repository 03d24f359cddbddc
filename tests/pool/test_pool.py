"""The pool on a clock: managers by backend, the calls of the original, a user's own managers."""

from __future__ import annotations

import gc
import socket
from typing import Any

import pytest
from twisted.internet.interfaces import ISystemHandle
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from zope.interface import alsoProvides

from kolus import (
    Backend,
    ConnectionManager,
    LeaseError,
    Policy,
    Pool,
    PoolFull,
    WrongIdent,
    protocol_factory,
)
from kolus.events import Event, Leased
from kolus.status import State
from kolus.testing import FakeBackend, NotFired, result_of
from tests.rigs.pools import Pooled

# The seed's calls


def test_the_seeds_calls_work_under_their_names() -> None:
    rig = Pooled()
    pool, backend = rig.pool, rig.backends[0]
    lease = result_of(pool.connect("us", backend))
    assert pool.get_manager(lease) is pool.manager(backend)
    pool.return_(lease)
    lease = result_of(pool.connect("us", backend))
    assert lease.reused
    pool.finished(lease)
    rig.turn()
    (status,) = pool.status([backend])
    assert (status.idle, status.unused) == (0, 2)


def test_get_socket_gives_the_transports_socket() -> None:
    rig = Pooled()
    lease = result_of(rig.pool.connect("us", rig.backends[0]))
    with pytest.raises(LeaseError, match="has no socket"):
        rig.pool.get_socket(lease)
    with socket.socket() as handle:
        lease.protocol.transport.getHandle = lambda: handle
        alsoProvides(lease.protocol.transport, ISystemHandle)
        assert rig.pool.get_socket(lease) is handle
    lease.release()


def test_status_of_a_backend_without_a_manager_has_no_numbers_to_give() -> None:
    rig = Pooled()
    result_of(rig.pool.connect("us", rig.backends[1])).release()
    absent, present = rig.pool.status(rig.backends[:2])
    assert (absent.manager, absent.idle, absent.unused) == (None, None, None)
    assert (absent.state, absent.limit, absent.leased) == (State.ABSENT, 2, 0)
    assert (present.idle, present.unused, present.ident) == (1, 1, "us")
    assert [each.backend for each in rig.pool.status()] == [rig.backends[1]]


def test_status_shows_the_backend_as_it_was_asked_for() -> None:
    pool: Pool[Any] = Pool(Clock(), Protocol)
    near = Backend("tcp:127.0.0.1:9", zone="here")
    assert pool.status([near])[0].backend.zone == "here"


# Managers


def test_the_same_endpoint_string_is_the_same_manager() -> None:
    made: list[Backend] = []

    def make(backend: Backend, ident: Any) -> ConnectionManager[Any]:
        made.append(backend)
        return ConnectionManager(clock, Protocol, Backend(FakeBackend(clock)), ident)

    clock = Clock()
    pool: Pool[Any] = Pool(clock, Protocol, make_manager=make)
    for backend in ("tcp:localhost:9", ("localhost", 9), Backend("tcp:localhost:9", name="x")):
        result_of(pool.connect("us", backend)).release()
    assert len(made) == 1


def test_a_backends_own_limit_overrides_the_policys() -> None:
    rig = Pooled()
    backend = Backend(rig.fakes[0], limit=1)
    held = result_of(rig.pool.connect("us", backend))
    assert rig.pool.status([backend])[0].limit == 1
    with pytest.raises(NotFired):
        result_of(rig.pool.connect("us", backend).addErrback(lambda failure: None))
    held.release()


def test_a_manager_may_be_named_instead_of_its_backend() -> None:
    rig = Pooled()
    result_of(rig.pool.connect("us", rig.backends[0])).release()
    manager = rig.pool.manager(rig.backends[0])
    assert manager is not None
    assert result_of(rig.pool.connect("us", manager)).manager is manager
    gc.collect()
    rig.turn()


def test_another_pools_manager_is_refused() -> None:
    rig, other = Pooled(), Pooled()
    result_of(other.pool.connect("us", other.backends[0])).release()
    with pytest.raises(ValueError, match="is not a manager of this pool"):
        rig.pool.connect("us", other.pool.manager(other.backends[0]))  # type: ignore[arg-type]


# 21, 22: a manager goes away, and belongs to one ident


def test_a_manager_goes_away_and_its_counters_survive() -> None:
    rig = Pooled(manager_idle_timeout=300)
    backend = rig.backends[0]
    result_of(rig.pool.connect("us", backend)).finished()
    rig.turn()
    rig.clock.advance(300)
    assert rig.pool.manager(backend) is None
    assert rig.pool.status() == []
    result_of(rig.pool.connect("us", backend)).finished()
    assert rig.pool.counters(backend).leases == 2
    assert rig.pool.counters().finishes == 2
    assert rig.pool.counters(rig.backends[1]).leases == 0


def test_with_idents_reject_another_ident_is_rejected_while_the_manager_lives() -> None:
    rig = Pooled(manager_idle_timeout=300, idents="reject")
    backend = rig.backends[0]
    result_of(rig.pool.connect("us", backend)).finished()
    rig.turn()
    with pytest.raises(WrongIdent, match="belongs to another ident than 'them'"):
        result_of(rig.pool.connect("them", backend))
    with pytest.raises(WrongIdent):
        rig.pool.try_connect("them", backend)
    rig.clock.advance(300)
    assert result_of(rig.pool.connect("them", backend)).ident == "them"
    gc.collect()
    rig.turn()


def test_the_original_is_a_policy() -> None:
    clock = Clock()
    fake = FakeBackend(clock)
    backend = Backend(fake)
    pool: Pool[Any] = Pool(clock, Protocol, policy=Policy.erlang(limit=1))
    lease = result_of(pool.connect("us", backend))
    with pytest.raises(PoolFull):
        result_of(pool.connect("us", backend))
    lease.release()
    clock.advance(5)
    assert not fake.connections or pool.status()[0].idle == 0
    clock.pump([0, 5])
    assert pool.manager(backend) is None


# try_connect


def test_try_connect_makes_neither_a_manager_nor_a_connection() -> None:
    rig = Pooled()
    assert rig.pool.try_connect("us", rig.backends[0]) is None
    assert rig.pool.status() == []
    result_of(rig.pool.connect("us", rig.backends[0])).release()
    lease = rig.pool.try_connect("us", rig.backends[0])
    assert lease is not None
    lease.release()


# 23: one bad backend never stops another


def test_a_backend_that_fails_does_not_disturb_another() -> None:
    rig = Pooled()
    rig.fakes[0].refuse(always=True)
    rig.pool.connect("us", rig.backends[0]).addErrback(lambda failure: None)
    lease = result_of(rig.pool.connect("us", rig.backends[1]))
    assert lease.backend == rig.backends[1]
    lease.release()


# Observers


def test_observers_hear_of_every_manager() -> None:
    clock = Clock()
    events: list[Event] = []
    pool: Pool[Any] = Pool(clock, Protocol, observers=[events.append])
    backends = [Backend(FakeBackend(clock)) for _ in range(2)]
    for backend in backends:
        result_of(pool.connect("us", backend)).release()
    assert [each.backend for each in events if isinstance(each, Leased)] == backends


# Other people's managers and factories


def test_what_is_no_manager_is_refused_at_construction() -> None:
    pool: Pool[Any] = Pool(Clock(), Protocol, make_manager=lambda backend, ident: object())  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match="make_manager gave no IKolusManager"):
        pool.connect("us", "tcp:localhost:1")
    assert pool.status() == []


def test_a_librarys_own_factory_is_adapted() -> None:
    clock = Clock()
    factory = Factory.forProtocol(Protocol)
    factory.noisy = False
    pool = Pool(clock, protocol_factory(factory))
    lease = result_of(pool.connect("us", Backend(FakeBackend(clock))))
    assert lease.protocol.factory is factory
    lease.release()


def test_a_factory_has_to_be_adapted() -> None:
    with pytest.raises(TypeError, match="see protocol_factory"):
        Pool(Clock(), Factory())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not an IProtocolFactory"):
        protocol_factory(Protocol)  # type: ignore[arg-type]


def test_the_pool_makes_the_endpoints_of_its_backends_as_it_is_told() -> None:
    clock = Clock()
    rig = FakeBackend(clock)
    made: list[Backend] = []

    def make(reactor: object, backend: Backend) -> FakeBackend:
        made.append(backend)
        return rig

    pool = Pool(clock, Protocol, make_endpoint=make)
    backend = Backend("tcp:192.0.2.1:80")
    leases = [result_of(pool.connect("us", backend)) for _ in range(2)]
    assert made == [backend]
    assert rig.attempts == 2
    for lease in leases:
        lease.finished()
    with pytest.raises(TypeError, match="make_endpoint must be callable"):
        Pool(clock, Protocol, make_endpoint=3)  # type: ignore[arg-type]

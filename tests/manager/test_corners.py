"""Corner cases from a review: user code that calls back into the pool or breaks its contract."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from kolus import (
    Backend,
    ConnectFailed,
    Draining,
    Lease,
    LeaseError,
    LeaseTimeout,
    Policy,
    Pool,
    PoolService,
)
from kolus.events import Lost, Resized
from kolus.status import State
from kolus.testing import FakeBackend, result_of
from kolus.testing.transport import FakeTransport
from tests.rigs.either import either
from tests.rigs.pools import Managed, Pooled
from tests.rigs.sharing import Multiplexed, Sharing


class Hearing(Protocol):
    """Notes why it was lost, and who released what then."""

    def __init__(self) -> None:
        self.losses: list[Failure] = []
        self.lease: Lease[Any] | None = None

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.losses.append(reason)
        if self.lease is not None:
            self.lease.release()


# Callbacks that call back


@either
def test_one_that_asks_again_as_it_is_served_does_not_overtake_the_queue(rig_of: Any) -> None:
    rig = rig_of(limit=2)
    for lease in [rig.lease(), rig.lease()]:
        lease.release()
    rig.manager.pause()
    served: list[str] = []

    def serve(lease: Lease[Any], name: str) -> None:
        if name == "first":
            rig.ask().addCallback(serve, "newcomer")
        served.append(name)
        lease.release()

    for name in ("first", "second"):
        rig.ask().addCallback(serve, name)
    rig.manager.resume()
    assert served == ["first", "second", "newcomer"]


def test_growing_reaches_every_backend_whatever_those_it_serves_do() -> None:
    rig = Pooled(limit=1)
    held = result_of(rig.pool.connect("us", rig.backends[0]))
    result_of(rig.pool.connect("us", rig.backends[1])).release()
    waiting = rig.pool.connect("us", rig.backends[0])
    more = waiting.addCallback(lambda lease: (lease, rig.pool.connect("us", rig.backends[2])))
    rig.pool.resize(5)
    assert [each.limit for each in rig.pool.status()] == [5, 5, 5]
    lease, asked = result_of(more)
    for each in (held, lease, result_of(asked)):
        each.release()


def test_an_observer_of_a_resizing_may_resize_again() -> None:
    clock = Clock()
    limits: list[int] = []

    def grow(event: object) -> None:
        if isinstance(event, Resized) and event.limit < 9:
            limits.append(event.limit)
            pool.resize(9)

    pool: Pool[Any] = Pool(clock, Protocol, observers=[grow])
    lease = result_of(pool.connect("us", Backend(FakeBackend(clock))))
    pool.resize(5)
    assert limits == [5]
    assert pool.status()[0].limit == 9
    assert pool._managers.limits.descriptors.total == 9
    lease.release()


def test_what_pauses_while_it_is_served_stays_paused() -> None:
    rig = Pooled()
    rig.pool.pause()
    waiting = rig.pool.connect("us", rig.backends[0])
    rig.pool.connect("us", rig.backends[1]).addErrback(lambda failure: failure.trap(LeaseTimeout))
    waiting.addCallback(lambda lease: (rig.pool.pause(), lease.release()))
    rig.pool.resume()
    assert [each.state for each in rig.pool.status()] == [State.PAUSED, State.PAUSED]
    rig.clock.advance(5)


def test_a_growing_limit_is_used_at_once_by_whoever_can() -> None:
    rig = Pooled(limit=1, idents="separate", idle_timeout=1.0)
    fake, backend = rig.fakes[0], rig.backends[0]
    result_of(rig.pool.connect("c", backend)).release()
    rig.clock.pump([2, 0])
    held = result_of(rig.pool.connect("a", backend))
    hopeless, waiting = (rig.pool.connect(ident, backend, timeout=3) for ident in "bc")
    fake.never_answer()
    rig.pool.resize(3, backend)
    result_of(waiting).release()
    held.release()
    rig.clock.advance(3)
    with pytest.raises(LeaseTimeout):
        result_of(hopeless)


def test_an_ident_that_is_taken_over_as_it_takes_over_is_drained_not_closed() -> None:
    rig = Pooled(limit=1, idents="replace")
    held = result_of(rig.pool.connect("old", rig.backends[0]))
    again: list[Deferred[Any]] = []
    rig.pool.connect("old", rig.backends[0]).addErrback(
        lambda failure: again.append(rig.pool.connect("old", rig.backends[0]))
    )
    with pytest.raises(Draining, match="taken over by another ident"):
        result_of(rig.pool.connect("new", rig.backends[0]))
    held.release()
    rig.turn()
    result_of(again[0]).release()


# Owners


@pytest.mark.parametrize("debug", [False, True])
def test_a_leased_protocol_that_owns_hears_of_its_loss_when_its_lease_is_over(debug: bool) -> None:
    clock = Clock()
    fake = FakeBackend(clock)
    front, back = Backend(fake), Backend(FakeBackend(clock))
    protocols: list[Hearing] = []

    def build() -> Hearing:
        protocols.append(Hearing())
        return protocols[-1]

    pool = Pool(clock, build, policy=Policy(debug=debug))
    lease = result_of(pool.connect("us", front))
    result_of(pool.connect("us", back, owner=lease.protocol)).release()
    lease.release()
    fake.connections[0].reset()
    assert len(protocols[0].losses) == 1


class Nameless(Service):
    """Its name cannot be told."""

    @property
    def name(self) -> str:  # type: ignore[override]
        raise RuntimeError("not configured yet")

    @name.setter
    def name(self, name: str) -> None:
        pass


@either
def test_an_owner_that_cannot_be_named_stops_no_time_out(rig_of: Any) -> None:
    rig = rig_of(limit=1)
    owner = Nameless()
    lease = result_of(rig.manager.connect("us", None, owner))
    rig.clock.advance(61)
    waiting = rig.ask()
    assert "Nameless" in str(rig.manager.explain())
    rig.clock.advance(5)
    with pytest.raises(LeaseTimeout):
        result_of(waiting)
    lease.release()


@pytest.mark.parametrize("owner", [42, "a service"])
def test_an_owner_that_is_none_leaves_no_manager_behind(owner: Any) -> None:
    rig = Pooled()
    with pytest.raises(TypeError, match="owner must be"):
        rig.pool.connect("us", rig.backends[0], owner=owner)
    assert rig.pool.status() == []


@either
def test_an_owner_that_is_none_is_refused_though_nothing_is_idle(rig_of: Any) -> None:
    with pytest.raises(TypeError, match="owner must be"):
        rig_of().manager.try_connect("us", 42)


def test_a_protocol_that_has_let_its_transport_go_cannot_own() -> None:
    rig = Managed()
    owner = Protocol()
    owner.connected = 1  # type: ignore[assignment]
    with pytest.raises(LeaseError, match="has ended"):
        result_of(rig.manager.connect("us", None, owner))


@pytest.mark.parametrize("idents", ["separate", "replace"])
def test_an_owner_that_holds_all_for_one_ident_and_asks_for_another_is_told(idents: Any) -> None:
    rig = Pooled(limit=1, idents=idents)
    owner: Deferred[None] = Deferred()
    lease = result_of(rig.pool.connect("a", rig.backends[0], owner=owner))
    with pytest.raises(LeaseError, match="can never serve this request"):
        result_of(rig.pool.connect("b", rig.backends[0], owner=owner))
    lease.release()


# Connections


def test_a_loss_keeps_its_reason_though_the_lessee_settles_as_it_hears_of_it() -> None:
    rig = Managed(Hearing, observed=True)
    lease = rig.lease()
    lease.protocol.lease = lease
    rig.fake.connections[0].reset()
    (lost,) = [each for each in rig.events if isinstance(each, Lost)]
    assert isinstance(lost.reason, ConnectionLost)


class StartsTLS(FakeTransport):
    """A transport that begins TLS when it is told to, as TCP's do."""

    def startTLS(self, contextFactory: object) -> None:
        self.TLS = True
        self.protocol = SimpleNamespace(disconnecting=False)


def test_a_connection_that_is_ending_its_tls_is_not_leased(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kolus.testing.backend.FakeTransport", StartsTLS)
    rig = Managed()
    lease = rig.lease()
    transport: Any = lease.protocol.transport
    transport.startTLS(None)
    lease.release()
    rig.lease().release()
    transport.protocol.disconnecting = True  # its peer says that it ends, which nobody is told
    assert rig.manager.try_connect("us") is None


def test_watches_of_a_loss_that_are_given_up_are_not_kept() -> None:
    rig = Managed()
    lease = rig.lease()
    for _ in range(1000):
        watch = lease.when_lost()
        watch.addErrback(lambda failure: None)
        watch.cancel()
    (connection,) = rig.manager.connections.all
    assert connection._losses is not None
    assert len(connection._losses._asked) == 1
    lease.release()


class Nonsense(Multiplexed):
    first = "many"


def test_a_protocol_with_nonsense_for_slots_from_birth_is_a_failed_attempt() -> None:
    rig = Sharing(Nonsense)
    with pytest.raises(ConnectFailed, match="slots must be a whole number"):
        result_of(rig.ask())
    rig.clock.pump([0.01] * 10)
    assert rig.fake.attempts == 1


def test_a_shared_connection_whose_protocol_closed_its_half_is_replaced() -> None:
    rig = Sharing(limit=1)
    rig.lease().release()
    rig.protocols[0].transport.loseWriteConnection()
    rig.clock.pump([0, 0])
    waiting = rig.ask()
    rig.clock.pump([0, 0])
    result_of(waiting).release()
    assert rig.fake.attempts == 2


def test_a_refusal_keeps_nothing_of_those_who_had_just_asked() -> None:
    rig = Managed(limit=1)
    rig.fake.refuse(reason=OSError("no route"))
    with pytest.raises(ConnectFailed):
        rig.lease()
    assert rig.manager.record.attempts.last_error is not None
    assert rig.manager.record.attempts.last_error.__traceback__ is None


# What is told


def test_a_backend_that_was_never_reached_is_explained_when_its_manager_has_gone() -> None:
    rig = Pooled(manager_idle_timeout=1)
    rig.fakes[0].refuse(reason=OSError("no route to it"))
    with pytest.raises(ConnectFailed):
        result_of(rig.pool.connect("us", rig.backends[0]))
    rig.clock.pump([1, 1, 1])
    assert rig.pool.status() == []
    assert "no route to it" in str(rig.pool.explain())


def test_limits_of_backends_without_a_manager_are_not_counted_as_descriptors() -> None:
    rig = Pooled(limit=7, manager_idle_timeout=1, idle_timeout=1)
    result_of(rig.pool.connect("us", rig.backends[0])).release()
    watch = rig.pool._managers.limits.descriptors
    assert watch.total == 7
    rig.clock.pump([1] * 5)
    assert watch.total == 0


def test_a_pool_service_needs_a_pool() -> None:
    wrong: Any = 42
    with pytest.raises(TypeError, match="pool must be a Pool"):
        PoolService(wrong)

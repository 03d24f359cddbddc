"""C{Lease.detach}: a connection leaves the pool, and is its holder's alone."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, Lease, LeaseError, Policy, Pool
from kolus.events import Detached, Finished, Lost, Overdue, Released, Retired
from kolus.metrics import Metrics
from kolus.testing import FakeBackend, NotFired, result_of
from kolus.testing.transport import FakeTransport
from tests.rigs.pools import Managed, Pooled
from tests.rigs.sharing import Hears, Sharing

DEBUG = pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
KEEPS = pytest.mark.parametrize("keep_slot", [False, True], ids=["slot free", "slot kept"])


@DEBUG
@KEEPS
def test_a_detached_protocol_hears_its_data_and_its_end(keep_slot: bool, debug: bool) -> None:
    rig = Managed(Hears, debug=debug)
    protocol = rig.lease().detach(keep_slot=keep_slot)
    assert type(protocol) is Hears
    (peer,) = rig.fake.connections
    peer.speak(b"hello")
    protocol.transport.write(b"you, too")
    assert (protocol.heard, peer.received) == (b"hello", b"you, too")
    peer.close()
    assert len(protocol.losses) == 1
    rig.turn()
    assert rig.manager.counters.closes == 0, "it was not the pool's any more"


@DEBUG
def test_a_protocol_that_was_taken_before_works_on_after_the_detaching(debug: bool) -> None:
    rig = Managed(Hears, debug=debug)
    lease = rig.lease()
    protocol = lease.protocol
    write = protocol.transport.write
    lease.detach()
    write(b"by the old way")
    assert rig.fake.connections[0].received == b"by the old way"
    assert protocol.heard == b""


def test_a_detached_lease_is_settled() -> None:
    rig = Managed()
    lease = rig.lease()
    lease.detach()
    assert not lease.held
    assert lease.manager is rig.manager
    assert lease.backend == rig.manager.backend
    assert repr(lease) == "<Lease of fake for 'us', detached>"
    for use in (lease.release, lease.finished, lease.detach, lease.when_lost):
        with pytest.raises(LeaseError, match="detached"):
            use()


def test_the_slot_of_a_detached_connection_is_free_at_once() -> None:
    rig = Managed(limit=1)
    lease, asked = rig.lease(), rig.ask()
    lease.detach()
    assert len(rig.fake.connections) == 2
    assert not result_of(asked).reused
    assert rig.numbers() == (0, 1, 0, 0, 0)
    assert rig.manager.status().detached == 0


def test_a_slot_that_is_kept_is_free_when_the_connection_ends() -> None:
    rig = Managed(limit=1)
    lease, asked = rig.lease(), rig.ask()
    protocol = lease.detach(keep_slot=True)
    rig.turn()
    status = rig.manager.status()
    assert (status.detached, status.leased, status.unused, status.waiting) == (1, 0, 0, 1)
    assert str(status).endswith("waiting 1, detached 1)")
    assert rig.manager.explain().why == "1 detached connection keeps its slot"
    with pytest.raises(NotFired):
        result_of(asked)
    protocol.transport.loseConnection()
    rig.turn()
    assert not result_of(asked).reused
    assert rig.manager.status().detached == 0


def test_a_slot_that_is_kept_is_free_when_a_group_waits_for_room() -> None:
    rig = Pooled(limit=1)
    group = rig.pool.group(rig.backends[:1])
    protocol = result_of(group.connect("us")).detach(keep_slot=True)
    asked = group.connect("us")
    others = rig.pool.select("us", rig.backends[:1])
    rig.turn()
    for each in (asked, others):
        with pytest.raises(NotFired):
            result_of(each)
    protocol.transport.loseConnection()
    rig.turn()
    result_of(asked).release()
    result_of(others).release()


def test_a_slot_that_is_kept_is_free_for_another_ident() -> None:
    rig = Pooled(limit=1, idents="separate")
    protocol = result_of(rig.pool.connect("us", rig.backends[0])).detach(keep_slot=True)
    asked = rig.pool.connect("them", rig.backends[0])
    rig.turn()
    with pytest.raises(NotFired):
        result_of(asked)
    protocol.transport.abortConnection()
    rig.turn()
    assert result_of(asked).ident == "them"


def test_a_slot_is_kept_after_the_managers_are_gone() -> None:
    rig = Pooled(limit=1, manager_idle_timeout=1)
    protocol = result_of(rig.pool.connect("us", rig.backends[0])).detach(keep_slot=True)
    rig.clock.pump([1, 1])
    for number in range(2000):  # more than a pool remembers
        rig.pool.eject(f"tcp:192.0.2.1:{number + 1}")
        rig.pool.admit(f"tcp:192.0.2.1:{number + 1}")
    (status,) = rig.pool.status(rig.backends[:1])
    assert (status.manager, status.detached) == (None, 1)
    asked = rig.pool.connect("us", rig.backends[0])
    with pytest.raises(NotFired):
        result_of(asked)
    protocol.transport.loseConnection()
    rig.turn()
    result_of(asked).release()


def test_a_lowered_limit_counts_the_slots_that_are_kept() -> None:
    rig = Managed(limit=3)
    protocol = rig.lease().detach(keep_slot=True)
    leases = [rig.lease(), rig.lease()]
    rig.manager.resize(2)
    for each in leases:
        each.release()
    rig.turn()
    assert rig.numbers()[:2] == (1, 0)
    protocol.transport.loseConnection()
    rig.turn()
    assert rig.numbers()[:4] == (1, 0, 0, 1)


OPERATIONS: dict[str, Callable[[Managed], Any]] = {
    "invalidate": lambda rig: rig.manager.invalidate(),
    "drain": lambda rig: rig.manager.drain(),
    "close": lambda rig: rig.manager.close(0),
    "resize": lambda rig: rig.manager.resize(1),
    "pause": lambda rig: rig.manager.pause(),
    "nothing": lambda rig: None,
}


@KEEPS
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_operation_and_no_time_out_touches_a_detached_connection(
    operation: str, keep_slot: bool
) -> None:
    rig = Managed(
        Hears,
        observed=True,
        idle_timeout=1,
        lifetime=2,
        leak_after=3,
        max_uses=1,
        close_timeout=1,
        manager_idle_timeout=2,
    )
    protocol = rig.lease().detach(keep_slot=keep_slot)
    OPERATIONS[operation](rig)
    for _ in range(100):
        rig.clock.advance(1)
    assert len(rig.fake.connections) == 1
    assert protocol.losses == []
    assert not rig.clock.getDelayedCalls()
    assert not [each for each in rig.events if isinstance(each, Overdue | Retired | Lost)]


@pytest.mark.parametrize("operation", ["invalidate", "drain", "close", "resize", "pause"])
def test_a_connection_can_be_detached_in_each_of_these_states(operation: str) -> None:
    rig = Managed(Hears)
    lease = rig.lease()
    if operation == "close":
        rig.manager.close(10)
    else:
        OPERATIONS[operation](rig)
    protocol = lease.detach()
    rig.clock.pump([1] * 20)
    assert protocol.losses == []
    if operation in ("drain", "close"):
        result_of(rig.manager.when_closed())
        assert not rig.clock.getDelayedCalls()


@KEEPS
def test_closing_the_pool_does_not_wait_for_what_is_detached(keep_slot: bool) -> None:
    rig = Pooled()
    protocol = result_of(rig.pool.connect("us", rig.backends[0])).detach(keep_slot=keep_slot)
    result_of(rig.pool.close(10))
    rig.turn()
    assert len(rig.fakes[0].connections) == 1
    protocol.transport.loseConnection()
    rig.turn()
    assert not rig.clock.getDelayedCalls()


def test_a_detached_connection_is_counted_and_told() -> None:
    rig = Managed(observed=True)
    metrics = Metrics()
    rig.manager.observers.append(metrics)
    lease = rig.lease()
    rig.clock.advance(3)
    lease.detach()
    counters = rig.manager.counters
    assert (counters.detached, counters.releases, counters.finishes) == (1, 0, 0)
    assert (counters.leases, counters.connects, counters.closes) == (1, 1, 0)
    told = [each for each in rig.events if isinstance(each, Detached | Released | Finished)]
    assert told == [Detached(rig.manager.backend, "us", 3.0)]
    total = metrics.total()
    assert (total.detached, total.held, total.open, total.longest_held) == (1, 0, 0, 3.0)


@KEEPS
def test_nothing_of_the_pool_is_kept_alive_by_a_detached_connection(keep_slot: bool) -> None:
    rig = Pooled()
    lease = result_of(rig.pool.connect("us", rig.backends[0]))
    manager = weakref.ref(lease.manager)
    protocol = lease.detach(keep_slot=keep_slot)
    assert lease.manager is manager()
    result_of(rig.pool.close(0))
    pool = weakref.ref(rig.pool)
    del lease, rig.pool
    gc.collect()
    assert (manager(), pool()) == (None, None)
    assert protocol.transport.connected


@pytest.mark.parametrize("slots", [None, 2])
def test_an_earlier_lease_of_a_detached_connection_still_tells_what_it_was_of(
    slots: int | None,
) -> None:
    clock = Clock()
    backend = Backend(FakeBackend(clock), name="it")
    pool: Pool[Any] = Pool(clock, Protocol, policy=Policy(slots=slots))
    earlier = result_of(pool.connect("us", backend))
    earlier.release()
    result_of(pool.connect("us", backend)).detach()
    assert repr(earlier) == "<Lease of it for 'us', settled>"
    assert (earlier.backend, earlier.ident) == (backend, "us")
    for use in (earlier.release, earlier.detach, lambda: earlier.protocol):
        with pytest.raises(LeaseError, match="Lease of it for 'us'"):
            use()


def test_a_detached_transport_has_its_own_class_again() -> None:
    rig = Managed()
    lease = rig.lease()
    assert type(lease.protocol.transport) is not FakeTransport
    protocol = lease.detach()
    assert type(protocol.transport) is FakeTransport
    assert not hasattr(protocol.transport, "_kolus_doubter")


@KEEPS
def test_the_end_of_its_owner_does_not_touch_a_detached_connection(keep_slot: bool) -> None:
    rig = Managed(Hears)
    owner: Deferred[None] = Deferred()
    lease = result_of(rig.manager.connect("us", owner=owner))
    protocol = lease.detach(keep_slot=keep_slot)
    owner.callback(None)
    rig.turn()
    assert protocol.losses == []
    assert rig.manager.counters.finishes == 0


def test_a_detached_lease_that_is_dropped_is_not_forgotten() -> None:
    rig = Managed(Hears)
    protocol = rig.lease().detach()
    gc.collect()
    rig.turn()
    assert rig.manager.counters.forgotten == 0
    assert protocol.losses == []


def test_when_lost_never_fires_for_a_detached_connection() -> None:
    rig = Managed(Hears)
    lease = rig.lease()
    told = lease.when_lost()
    protocol = lease.detach()
    rig.fake.connections[0].close()
    assert protocol.losses
    with pytest.raises(NotFired):
        result_of(told)


@DEBUG
def test_a_connection_that_has_ended_cannot_be_detached(debug: bool) -> None:
    rig = Managed(debug=debug)
    lease = rig.lease()
    rig.fake.connections[0].close()
    with pytest.raises(LeaseError, match="cannot be detached: its connection has ended"):
        lease.detach()
    assert lease.held
    lease.finished()


def test_a_connection_that_the_pool_has_aborted_cannot_be_detached() -> None:
    rig = Managed()
    lease = rig.lease()
    rig.manager.close(0)
    rig.clock.advance(0)
    with pytest.raises(LeaseError, match="its connection has ended"):
        lease.detach()
    lease.finished()


def test_an_observer_that_hears_of_the_detaching_may_do_anything() -> None:
    rig = Managed(Hears, observed=True)
    lease = rig.lease()
    rig.manager.observers.append(lambda event: isinstance(event, Detached) and rig.manager.close(0))
    protocol = lease.detach(keep_slot=True)
    rig.turn()
    assert protocol.losses == []
    result_of(rig.manager.when_closed())


def test_a_manager_that_cannot_detach_says_so() -> None:
    class Plain:
        manager = protocol = None
        backend, ident = "b", "us"

        @property
        def leasable(self) -> Plain:
            return self

    leasable: Any = Plain()
    leasable.manager = leasable
    lease: Lease[Any] = Lease(leasable, lambda *_: None)
    with pytest.raises(LeaseError, match="cannot be detached: its manager cannot"):
        lease.detach()
    assert lease.held
    lease.release()


@KEEPS
@pytest.mark.parametrize("ask", ["connect", "select", "group"])
def test_the_slot_is_free_for_the_other_backends_of_a_pool_with_a_limit(
    ask: str, keep_slot: bool
) -> None:
    clock = Clock()
    backends = [Backend(FakeBackend(clock), name=name) for name in "ab"]
    pool: Pool[Any] = Pool(clock, Hears, limit=1)
    lease = result_of(pool.connect("us", backends[0]))
    asked = {
        "connect": lambda: pool.connect("us", backends[1]),
        "select": lambda: pool.select("us", backends[1:]),
        "group": lambda: pool.group(backends).connect("us"),
    }[ask]()
    protocol = lease.detach(keep_slot=keep_slot)
    clock.pump([0, 0, 0])
    assert asked.called is not keep_slot
    protocol.transport.loseConnection()
    clock.pump([0, 0, 0])
    result_of(asked).release()


# Shared connections


@KEEPS
def test_the_only_lease_of_a_shared_connection_may_be_detached(keep_slot: bool) -> None:
    rig = Sharing(Hears)
    first = rig.lease()
    protocol = first.detach(keep_slot=keep_slot)
    assert rig.manager.status().leased == 0
    assert rig.manager.status().unused == (3 if keep_slot else 6)
    second = rig.lease()
    assert second.protocol is not protocol
    second.release()
    protocol.transport.loseConnection()
    rig.turn()
    assert rig.manager.status().unused == 3
    assert protocol.losses


def test_a_shared_connection_is_not_detached_while_others_share_it() -> None:
    rig = Sharing(Hears)
    first, second = rig.take(2)
    with pytest.raises(LeaseError, match="other leases share its connection: 1"):
        first.detach()
    assert first.held
    second.release()
    first.detach()
    assert rig.numbers() == (0, 0, 0, 6, 0)


def test_waiters_of_a_shared_connection_get_another() -> None:
    rig = Sharing(Hears, limit=1, slots=1)
    first, asked = rig.lease(), rig.ask()
    protocol = first.detach()
    rig.turn()
    assert result_of(asked).protocol is not protocol


# While hooks run elsewhere


def test_a_connection_is_detached_while_another_is_checked() -> None:
    rig = Managed(Hears, check=lambda protocol: Deferred(), check_after=1, check_timeout=1)
    first, second = rig.lease(), rig.lease()
    second.release()
    rig.clock.advance(1)
    asked = rig.ask()
    protocol = first.detach()
    rig.clock.pump([1, 1, 1])
    assert protocol.losses == []
    assert not result_of(asked).reused


def test_a_detached_protocol_may_be_changed_at_any_time() -> None:
    rig = Managed(Hears)
    protocol = rig.lease().detach()
    heard: list[bytes] = []
    protocol.dataReceived = heard.append
    rig.fake.connections[0].speak(b"new")
    assert heard == [b"new"]


@KEEPS
def test_a_new_shared_connection_that_its_first_lessee_detaches_serves_no_other(
    keep_slot: bool,
) -> None:
    rig = Sharing(Hears, limit=2, slots=3, check=lambda protocol: None, check_after=0.0)
    asked = [rig.ask(), rig.ask()]
    rig.turn()
    for each in asked:
        assert each.called
        result_of(each).release()
    rig.fake.accept(after=1.0, always=True)
    detached: list[Any] = []
    asked = [rig.manager.connect("us", fresh=True) for _ in range(2)]
    asked[0].addCallback(lambda lease: detached.append(lease.detach(keep_slot=keep_slot)))
    rig.clock.advance(1.0)
    rig.turn()
    rig.clock.advance(1.0)
    rig.turn()
    lease = result_of(asked[1])
    assert lease.protocol is not detached[0]
    lease.release()

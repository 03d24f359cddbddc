"""The clauses of the manager's contract about leases and the queue."""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.defer import CancelledError
from zope.interface.verify import verifyObject

from kolus.errors import ConnectFailed, LeaseError, LeaseTimeout, PoolFull, WrongIdent
from kolus.interfaces import IGivesFresh, IKolusManager, IServesGroups
from kolus.lease import Lease
from kolus.testing.results import NotFired, failure_of, result_of
from kolus.testing.rig import Rig, clauses_in

__all__ = ["LEASING"]


def provides_the_interface(rig: Rig) -> None:
    verifyObject(IKolusManager, rig.manager)
    assert rig.manager.backend == rig.backend
    assert rig.manager.ident == "us"


def one_that_serves_groups_provides_all_that_they_need(rig: Rig) -> None:
    if IServesGroups.providedBy(rig.manager):  # it is optional
        verifyObject(IServesGroups, rig.manager)


def one_that_gives_fresh_connections_never_gives_one_that_was_leased(rig: Rig) -> None:
    if not IGivesFresh.providedBy(rig.manager):  # it is optional
        return
    verifyObject(IGivesFresh, rig.manager)
    rig.lease().release()
    assert rig.manager.try_connect("us", None, fresh=True) is None
    for _ in range(4):  # some are beyond the limit
        asked = rig.manager.connect("us", fresh=True)
        rig.clock.advance(0)
        rig.clock.advance(0)
        lease = result_of(asked)
        assert not lease.reused
        lease.release()


def a_lease_leads_to_the_backend(rig: Rig) -> None:
    lease = rig.lease()
    lease.protocol.transport.write(b"hello")
    assert rig.fake.accepted[0].received == b"hello"
    assert lease.manager is rig.manager
    assert (lease.backend, lease.ident) == (rig.manager.backend, "us")
    assert not lease.reused
    lease.release()


def a_released_connection_is_used_again(rig: Rig) -> None:
    rig.lease().release()
    rig.clock.advance(1)
    lease = rig.lease()
    assert rig.fake.attempts == 1
    assert lease.reused
    assert lease.age == 1
    lease.release()


def a_finished_connection_is_closed_and_never_used_again(rig: Rig) -> None:
    rig.lease().finished()
    rig.clock.advance(0)
    assert not rig.fake.connections
    lease = rig.lease()
    assert rig.fake.attempts == 2
    lease.release()


def try_connect_leases_at_once_or_not_at_all(rig: Rig) -> None:
    assert rig.manager.try_connect("us") is None
    assert rig.fake.attempts == 0
    rig.lease().release()
    lease = rig.manager.try_connect("us")
    assert lease is not None
    lease.release()


def a_lease_is_settled_once(rig: Rig) -> None:
    lease = rig.lease()
    lease.release()
    for again in (lease.release, lease.finished, lambda: lease.protocol):
        try:
            again()
        except LeaseError:
            continue
        raise AssertionError("a settled lease could be used")
    assert rig.manager.status().leased == 0
    assert len(rig.fake.connections) == 1


def the_limit_holds(rig: Rig) -> None:
    leases = rig.lease_all()
    most = len(rig.fake.connections)
    for _ in range(3):
        rig.ask().addCallback(lambda lease: lease.finished())
    assert rig.manager.status().unused == 0
    assert rig.manager.status().waiting == 3
    leases[0].finished()  # its connection counts until it is closed
    assert len(rig.fake.connections) <= most
    rig.clock.advance(0)
    assert len(rig.fake.connections) <= most
    for lease in leases[1:]:
        lease.release()


def requests_are_served_in_order(rig: Rig) -> None:
    leases = rig.lease_all()
    served: list[int] = []

    def serve(lease: Lease[Any], number: int) -> None:
        served.append(number)
        lease.release()

    for number in range(3):
        rig.ask().addCallback(serve, number)
    leases.pop().release()
    assert served == [0, 1, 2]
    for lease in leases:
        lease.release()


def a_newcomer_does_not_overtake_the_queue(rig: Rig) -> None:
    leases = rig.lease_all()
    first = rig.ask()
    leases.pop().release()
    assert rig.manager.try_connect("us") is None
    result_of(first).release()
    for lease in leases:
        lease.release()


def a_cancelled_request_leaves_the_queue(rig: Rig) -> None:
    leases = rig.lease_all()
    gone, next_one = rig.ask(), rig.ask()
    gone.cancel()
    failure_of(CancelledError, gone)
    assert rig.manager.status().waiting == 1
    for lease in leases:
        lease.release()
    result_of(next_one).release()


def a_request_fails_at_its_deadline(rig: Rig) -> None:
    leases = rig.lease_all()
    late, later = rig.ask(1.0), rig.ask()
    rig.clock.advance(0.99)
    failure_of(NotFired, late)
    rig.clock.advance(0.01)
    failure_of(LeaseTimeout, late)
    rig.clock.advance(3.99)
    failure_of(NotFired, later)
    rig.clock.advance(0.01)
    failure_of(LeaseTimeout, later)
    for lease in leases:
        lease.release()


def a_bad_timeout_is_refused_and_changes_nothing(rig: Rig) -> None:
    bad: tuple[Any, ...] = (-1.0, float("nan"), "soon")
    for timeout in bad:
        try:
            rig.manager.connect("us", timeout)
        except ValueError:
            continue
        raise AssertionError(f"the timeout {timeout!r} was accepted")
    assert rig.fake.attempts == 0
    assert rig.manager.status().waiting == 0


def beyond_the_bound_of_the_queue_requests_are_refused(rig: Rig) -> None:
    rig.make(max_waiters=1)
    leases = rig.lease_all()
    rig.ask().addCallback(lambda lease: lease.finished())
    failure_of(PoolFull, rig.ask())
    for lease in leases:
        lease.release()


def another_ident_is_refused(rig: Rig) -> None:
    rig.lease().release()
    before = rig.manager.status()
    failure_of(WrongIdent, rig.manager.connect("them"))
    assert rig.manager.status() == before


def a_failed_connect_fails_the_request_with_the_reason(rig: Rig) -> None:
    reason = OSError("no route")
    rig.fake.refuse(reason=reason)
    error = failure_of(ConnectFailed, rig.ask())
    assert error.reason is reason
    assert error.backend == rig.manager.backend
    rig.clock.advance(60)


def a_connect_outlives_an_impatient_request(rig: Rig) -> None:
    rig.fake.accept(after=2.0)
    asked = rig.ask(1.0)
    rig.clock.advance(1.0)
    failure_of(LeaseTimeout, asked)
    rig.clock.advance(1.0)
    assert rig.manager.status().idle
    assert rig.fake.attempts == 1


def a_lost_connection_frees_its_slot(rig: Rig) -> None:
    lease = rig.lease()
    rig.fake.connections[0].close()
    lease.release()
    status = rig.manager.status()
    assert (status.idle, status.leased, status.unused) == (0, 0, status.limit)


def a_peer_that_closes_an_idle_connection_is_noticed(rig: Rig) -> None:
    rig.lease().release()
    rig.fake.connections[0].close()
    assert rig.manager.status().idle == 0


def a_forgotten_lease_is_reclaimed(rig: Rig) -> None:
    rig.lease()
    gc.collect()
    rig.clock.advance(0)
    rig.clock.advance(0)
    status = rig.manager.status()
    assert (status.leased, status.idle, status.unused) == (0, 0, status.limit)


def a_detached_connection_is_its_holders(rig: Rig) -> None:
    lease = rig.lease()
    try:
        protocol = lease.detach()
    except LeaseError:  # it is optional
        assert lease.held
        lease.release()
        return
    assert not lease.held
    status = rig.manager.status()
    assert (status.leased, status.idle, status.unused) == (0, 0, status.limit)
    rig.manager.invalidate()
    rig.manager.close(0)
    rig.clock.advance(0)
    (peer,) = rig.fake.connections
    protocol.transport.write(b"still here")
    assert peer.received == b"still here"
    protocol.transport.loseConnection()
    rig.clock.advance(0)


LEASING = clauses_in(vars())

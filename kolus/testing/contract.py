"""The contract of C{IKolusManager} as a suite: for ours, and for anybody's manager.

Each clause is a function that gets a L{Rig}, named for what it promises. C{check_manager} runs
them all; C{MANAGER_CONTRACT} lists them, for a test runner that shows each by its name.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from kolus.backend import State
from kolus.errors import (
    Closed,
    ConnectFailed,
    Draining,
    LeaseError,
    LeaseTimeout,
    PoolFull,
    WrongIdent,
)
from kolus.interfaces import IKolusManager
from kolus.lease import Lease
from kolus.testing.results import NotFired, result_of
from kolus.testing.rig import MakeManager, Rig

__all__ = ["MANAGER_CONTRACT", "check_manager", "run_clause"]

E = TypeVar("E", bound=BaseException)


def check_manager(make: MakeManager) -> None:
    """Run the whole contract over the managers that C{make} makes.

    @raise AssertionError: a clause does not hold; the message names every clause that does not.
    """
    broken = []
    for clause in MANAGER_CONTRACT:
        try:
            run_clause(clause, make)
        except Exception as error:
            broken.append(f"{clause.__name__}: {type(error).__name__}: {error}")
    assert not broken, "the contract of IKolusManager is broken:\n" + "\n".join(broken)


def run_clause(clause: Callable[[Rig], None], make: MakeManager) -> None:
    """Run one clause over a new manager, and close that."""
    rig = Rig(make)
    clause(rig)
    rig.end()


def provides_the_interface(rig: Rig) -> None:
    verifyObject(IKolusManager, rig.manager)
    assert rig.manager.backend == rig.backend
    assert rig.manager.ident == "us"


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
    assert rig.manager.status().idle == 1


def the_limit_holds(rig: Rig) -> None:
    leases = rig.lease_all()
    most = len(rig.fake.connections)
    for _ in range(3):
        rig.ask().addCallback(lambda lease: lease.finished())
    assert rig.manager.status().unused == 0
    assert rig.manager.status().waiting == 3
    leases[0].finished()  # its connection holds its slot until it is gone
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
    _expect(CancelledError, gone)
    assert rig.manager.status().waiting == 1
    for lease in leases:
        lease.release()
    result_of(next_one).release()


def a_request_fails_at_its_deadline(rig: Rig) -> None:
    leases = rig.lease_all()
    late, later = rig.ask(1.0), rig.ask()
    rig.clock.advance(0.99)
    _expect(NotFired, late)
    rig.clock.advance(0.01)
    _expect(LeaseTimeout, late)
    rig.clock.advance(3.99)
    _expect(NotFired, later)
    rig.clock.advance(0.01)
    _expect(LeaseTimeout, later)
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
    _expect(PoolFull, rig.ask())
    for lease in leases:
        lease.release()


def another_ident_is_refused(rig: Rig) -> None:
    rig.lease().release()
    _expect(WrongIdent, rig.manager.connect("them"))
    assert rig.manager.status().idle == 1


def a_failed_connect_fails_the_request_with_the_reason(rig: Rig) -> None:
    reason = OSError("no route")
    rig.fake.refuse(reason=reason)
    error = _expect(ConnectFailed, rig.ask())
    assert error.reason is reason
    assert error.backend == rig.manager.backend
    rig.clock.advance(60)


def a_connect_outlives_an_impatient_request(rig: Rig) -> None:
    rig.fake.accept(after=2.0)
    asked = rig.ask(1.0)
    rig.clock.advance(1.0)
    _expect(LeaseTimeout, asked)
    rig.clock.advance(1.0)
    assert rig.manager.status().idle == 1
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


def while_paused_requests_wait(rig: Rig) -> None:
    rig.lease().release()
    rig.manager.pause()
    waiting = rig.ask()
    assert rig.manager.try_connect("us") is None
    _expect(NotFired, waiting)
    assert rig.manager.status().state is State.PAUSED
    rig.manager.resume()
    result_of(waiting).release()


def draining_waits_for_the_leases(rig: Rig) -> None:
    leases = rig.lease_all()
    queued = rig.ask()
    drained, closed = rig.manager.drain(), rig.manager.when_closed()
    _expect(Draining, queued)
    _expect(Draining, rig.ask())
    assert rig.manager.status().state is State.DRAINING
    rig.clock.advance(1000)
    _expect(NotFired, drained)
    for lease in leases:
        lease.release()
    rig.clock.advance(0)
    result_of(drained)
    result_of(closed)
    assert rig.manager.status().state is State.CLOSED
    _expect(Closed, rig.ask())


def closing_aborts_what_is_not_settled_in_time(rig: Rig) -> None:
    leases = rig.lease_all()
    queued = rig.ask()
    closed = rig.manager.close(10.0)
    _expect(Closed, queued)
    _expect(Closed, rig.ask())
    rig.clock.advance(9.9)
    assert rig.fake.connections
    again = rig.manager.close(10.0)
    rig.clock.advance(0.1)
    rig.clock.advance(0)
    result_of(closed)
    result_of(again)
    assert not rig.fake.connections
    for lease in leases:
        lease.release()


def a_connect_that_ends_after_closing_is_closed(rig: Rig) -> None:
    rig.fake.accept(after=1.0)
    asked = rig.ask()
    closed = rig.manager.close(0.5)
    _expect(Closed, asked)
    rig.clock.advance(2.0)
    rig.clock.advance(0)
    result_of(closed)


def the_status_adds_up(rig: Rig) -> None:
    leases = rig.lease_all()
    status = rig.manager.status()
    assert status.leased == len(leases) == status.limit
    assert (status.idle, status.connecting, status.unused) == (0, 0, 0)
    for lease in leases:
        lease.release()
    status = rig.manager.status()
    assert status.manager is rig.manager
    assert status.leased == 0
    assert status.idle is not None
    assert status.idle > 0


def _expect(kind: type[E], deferred: Deferred[Any]) -> E:
    try:
        result = result_of(deferred)
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, got the result {result!r}")


MANAGER_CONTRACT: tuple[Callable[[Rig], None], ...] = (
    provides_the_interface,
    a_lease_leads_to_the_backend,
    a_released_connection_is_used_again,
    a_finished_connection_is_closed_and_never_used_again,
    try_connect_leases_at_once_or_not_at_all,
    a_lease_is_settled_once,
    the_limit_holds,
    requests_are_served_in_order,
    a_newcomer_does_not_overtake_the_queue,
    a_cancelled_request_leaves_the_queue,
    a_request_fails_at_its_deadline,
    a_bad_timeout_is_refused_and_changes_nothing,
    beyond_the_bound_of_the_queue_requests_are_refused,
    another_ident_is_refused,
    a_failed_connect_fails_the_request_with_the_reason,
    a_connect_outlives_an_impatient_request,
    a_lost_connection_frees_its_slot,
    a_peer_that_closes_an_idle_connection_is_noticed,
    a_forgotten_lease_is_reclaimed,
    while_paused_requests_wait,
    draining_waits_for_the_leases,
    closing_aborts_what_is_not_settled_in_time,
    a_connect_that_ends_after_closing_is_closed,
    the_status_adds_up,
)
"""Every clause, in the order in which a reader would ask for them."""

"""The clauses of the manager's contract about operation, owners, and closing."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from kolus.errors import Closed, Draining, LeaseError
from kolus.status import State
from kolus.testing.results import NotFired, failure_of, result_of
from kolus.testing.rig import Rig, clauses_in

__all__ = ["OPERATION"]


def while_paused_requests_wait(rig: Rig) -> None:
    rig.lease().release()
    rig.manager.pause()
    waiting = rig.ask()
    assert rig.manager.try_connect("us") is None
    failure_of(NotFired, waiting)
    assert rig.manager.status().state is State.PAUSED
    rig.manager.resume()
    result_of(waiting).release()


def a_larger_limit_serves_those_who_wait(rig: Rig) -> None:
    leases = rig.lease_all()
    waiting = rig.ask()
    rig.manager.resize(3)
    leases.append(result_of(waiting))
    assert len(rig.fake.connections) == 3
    for lease in leases:
        lease.release()


def a_smaller_limit_closes_what_is_idle_now_and_the_rest_as_it_comes_home(rig: Rig) -> None:
    leases = rig.lease_all()
    rig.manager.resize(1)
    rig.clock.advance(0)
    assert len(rig.fake.connections) == 2
    for lease in leases:
        lease.release()
    rig.clock.advance(0)
    assert len(rig.fake.connections) == 1
    rig.manager.resize(2)
    for lease in rig.lease_all():
        lease.release()
    rig.manager.resize(1)
    rig.clock.advance(0)
    status = rig.manager.status()
    assert (status.idle, status.unused) == (status.limit, 0)


def above_a_smaller_limit_whatever_comes_home_first_goes(rig: Rig) -> None:
    for first in (0, -1):
        rig.make()
        leases = rig.lease_all()
        rig.manager.resize(1)
        protocol = leases[first].protocol
        going = [each for each in leases if each.protocol is protocol]
        staying = [each for each in leases if each not in going]
        for lease in going:
            lease.release()
        rig.clock.advance(0)
        assert len(rig.fake.connections) == 1
        for lease in staying:
            lease.release()
        rig.clock.advance(0)
        assert len(rig.fake.connections) == 1


def a_bad_limit_is_refused_and_changes_nothing(rig: Rig) -> None:
    before = rig.manager.status()
    bad: tuple[Any, ...] = (0, -1, 1.5, "many", True, None)
    for limit in bad:
        try:
            rig.manager.resize(limit)
        except ValueError:
            continue
        raise AssertionError(f"the limit {limit!r} was accepted")
    assert rig.manager.status() == before


def invalidating_replaces_what_is_open(rig: Rig) -> None:
    held, returned = rig.lease(), rig.lease()
    returned.release()
    rig.manager.invalidate()
    rig.clock.advance(0)
    old = rig.fake.accepted[:]
    held.release()
    rig.clock.advance(0)
    assert not any(each.open for each in old)
    lease = rig.lease()
    assert not lease.reused
    lease.release()


def a_lease_ends_with_its_owner(rig: Rig) -> None:
    owner: Deferred[None] = Deferred()
    lease = result_of(rig.manager.connect("us", None, owner))
    owner.callback(None)
    assert not lease.held
    rig.clock.advance(0)
    assert rig.manager.status().leased == 0
    assert not rig.fake.connections


def a_request_that_only_its_owner_could_serve_fails_at_once(rig: Rig) -> None:
    owner: Deferred[None] = Deferred()
    leases = [
        result_of(rig.manager.connect("us", None, owner)) for _ in range(rig.manager.status().limit)
    ]
    failure_of(LeaseError, rig.manager.connect("us", None, owner))
    for lease in leases:
        lease.release()


def what_is_explained_is_what_is_there(rig: Rig) -> None:
    leases = rig.lease_all()
    waiting = rig.ask()
    rig.clock.advance(2.0)
    explanation = rig.manager.explain()
    assert explanation.status == rig.manager.status()
    assert [each.held for each in explanation.leases] == [2.0] * len(leases)
    assert [each.waited for each in explanation.waiters] == [2.0]
    assert str(explanation)
    for lease in leases:
        lease.release()
    result_of(waiting).release()
    assert not rig.manager.explain().leases


def a_loss_is_heard_by_every_lease(rig: Rig) -> None:
    leases = rig.lease_all()
    losses = [lease.when_lost() for lease in leases]
    settled = rig.fake.connections
    leases.pop().release()
    for connection in settled:
        connection.reset()
    for lost in losses[:-1]:
        assert isinstance(result_of(lost), Exception)
    failure_of(NotFired, losses[-1])
    for lease in leases:
        lease.release()


def draining_waits_for_the_leases(rig: Rig) -> None:
    leases = rig.lease_all()
    queued = rig.ask()
    drained, closed = rig.manager.drain(), rig.manager.when_closed()
    failure_of(Draining, queued)
    failure_of(Draining, rig.ask())
    assert rig.manager.status().state is State.DRAINING
    rig.clock.advance(1000)
    failure_of(NotFired, drained)
    for lease in leases:
        lease.release()
    rig.clock.advance(0)
    result_of(drained)
    result_of(closed)
    assert rig.manager.status().state is State.CLOSED
    failure_of(Closed, rig.ask())


def closing_aborts_what_is_not_settled_in_time(rig: Rig) -> None:
    leases = rig.lease_all()
    queued = rig.ask()
    closed = rig.manager.close(10.0)
    failure_of(Closed, queued)
    failure_of(Closed, rig.ask())
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
    failure_of(Closed, asked)
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


OPERATION = clauses_in(vars())

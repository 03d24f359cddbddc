"""Rule 10, on a clock: a lease or request ends with its owner, in every pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from kolus import Lease, LeaseError
from kolus.events import Leased, Retired, Why
from kolus.testing import result_of
from kolus.watching import Owner
from tests.rigs.either import either
from tests.rigs.pools import Pooled
from tests.watching.test_owners import each_kind

Make = Callable[[], Any]
End = Callable[[Any], object]


class Owned(Pooled):
    """A pool of which every lease of the first backend has an owner."""

    def __init__(self, slots: int | None = None, **policy: Any) -> None:
        super().__init__(slots=slots, **policy)

    def ask(self, owner: Any, how: str = "connect") -> Deferred[Lease[Any]]:
        if how == "connect":
            return self.pool.connect("us", self.backends[0], owner=owner)
        return self.pool.select("us", self.backends[:1], owner=owner)

    def numbers(self) -> tuple[int | None, int, int]:
        """Idle, leased, waiting."""
        (status,) = self.pool.status(self.backends[:1])
        return status.idle, status.leased, status.waiting


exclusive_or_shared = pytest.mark.parametrize("slots", [None, 1], ids=["exclusive", "shared"])
each_way = pytest.mark.parametrize("how", ["connect", "select"])


@each_kind
@exclusive_or_shared
@each_way
def test_a_lease_is_finished_when_its_owner_ends(
    make: Make, end: End, slots: int | None, how: str
) -> None:
    rig, owner = Owned(slots), make()
    lease = result_of(rig.ask(owner, how))
    end(owner)
    assert not lease.held
    rig.turn()
    assert rig.numbers() == (0, 0, 0)
    assert not rig.fakes[0].connections
    assert rig.pool.counters().finishes == 1


@each_kind
@exclusive_or_shared
@each_way
def test_a_request_is_cancelled_when_its_owner_ends(
    make: Make, end: End, slots: int | None, how: str
) -> None:
    rig, owner = Owned(slots, limit=1), make()
    held = result_of(rig.ask(None))
    asked = rig.ask(owner, how)
    end(owner)
    with pytest.raises(CancelledError):
        result_of(asked)
    assert rig.numbers() == (0, 1, 0)
    held.release()


@each_kind
@exclusive_or_shared
def test_a_lease_taken_at_once_is_finished_when_its_owner_ends(
    make: Make, end: End, slots: int | None
) -> None:
    rig, owner = Owned(slots), make()
    result_of(rig.ask(None)).release()
    lease = rig.pool.try_connect("us", rig.backends[0], owner=owner)
    assert lease is not None
    end(owner)
    assert not lease.held


@each_kind
@exclusive_or_shared
@each_way
def test_a_request_of_an_owner_that_has_ended_fails(
    make: Make, end: End, slots: int | None, how: str
) -> None:
    rig, owner = Owned(slots), make()
    result_of(rig.ask(owner)).release()
    end(owner)
    with pytest.raises(LeaseError, match="has ended"):
        result_of(rig.ask(owner, how))
    with pytest.raises(LeaseError, match="has ended"):
        rig.pool.try_connect("us", rig.backends[0], owner=owner)
    assert rig.numbers() == (1, 0, 0)


@each_kind
@exclusive_or_shared
def test_the_connection_of_a_lease_that_was_settled_outlives_the_owner(
    make: Make, end: End, slots: int | None
) -> None:
    rig, owner = Owned(slots), make()
    lease = result_of(rig.ask(owner))
    lease.release()
    another = result_of(rig.ask(None))
    end(owner)
    assert another.held
    another.release()
    assert rig.pool.counters().finishes == 0


@each_kind
@exclusive_or_shared
def test_an_owner_of_many_leases_and_requests_ends_them_all(
    make: Make, end: End, slots: int | None
) -> None:
    rig, owner = Owned(slots, limit=5), make()
    others = result_of(rig.ask(None))
    leases = [result_of(rig.ask(owner)) for _ in range(4)]
    asked = [rig.ask(owner) for _ in range(10)]
    outcomes: list[type[BaseException]] = []
    for each in asked:
        each.addErrback(lambda failure: outcomes.append(failure.type))
    end(owner)
    assert not any(lease.held for lease in leases)
    assert outcomes == [CancelledError] * 10
    assert rig.numbers() == (0, 1, 0)
    others.release()


@each_kind
@exclusive_or_shared
def test_who_waits_for_anothers_lease_is_served_when_that_ones_owner_ends(
    make: Make, end: End, slots: int | None
) -> None:
    rig, owner = Owned(slots, limit=1), make()
    held = result_of(rig.ask(owner))
    waiting = rig.ask(None)
    end(owner)
    rig.turn()
    lease = result_of(waiting)
    assert not lease.reused
    lease.release()
    assert not held.held


@each_kind
def test_an_owner_may_own_at_several_backends(make: Make, end: End) -> None:
    rig, owner = Owned(), make()
    leases = [result_of(rig.pool.connect("us", each, owner=owner)) for each in rig.backends]
    end(owner)
    assert not any(lease.held for lease in leases)


@each_kind
@exclusive_or_shared
@pytest.mark.parametrize("settle", [Lease.release, Lease.finished])
def test_settling_after_the_owner_has_ended_tells_that_it_has(
    make: Make, end: End, slots: int | None, settle: Callable[[Lease[Any]], None]
) -> None:
    rig, owner = Owned(slots), make()
    lease = result_of(rig.ask(owner))
    end(owner)
    with pytest.raises(LeaseError, match="finished by the end of its owner"):
        settle(lease)
    with pytest.raises(LeaseError, match="finished by the end of its owner"):
        lease.protocol.transport.write(b"too late")
    assert rig.pool.counters().finishes == 1


@exclusive_or_shared
def test_what_is_no_owner_is_refused_at_once_and_takes_nothing(slots: int | None) -> None:
    rig = Owned(slots)
    result_of(rig.ask(None)).release()
    for ask in (
        lambda: rig.ask("me"),
        lambda: rig.ask("me", "select"),
        lambda: rig.pool.try_connect("us", rig.backends[0], owner="me"),  # type: ignore[arg-type]
    ):
        with pytest.raises(
            TypeError, match="owner must be a Deferred, a Protocol, a Service or a task"
        ):
            ask()
    assert rig.numbers() == (1, 0, 0)


@exclusive_or_shared
def test_a_coroutine_that_is_cancelled_gives_back_what_it_owned_by_its_deferred(
    slots: int | None,
) -> None:
    rig = Owned(slots)
    owner: Deferred[None] = Deferred()

    async def work() -> None:
        await rig.ask(owner)
        await Deferred()

    working = Deferred.fromCoroutine(work())
    working.addErrback(lambda failure: failure.trap(CancelledError)).chainDeferred(owner)
    assert rig.numbers()[1] == 1
    working.cancel()
    rig.turn()
    assert rig.numbers() == (0, 0, 0)


@exclusive_or_shared
def test_a_protocol_owns_a_lease_until_its_client_hangs_up(slots: int | None) -> None:
    rig, client = Owned(slots), Protocol()
    lease = result_of(rig.ask(client))
    waiting = [rig.ask(client), rig.ask(client)]
    result_of(waiting[0])
    client.connectionLost(Failure(ConnectionDone()))
    assert not lease.held
    for each in waiting[1:]:
        with pytest.raises((CancelledError, LeaseError)):
            result_of(each)


@exclusive_or_shared
def test_a_service_that_is_started_again_may_own_again(slots: int | None) -> None:
    rig, service = Owned(slots), Service()
    service.startService()
    result_of(rig.ask(service))
    service.stopService()
    rig.turn()
    service.startService()
    lease = result_of(rig.ask(service))
    assert lease.held
    lease.release()


@either
def test_an_owner_that_ends_as_an_observer_hears_of_its_lease_loses_nothing(rig_of: Any) -> None:
    rig = rig_of(limit=1, observed=True)
    held = rig.lease()
    owner: Deferred[None] = Deferred()
    asked = rig.manager.connect("us", None, owner)

    def end(event: object) -> None:
        if isinstance(event, Leased) and not owner.called:
            owner.callback(None)

    rig.manager.observers.append(end)
    held.release()
    with pytest.raises(CancelledError):
        result_of(asked)
    rig.turn()
    status = rig.manager.status()
    assert (status.leased, status.waiting) == (0, 0)
    assert (status.idle or 0) + (status.unused or 0) == 1


@either
def test_an_owner_that_ends_while_its_connection_is_made_leaves_that_to_others(
    rig_of: Any,
) -> None:
    rig = rig_of(limit=1)
    rig.fake.accept(after=1)
    owner: Deferred[None] = Deferred()
    asked = rig.manager.connect("us", None, owner)
    owner.callback(None)
    rig.clock.advance(1)
    with pytest.raises(CancelledError):
        result_of(asked)
    assert rig.numbers() == (1, 0, 0, 0, 0)


@either
def test_what_an_owner_has_not_settled_is_closed_as_finished(rig_of: Any) -> None:
    rig = rig_of(observed=True)
    owner: Deferred[None] = Deferred()
    lease = result_of(rig.manager.connect("us", None, owner))
    owner.callback(None)
    rig.turn()
    assert [each.why for each in rig.events if isinstance(each, Retired)] == [Why.FINISHED]
    assert not lease.held


@either
def test_a_lease_without_an_owner_ends_with_nobody(rig_of: Any) -> None:
    rig = rig_of()
    owner: Owner = Deferred()
    owned = result_of(rig.manager.connect("us", None, owner))
    free = rig.lease()
    owner.callback(None)  # type: ignore[union-attr]
    assert (owned.held, free.held) == (False, True)
    free.release()

"""When an owner ends, its leases are finished and its waiters cancelled."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from kolus.errors import LeaseError
from kolus.lease import FINISHED, FORGOTTEN, RELEASED, Lease, Outcome
from kolus.testing import result_of
from kolus.watching import Owner, Owners, label
from tests.conftest import LoggedFailures

LOST = Failure(ConnectionDone())


class Leased:
    """What is behind the leases here; it remembers how they were settled."""

    manager = protocol = None
    reused = False
    age = 0.0

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def lease(self) -> Lease[Any]:
        return Lease(self, lambda leasable, outcome: self.outcomes.append(outcome))  # type: ignore[arg-type]


def end_deferred(owner: Deferred[str]) -> None:
    owner.callback("done")


def cancel_deferred(owner: Deferred[str]) -> None:
    owner.addErrback(lambda failure: failure.trap(CancelledError))
    owner.cancel()


OWNERS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "a Deferred that fires": (Deferred, end_deferred),
    "a Deferred that is cancelled": (Deferred, cancel_deferred),
    "a Protocol that loses its connection": (Protocol, lambda owner: owner.connectionLost(LOST)),
    "a Service that stops": (Service, lambda owner: owner.stopService()),
}

each_kind = pytest.mark.parametrize(("make", "end"), OWNERS.values(), ids=OWNERS)


@each_kind
def test_the_leases_of_an_owner_are_finished_when_it_ends(
    make: Callable[[], Owner], end: Callable[[Owner], object]
) -> None:
    leased, owners, owner = Leased(), Owners(), make()
    leases = [leased.lease(), leased.lease()]
    for lease in leases:
        owners.ownership(owner).hold(lease, "here")
    assert list(owners.ownership(owner).leases.items()) == [
        (leases[0], "here"),
        (leases[1], "here"),
    ]
    end(owner)
    assert leased.outcomes == [FINISHED, FINISHED]
    assert not any(lease.held for lease in leases)


@each_kind
def test_the_waiters_of_an_owner_are_cancelled_when_it_ends(
    make: Callable[[], Owner], end: Callable[[Owner], object]
) -> None:
    owners, owner = Owners(), make()
    waiter: Deferred[str] = Deferred()
    owners.ownership(owner).wait(waiter)
    end(owner)
    with pytest.raises(CancelledError):
        result_of(waiter)


@each_kind
def test_an_owner_that_has_ended_is_refused(
    make: Callable[[], Owner], end: Callable[[Owner], object]
) -> None:
    owners, owner = Owners(), make()
    ownership = owners.ownership(owner)
    end(owner)
    assert ownership.ended
    with pytest.raises(LeaseError, match="has ended, so it cannot own a lease") as raised:
        owners.ownership(owner)
    assert label(owner) in str(raised.value)


def copy(owner: object) -> dict[str, object]:
    """All that it carries."""
    return {k: list(v) if isinstance(v, list) else v for k, v in vars(owner).items()}


@each_kind
def test_an_owner_has_one_ward_and_one_hook(
    make: Callable[[], Any], end: Callable[[Owner], object]
) -> None:
    owners, owner = Owners(), make()
    ownership = owners.ownership(owner)
    before = copy(owner)
    for _ in range(100):
        assert owners.ownership(owner) is ownership
    assert copy(owner) == before
    assert list(owners) == [ownership]


@each_kind
def test_several_managers_may_know_an_owner(
    make: Callable[[], Owner], end: Callable[[Owner], object]
) -> None:
    leased, owner = Leased(), make()
    registries = [Owners(), Owners()]
    leases = [leased.lease(), leased.lease()]
    for owners, lease in zip(registries, leases, strict=True):
        owners.ownership(owner).hold(lease)
    end(owner)
    assert leased.outcomes == [FINISHED, FINISHED]


@each_kind
def test_a_lease_that_was_settled_or_forgotten_before_is_left_alone(
    make: Callable[[], Owner], end: Callable[[Owner], object]
) -> None:
    leased, owners, owner = Leased(), Owners(), make()
    ownership = owners.ownership(owner)
    released, dropped = leased.lease(), leased.lease()
    for lease in (released, dropped):
        ownership.hold(lease)
    released.release()
    del dropped, lease
    end(owner)
    assert leased.outcomes == [RELEASED, FORGOTTEN]


@each_kind
def test_nothing_keeps_an_owner_alive(
    make: Callable[[], Owner], end: Callable[[Owner], object]
) -> None:
    leased, owners, owner = Leased(), Owners(), make()
    ownership = owners.ownership(owner)
    ownership.hold(lease := leased.lease())
    ghost = weakref.ref(owner)
    gc.disable()
    try:
        del owner
        assert ghost() is None
    finally:
        gc.enable()
    assert ownership.owner is None
    assert list(owners) == []
    lease.release()


@each_kind
def test_an_owner_does_not_keep_a_manager_alive(
    make: Callable[[], Owner], end: Callable[[Owner], object]
) -> None:
    owners, owner = Owners(), make()
    owners.ownership(owner)
    ghost = weakref.ref(owners)
    del owners
    assert ghost() is None
    end(owner)


@each_kind
def test_an_owner_that_outlives_many_managers_still_ends(
    make: Callable[[], Any], end: Callable[[Any], object]
) -> None:
    leased, owners, owner = Leased(), Owners(), make()
    for _ in range(10_000):
        Owners().ownership(owner)
    owners.ownership(owner).hold(lease := leased.lease())
    end(owner)
    assert not lease.held
    assert leased.outcomes == [FINISHED]


# An ownership


def test_a_waiter_that_is_served_or_cancelled_is_forgotten() -> None:
    owner: Deferred[str] = Deferred()
    ownership = Owners().ownership(owner)
    served: Deferred[int] = Deferred()
    cancelled: Deferred[int] = Deferred()
    ownership.wait(served)
    ownership.wait(cancelled)
    assert list(ownership.waiters) == [served, cancelled]
    served.callback(5)
    cancelled.cancel()
    assert not ownership.waiters
    assert result_of(served) == 5
    with pytest.raises(CancelledError):
        result_of(cancelled)


def test_waiters_are_cancelled_before_what_the_leases_free_can_serve_them() -> None:
    happened: list[str] = []
    owner: Deferred[None] = Deferred()
    owners = Owners()
    ownership = owners.ownership(owner)
    lease: Lease[Any] = Lease(Leased(), lambda *_: happened.append("finished"))  # type: ignore[arg-type]
    ownership.hold(lease)
    waiter: Deferred[None] = Deferred()
    ownership.wait(waiter)
    waiter.addErrback(lambda failure: happened.append("cancelled"))
    owner.callback(None)
    assert happened == ["cancelled", "finished"]


def test_what_comes_to_an_ended_ward_ends_at_once() -> None:
    leased, owner = Leased(), Protocol()
    ownership = Owners().ownership(owner)
    owner.connectionLost(LOST)
    ownership.hold(leased.lease())
    assert leased.outcomes == [FINISHED]
    waiter: Deferred[None] = Deferred()
    ownership.wait(waiter)
    with pytest.raises(CancelledError):
        result_of(waiter)


def test_one_that_raises_does_not_stop_the_others(logged_failures: LoggedFailures) -> None:
    leased, owner = Leased(), Protocol()
    ownership = Owners().ownership(owner)

    def refuse(*args: object) -> None:
        raise OSError("no")

    bad: Lease[Any] = Lease(leased, refuse)  # type: ignore[arg-type]
    good = leased.lease()
    stubborn, waiter = Deferred[None](refuse), Deferred[None]()
    for lease in (bad, good):
        ownership.hold(lease)
    for each in (stubborn, waiter):
        ownership.wait(each)
    owner.connectionLost(LOST)
    assert leased.outcomes == [FINISHED]
    with pytest.raises(CancelledError):
        result_of(waiter)
    assert len(logged_failures.flush(OSError)) == 2


def test_a_request_made_while_the_owner_ends_is_refused() -> None:
    owners, owner = Owners(), Service()
    owner.startService()
    waiter: Deferred[None] = Deferred()
    owners.ownership(owner).wait(waiter)
    again = waiter.addErrback(lambda failure: owners.ownership(owner))
    owner.stopService()
    with pytest.raises(LeaseError):
        result_of(again)

"""A Deferred, a Protocol or a Service can own leases and works as usual; nothing else can."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.errors import LeaseError
from kolus.lease import FINISHED, RELEASED, Lease
from kolus.testing import result_of
from kolus.watching import Owners
from tests.conftest import LoggedFailures
from tests.watching.test_owners import LOST, Leased

# A Deferred


def test_the_result_of_a_deferred_passes_through() -> None:
    owner: Deferred[str] = Deferred()
    owner.addCallback(str.upper)
    Owners().ownership(owner)
    owner.addCallback(lambda result: result + "!")
    owner.callback("done")
    assert result_of(owner) == "DONE!"


def test_a_deferred_that_fails_with_nobody_to_handle_it_is_reported(
    logged_failures: LoggedFailures,
) -> None:
    owner: Deferred[str] = Deferred()
    Owners().ownership(owner)
    owner.errback(OSError("lost in the woods"))
    del owner
    assert len(logged_failures.flush(OSError)) == 1


def test_a_deferred_that_waits_for_another_ends_when_that_fires() -> None:
    leased = Leased()
    owner, inner = Deferred[None](), Deferred[str]()
    owner.addCallback(lambda _: inner)
    owners = Owners()
    owners.ownership(owner).hold(lease := leased.lease())
    owner.callback(None)
    assert lease.held
    with pytest.raises(LeaseError):
        owners.ownership(owner)
    inner.callback("at last")
    assert leased.outcomes == [FINISHED]
    assert result_of(owner) == "at last"


@pytest.mark.parametrize("make", [lambda: succeed(1), lambda: fail(OSError())])
def test_a_deferred_that_has_fired_cannot_own(make: Callable[[], Deferred[Any]]) -> None:
    owner = make()
    owner.addErrback(lambda failure: None)
    with pytest.raises(LeaseError, match="Deferred"):
        Owners().ownership(owner)


# A Protocol


class Noting(Protocol):
    def __init__(self) -> None:
        self.heard: list[object] = []

    def connectionLost(self, reason: Failure, *more: object) -> str:  # type: ignore[override]
        self.heard += [reason, *more]
        return "heard"


def test_a_protocol_hears_of_its_loss_as_ever_and_may_settle_its_leases_itself() -> None:
    leased, owners = Leased(), Owners()

    class Settling(Noting):
        def connectionLost(self, reason: Failure, *more: object) -> str:
            self.lease.release()
            return super().connectionLost(reason, *more)

        lease: Lease[Any]

    owner = Settling()
    owner.lease = leased.lease()
    owners.ownership(owner).hold(owner.lease)
    assert owner.connectionLost(LOST, "really") == "heard"
    assert owner.heard == [LOST, "really"]
    assert leased.outcomes == [RELEASED]


def test_the_leases_end_even_if_the_protocol_raises() -> None:
    class Failing(Protocol):
        def connectionLost(self, reason: object = None) -> None:
            raise OSError("not again")

    leased, owners, owner = Leased(), Owners(), Failing()
    owners.ownership(owner).hold(lease := leased.lease())
    with pytest.raises(OSError, match="not again"):
        owner.connectionLost(LOST)
    assert not lease.held
    assert leased.outcomes == [FINISHED]


def test_a_connection_lost_that_was_replaced_before_is_still_called() -> None:
    heard: list[object] = []
    owner = Protocol()
    owner.connectionLost = heard.append  # type: ignore[method-assign, assignment]
    owners = Owners()
    ownership = owners.ownership(owner)
    owner.connectionLost(LOST)
    assert heard == [LOST]
    assert ownership.ended


def test_a_protocol_whose_connection_was_lost_before_it_was_known_cannot_own() -> None:
    owner, transport = Protocol(), StringTransport()
    transport.disconnected = True  # type: ignore[attr-defined]
    owner.makeConnection(transport)
    with pytest.raises(LeaseError, match="has ended"):
        Owners().ownership(owner)


def test_a_hook_that_outlives_its_owner_does_nothing() -> None:
    owner = Noting()
    Owners().ownership(owner)
    hook: Any = owner.connectionLost
    del owner
    assert hook(LOST) is None


# A Service


class Slow(Service):
    def __init__(self, leases: list[Lease[Any]]) -> None:
        self.leases = leases
        self.stopped: Deferred[str] = Deferred()

    def stopService(self) -> Deferred[str]:  # type: ignore[override]
        self.held_at_stop = [each.held for each in self.leases]
        return self.stopped


def test_the_leases_of_a_service_are_finished_before_it_waits_for_their_answers() -> None:
    leased = Leased()
    owner = Slow([leased.lease()])
    owners = Owners()
    owners.ownership(owner).hold(owner.leases[0])
    assert owner.stopService() is owner.stopped
    assert owner.held_at_stop == [False]


def test_a_service_that_its_parent_stops_has_ended_and_one_started_again_has_not() -> None:
    leased, owners = Leased(), Owners()
    parent, owner = MultiService(), Service()
    owner.setServiceParent(parent)
    parent.startService()
    ownership = owners.ownership(owner)
    ownership.hold(leased.lease())
    parent.stopService()
    with pytest.raises(LeaseError, match="has ended"):
        owners.ownership(owner)
    parent.startService()
    assert owners.ownership(owner) is ownership
    ownership.hold(lease := leased.lease())
    assert lease.held
    parent.stopService()
    assert leased.outcomes[-1] is FINISHED


def test_a_service_that_is_about_to_start_may_own() -> None:
    owners, owner = Owners(), Service()
    leased = Leased()
    owners.ownership(owner).hold(lease := leased.lease())
    owner.startService()
    assert lease.held
    lease.release()


# What cannot own


@pytest.mark.parametrize("other", [None, "me", 5, object(), Protocol, [], {}])
def test_what_does_not_end_cannot_own(other: Any) -> None:
    with pytest.raises(
        TypeError, match="owner must be a Deferred, a Protocol, a Service or a task of asyncio, not"
    ):
        Owners().ownership(other)


@implementer(IProtocol)
class Slotted:
    __slots__ = ()

    def connectionLost(self, reason: object) -> None: ...


class Referable(Slotted):
    __slots__ = ("__weakref__",)


@implementer(IProtocol)
class Unhashable:
    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Slotted, "cannot create weak reference to 'Slotted' object"),
        (Referable, "'connectionLost' is read-only"),
        (Unhashable, "unhashable type: 'Unhashable'"),
    ],
)
def test_a_protocol_whose_end_cannot_be_told_cannot_own(make: Callable[[], Any], why: str) -> None:
    with pytest.raises(TypeError, match=f"{make.__name__} at .* cannot be an owner: .*{why}"):
        Owners().ownership(make())


def test_an_owner_that_equals_another_is_not_taken_for_it() -> None:
    class Equal(Protocol):
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 1

    owners = Owners()
    one, two = Equal(), Equal()
    owners.ownership(one)
    with pytest.raises(TypeError, match="it equals another"):
        owners.ownership(two)


# A service that is stopped by a method that was taken before


class Parent(MultiService):
    """Has slots beside its attributes."""

    __slots__ = ("children",)


KINDS = [Service, MultiService, Parent]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_that_was_taken_before_the_first_lease_ends_the_owner(kind: Any) -> None:
    leased, owners, owner = Leased(), Owners(), kind()
    owner.startService()
    start, stop = owner.startService, owner.stopService
    ownership = owners.ownership(owner)
    ownership.hold(first := leased.lease())
    assert owner.running
    stop()
    assert not first.held
    assert leased.outcomes == [FINISHED]
    assert not owner.running
    with pytest.raises(LeaseError, match="has ended"):
        owners.ownership(owner)
    start()
    ownership.hold(lease := leased.lease())
    assert owner.running
    assert lease.held
    stop()
    assert leased.outcomes == [FINISHED, FINISHED]


@pytest.mark.parametrize("kind", KINDS)
def test_a_service_that_owns_is_what_it_was_in_all_else(kind: Any) -> None:
    owners, owner, other = Owners(), kind(), kind()
    said = repr(owner).partition(" at ")[0]
    owner.setName("mine")
    owners.ownership(owner)
    owners.ownership(other)
    assert isinstance(owner, kind)
    assert repr(owner).partition(" at ")[0] == said
    assert type(owner) is type(other)
    assert (owner.name, other.name) == ("mine", None)
    assert IService.providedBy(owner)
    assert not owner.running
    parent = MultiService()
    owner.setServiceParent(parent)
    parent.startService()
    assert (owner.running, other.running) == (True, False)


def test_a_service_that_owns_can_be_garbage() -> None:
    owners, owner = Owners(), Service()
    owners.ownership(owner)
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None

"""What is warmed without an ident is for the first ident that asks, if nothing was told another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, ConnectContext, ConnectionManager, Lease, Policy, Pool
from kolus.balance import fill_first
from kolus.events import Event
from kolus.testing import FakeBackend, result_of


class Rig:
    """A pool and a group of one backend."""

    def __init__(self, *, ident: str | None = None, make_manager: Any = None, **policy: Any):
        self.clock = Clock()
        self.fake = FakeBackend(self.clock)
        self.backend = Backend(self.fake, name="b")
        self.events: list[Event] = []
        self.pool: Pool[Any] = Pool(
            *(self.clock, Protocol),
            policy=Policy(**policy),
            make_manager=make_manager,
            observers=[self.events.append],
        )
        self.group = self.pool.group([self.backend], ident=ident)

    def idents(self) -> list[Any]:
        return [each.ident for each in self.pool.status()]


WAYS: dict[str, Callable[[Rig], Deferred[Any]]] = {
    "connect": lambda rig: rig.pool.connect("us", rig.backend),
    "try": lambda rig: succeed(rig.pool.try_connect("us", rig.backend)),
    "fresh": lambda rig: rig.pool.connect("us", rig.backend, fresh=True),
    "select": lambda rig: rig.pool.select("us", [rig.backend]),
    "group": lambda rig: rig.group.connect("us"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("idents", ["separate", "replace", "reject"])
@pytest.mark.parametrize("slots", [None, 2])
@pytest.mark.parametrize("limit", [3, 10])
def test_the_first_ident_that_asks_has_what_was_warmed(
    way: str, idents: Any, slots: int | None, limit: int
) -> None:
    rig = Rig(limit=limit, slots=slots, idents=idents)
    assert result_of(rig.pool.warm(rig.backend, 3)) is None
    lease: Lease[Any] = result_of(WAYS[way](rig))
    assert (lease.ident, rig.fake.attempts, rig.idents()) == ("us", 3, ["us"])
    lease.release()
    assert rig.events[-1].ident == "us"


@pytest.mark.parametrize("way", ["connect", "fresh", "select", "group"])
def test_one_that_asks_while_it_is_warmed_has_what_comes(way: str) -> None:
    rig = Rig()
    rig.fake.accept(0.2, always=True)
    warmed = rig.pool.warm(rig.backend, 3)
    asked = WAYS[way](rig)
    rig.clock.pump([0.1] * 5)
    assert result_of(asked).ident == "us"
    assert result_of(warmed) is None
    assert (rig.fake.attempts, rig.idents()) == (3, ["us"])


def test_the_next_ident_has_connections_of_its_own() -> None:
    rig = Rig()
    result_of(rig.pool.warm(rig.backend, 2))
    leases = [result_of(rig.pool.connect(ident, rig.backend)) for ident in ("us", "them")]
    assert [each.ident for each in leases] == ["us", "them"]
    assert rig.fake.attempts == 3
    for lease in leases:
        lease.release()


@pytest.mark.parametrize("waits", [False, True])
def test_what_no_ident_has_used_or_waits_for_is_not_given_away(waits: bool) -> None:
    rig = Rig(limit=3)
    if waits:
        rig.fake.accept(0.2, always=True)
    asked = rig.pool.connect(None, rig.backend)
    other = rig.pool.connect("us", rig.backend)
    rig.clock.pump([0.1] * 5)
    leases = [result_of(each) for each in (asked, other)]
    assert [each.ident for each in leases] == [None, "us"]
    for lease in leases:
        lease.release()
    third = rig.pool.connect("them", rig.backend)
    rig.clock.pump([0.1] * 5)
    assert result_of(third).ident == "them"
    assert sorted(map(str, rig.idents())) == ["None", "them", "us"]


def test_what_was_prepared_for_no_ident_is_not_given_to_one() -> None:
    told: list[Any] = []

    def log_in(protocol: Protocol, context: ConnectContext) -> None:
        told.append(context.ident)

    rig = Rig(prepare=log_in)
    result_of(rig.pool.warm(rig.backend, 2))
    result_of(rig.pool.connect("us", rig.backend)).release()
    assert told == [None, None, "us"]


def test_what_was_reached_for_no_ident_is_not_given_to_one() -> None:
    rig, told = Rig(), list[Any]()

    def endpoint(context: ConnectContext) -> FakeBackend:
        told.append(context.ident)
        return rig.fake

    backend = Backend(endpoint)
    result_of(rig.pool.warm(backend, 2))
    result_of(rig.pool.connect("us", backend)).release()
    assert told == [None, None, "us"]


def test_the_users_own_managers_keep_their_idents() -> None:
    made: list[Any] = []

    def make(backend: Backend, ident: Any) -> Any:
        made.append(ident)
        return ConnectionManager(rig.clock, Protocol, backend, ident)

    rig = Rig(make_manager=make)
    result_of(rig.pool.warm(rig.backend, 2))
    result_of(rig.pool.connect("us", rig.backend)).release()
    assert made == [None, "us"]


def test_a_draining_backend_gives_nothing_to_another_ident() -> None:
    rig = Rig(close_timeout=None)
    result_of(rig.pool.warm(rig.backend, 2))
    drained = rig.pool.drain(rig.backend)
    asked = rig.pool.connect("us", rig.backend)
    asked.addErrback(lambda failure: failure.type.__name__)
    assert result_of(asked) == "Draining"
    rig.clock.pump([0, 0])
    assert result_of(drained) is None


def test_a_group_warms_for_its_own_ident() -> None:
    rig = Rig(ident="ours")
    result_of(rig.group.warm(2))
    assert rig.idents() == ["ours"]
    result_of(rig.pool.warm(rig.group, 3))
    assert (rig.idents(), rig.fake.attempts) == (["ours"], 3)


def test_what_another_call_of_warm_claims_serves_who_waits_for_that_ident() -> None:
    rig = Rig()
    slow = FakeBackend(rig.clock)
    slow.accept(10.0, always=True)
    result_of(rig.pool.warm(rig.backend, 1))
    asked = rig.pool.select("us", [Backend(slow, name="slow"), rig.backend], fill_first)
    assert not asked.called
    assert result_of(rig.pool.warm(rig.backend, 1, ident="us")) is None
    assert result_of(asked).backend == rig.backend


def test_to_look_for_a_manager_gives_nothing_away() -> None:
    rig = Rig()
    result_of(rig.pool.warm(rig.backend, 1))
    assert rig.pool.manager(rig.backend, "us") is None
    assert rig.idents() == [None]

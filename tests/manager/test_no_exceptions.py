"""User code that raises what is no C{Exception}, such as C{asyncio.CancelledError}: it is contained
as any other error. Otherwise the pool would stop in the middle of a change."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from zope.interface import implementer

from kolus import Backend, ISlots, Policy, Pool
from kolus.testing import FakeBackend, result_of
from tests.conftest import LoggedFailures

RAISED = pytest.mark.parametrize("raised", [asyncio.CancelledError, SystemExit])


class Raising(Protocol):
    """Raises where the test says.

    @ivar where: the name of the method that raises next, and only once.
    """

    where = ""
    raised: type[BaseException]

    def meet(self, where: str) -> None:
        if type(self).where == where:
            type(self).where = ""
            raise self.raised

    def __init__(self) -> None:
        self.meet("__init__")

    def connectionMade(self) -> None:
        self.meet("connectionMade")

    def connectionLost(self, reason: object = None) -> None:
        self.meet("connectionLost")


@implementer(ISlots)
class Shared(Raising):
    @property
    def slots(self) -> int:
        self.meet("slots")
        return 1

    def watch_slots(self, changed: object) -> None:
        """It changes only when it is looked at."""


class World:
    """A pool for one backend with a limit of one connection, so what is lost is missed."""

    def __init__(self, raised: type[BaseException], **policy: Any) -> None:
        base = Shared if policy.get("slots") else Raising
        self.kind: Any = type("Kind", (base,), {"raised": raised})
        self.clock = Clock()
        self.fake = FakeBackend(self.clock)
        self.backend = Backend(self.fake, name="fake")
        settings = Policy(**({"limit": 1, "backoff": None, "ejection": None} | policy))
        self.pool: Pool[Any] = Pool(self.clock, self.kind, policy=settings)

    def use(self) -> None:
        asked = self.pool.connect("us", self.backend)
        asked.addCallback(lambda lease: lease.release())
        asked.addErrback(lambda failure: None)
        self.clock.pump([0.0] * 5)

    def is_in_order(self) -> bool:
        """Whether the one connection can be leased and released."""
        asked = self.pool.connect("us", self.backend, timeout=1.0)
        self.clock.pump([0.0, 0.1, 0.1])
        result_of(asked).release()
        self.clock.pump([0.0] * 5)
        status = self.pool.status([self.backend])[0]
        closed = self.pool.close()
        self.clock.pump([0.0] * 5)
        result_of(closed)
        return (status.leased, status.connecting, status.waiting) == (0, 0, 0)


@RAISED
@pytest.mark.parametrize("slots", [None, 1])
@pytest.mark.parametrize("where", ["__init__", "connectionMade", "connectionLost"])
def test_a_protocol_that_raises_it_costs_one_connection(
    raised: type[BaseException], slots: int | None, where: str, logged_failures: LoggedFailures
) -> None:
    world = World(raised, slots=slots)
    if where == "connectionLost":
        world.use()
        world.kind.where = where
        world.fake.accepted[0].reset()
    else:
        world.kind.where = where
        world.use()
    assert world.kind.where == ""
    assert world.is_in_order()
    assert bool(logged_failures.flush(raised)) == (where != "__init__")


@RAISED
def test_a_number_of_slots_that_raises_it_costs_one_connection(raised: type[BaseException]) -> None:
    world = World(raised, slots=1)
    world.kind.where = "slots"
    world.use()
    assert world.kind.where == ""
    assert world.is_in_order()


@RAISED
def test_a_clean_that_raises_it_costs_one_connection(raised: type[BaseException]) -> None:
    answers = [raised]

    def clean(protocol: object) -> bool:
        if answers:
            raise answers.pop()
        return True

    world = World(raised, clean=clean)
    world.use()
    assert not world.fake.connections
    assert world.is_in_order()


@RAISED
@pytest.mark.parametrize("slots", [None, 1])
@pytest.mark.parametrize(
    "event", ["Connected", "ConnectFailure", "Leased", "Released", "Finished", "Lost", "Cancelled"]
)
def test_an_observer_that_raises_it_is_dropped_and_nothing_else(
    raised: type[BaseException], slots: int | None, event: str, logged_failures: LoggedFailures
) -> None:
    met = []

    def observe(each: object) -> None:
        if type(each).__name__ == event:
            met.append(each)
            raise raised

    world = World(raised, slots=slots)
    world.pool.add_observer(observe)
    world.fake.refuse()
    world.use()
    world.use()
    lease = result_of(world.pool.connect("us", world.backend))
    waiting = world.pool.connect("us", world.backend)
    waiting.addErrback(lambda failure: None)
    waiting.cancel()
    world.fake.connections[0].reset()
    lease.finished()
    assert len(met) == 1
    assert world.is_in_order()
    assert logged_failures.flush(raised)


@RAISED
def test_a_canceller_that_raises_it_does_not_keep_the_slot(
    raised: type[BaseException], logged_failures: LoggedFailures
) -> None:
    def fail(_: object) -> None:
        raise raised

    steps: list[Deferred[None]] = [Deferred(fail)]
    world = World(raised, prepare=lambda protocol: steps.pop() if steps else None)
    asked = world.pool.connect("us", world.backend)
    asked.addErrback(lambda failure: None)
    world.clock.advance(6.0)
    world.clock.pump([0.0] * 5)
    assert world.is_in_order()
    assert logged_failures.flush(raised)


@RAISED
def test_an_owner_whose_lease_cannot_be_ended_does_not_keep_the_others(
    raised: type[BaseException], logged_failures: LoggedFailures
) -> None:
    world = World(raised, limit=2, slots=None)
    owner: Deferred[None] = Deferred()
    leases = [result_of(world.pool.connect("us", world.backend, owner=owner)) for _ in range(2)]

    def observe(event: object) -> None:
        raise raised

    world.pool.add_observer(observe)
    owner.callback(None)
    assert [each.held for each in leases] == [False, False]
    assert world.is_in_order()
    assert logged_failures.flush(raised)


@RAISED
def test_a_balancer_that_raises_it_in_observe_costs_nothing(
    raised: type[BaseException], logged_failures: LoggedFailures
) -> None:
    class Balancer:
        def __call__(self, statuses: Any) -> Any:
            return statuses[0]

        def observe(self, backend: Backend, seconds: float) -> None:
            raise raised

    world = World(raised)
    balancer = Balancer()
    group = world.pool.group([world.backend], balancer)
    result_of(group.connect("us")).release()
    assert world.is_in_order()
    assert logged_failures.flush(raised)

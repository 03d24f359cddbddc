"""A user's own managers for several backends: they are asked one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from kolus import (
    Backend,
    Closed,
    ConnectFailed,
    ConnectionManager,
    IKolusManager,
    LeaseTimeout,
    Policy,
    Pool,
)
from kolus.balance import fill_first
from kolus.events import Cancelled, Event
from kolus.status import State
from kolus.testing import FakeBackend, result_of
from kolus.testing.results import failure_of
from tests.rigs.groups import Sourced
from tests.rigs.pools import Pooled


@implementer(IKolusManager)
class Plain:
    """A manager that shares no queue."""

    def __init__(self, manager: ConnectionManager[Any]) -> None:
        self._manager = manager

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)


def plain(rig: Pooled, **policy: Any) -> Callable[[Backend, Any], IKolusManager]:
    def make(backend: Backend, ident: Any) -> IKolusManager:
        made: Any = Plain(ConnectionManager(rig.clock, Protocol, backend, ident, Policy(**policy)))
        return made  # type: ignore[no-any-return]

    return make


def test_a_connect_that_fails_at_a_manager_of_ones_own_is_retried_elsewhere() -> None:
    rig = Pooled()
    rig.fakes[0].refuse(after=0.1, always=True)
    pool: Pool[Any] = Pool(rig.clock, Protocol, make_manager=plain(rig))
    asked = pool.group(rig.backends, fill_first).connect("us")
    rig.clock.pump([0.1])
    assert result_of(asked).backend == rig.backends[1]


def test_the_error_names_all_managers_of_ones_own_that_were_tried() -> None:
    rig = Pooled()
    for fake in rig.fakes:
        fake.refuse(after=0.1, always=True)
    pool: Pool[Any] = Pool(rig.clock, Protocol, make_manager=plain(rig))
    asked = pool.group(rig.backends, fill_first).connect("us")
    rig.clock.pump([0.1] * 4)
    assert list(failure_of(ConnectFailed, asked).tried) == rig.backends


def test_managers_of_ones_own_are_tried_while_the_deadline_lasts() -> None:
    rig = Pooled()
    rig.fakes[0].refuse(after=0.5, always=True)
    rig.fakes[1].never_answer(always=True)
    pool: Pool[Any] = Pool(rig.clock, Protocol, make_manager=plain(rig))
    asked = pool.group(rig.backends[:2], fill_first).connect("us", timeout=1)
    rig.clock.pump([0.25] * 4)
    error = failure_of(LeaseTimeout, asked)
    assert error.waited == 1
    assert list(error.tried) == [rig.backends[0]]


def test_a_request_at_a_manager_of_ones_own_can_be_cancelled_wherever_it_is() -> None:
    rig = Pooled()
    rig.fakes[0].refuse(after=0.1, always=True)
    rig.fakes[1].never_answer(always=True)
    pool: Pool[Any] = Pool(rig.clock, Protocol, make_manager=plain(rig))
    asked = pool.group(rig.backends, fill_first).connect("us")
    rig.clock.advance(0.1)
    asked.cancel()
    failure_of(Exception, asked)
    assert [each.waiting for each in pool.status()] == [0, 0]


def test_a_request_that_its_balancer_cancels_when_it_chooses_again_keeps_no_lease() -> None:
    rig = Pooled()
    rig.fakes[0].refuse(after=0.1)
    pool: Pool[Any] = Pool(rig.clock, Protocol, make_manager=plain(rig))
    asked: list[Deferred[Any]] = []

    def choose(statuses: Any) -> Any:
        for each in asked:
            each.cancel()
        return statuses[0]

    asked.append(pool.group(rig.backends, choose).connect("us"))
    rig.clock.pump([0.1, 0])
    failure_of(CancelledError, asked[0])
    assert [each.leased for each in pool.status()] == [0, 0]


def test_a_request_that_is_cancelled_again_when_its_cancelling_is_told_fails_once() -> None:
    rig = Pooled(limit=1)

    def make(backend: Backend, ident: Any) -> Any:
        if backend is rig.backends[0]:
            raise ValueError("it is of no use")
        return pool._make(backend, ident)

    def told(event: Event) -> None:
        if isinstance(event, Cancelled):
            asked.cancel()

    pool: Pool[Any] = Pool(
        *(rig.clock, Protocol), policy=Policy(limit=1), make_manager=make, observers=[told]
    )
    held = result_of(pool.connect("us", rig.backends[1]))
    asked = pool.select("us", rig.backends[:2], fill_first)
    asked.cancel()
    failure_of(CancelledError, asked)
    held.release()


def test_a_request_at_a_manager_of_ones_own_is_not_retried_when_its_group_is_closed() -> None:
    rig = Pooled()
    rig.fakes[0].refuse(after=0.1, always=True)
    pool: Pool[Any] = Pool(rig.clock, Protocol, make_manager=plain(rig))
    group = pool.group(rig.backends, fill_first)
    asked = group.connect("us")
    group.close()
    rig.clock.pump([0.1] * 2)
    failure_of(Closed, asked)
    assert not rig.fakes[1].connections


def test_one_of_ones_own_that_cannot_be_resized_does_not_keep_a_list_from_being_heeded(
    logged_failures: Any,
) -> None:
    rig = Sourced("")

    class Rigid(Plain):
        def resize(self, limit: int) -> None:
            raise ArithmeticError

    def make(backend: Backend, ident: Any) -> Any:
        here = Backend(FakeBackend(rig.clock))
        manager: Any = Rigid(ConnectionManager(rig.clock, Protocol, here, ident))
        manager.backend = backend
        return manager

    rig.pool._managers._make = make
    stays, leaves = "tcp:192.0.2.1:1", "tcp:192.0.2.2:1"
    rig.source.tell(Backend(stays), Backend(leaves))
    for each in (stays, leaves):
        result_of(rig.pool.connect("us", each)).release()
    rig.source.tell(Backend(stays, limit=2))
    assert len(logged_failures.flush(ArithmeticError)) == 1
    rig.turn()
    assert [each.state for each in rig.pool.status([stays, leaves])] == [State.OPEN, State.ABSENT]


@pytest.mark.parametrize("how", ["connect", "select one", "select", "group"])
def test_a_pool_that_is_closed_while_a_manager_is_made_keeps_none(how: str) -> None:
    rig = Pooled()
    made: list[ConnectionManager[Any]] = []

    def make(backend: Backend, ident: Any) -> IKolusManager:
        pool.close()
        made.append(ConnectionManager(rig.clock, Protocol, backend, ident))
        return made[-1]  # type: ignore[return-value]

    pool: Pool[Any] = Pool(rig.clock, Protocol, make_manager=make)
    group = pool.group(rig.backends, fill_first)
    backend = rig.backends[0]
    ask: dict[str, Callable[[], Any]] = {
        "connect": lambda: pool.connect("us", backend),
        "select one": lambda: pool.select("us", [backend]),
        "select": lambda: pool.select("us", rig.backends),
        "group": lambda: group.connect("us"),
    }
    failure_of(Closed, ask[how]())
    assert not pool.status()
    assert [each.status().state for each in made] == [State.CLOSED]


def test_what_is_made_while_the_same_is_made_is_kept_and_the_other_closed() -> None:
    rig = Pooled()
    made: list[ConnectionManager[Any]] = []
    within: list[Any] = []

    def make(backend: Backend, ident: Any) -> IKolusManager:
        if not within:
            within.append(None)
            within[0] = pool.connect(ident, backend)
        made.append(ConnectionManager(rig.clock, Protocol, backend, ident))
        return made[-1]  # type: ignore[return-value]

    pool: Pool[Any] = Pool(rig.clock, Protocol, make_manager=make)
    asked = pool.connect("us", rig.backends[0])
    leases = [result_of(each) for each in (within[0], asked)]
    assert [each.manager for each in leases] == [made[0]] * 2
    assert made[1].status().state is State.CLOSED
    assert [each.manager for each in pool.status()] == [made[0]]

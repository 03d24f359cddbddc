"""A request to several backends for a fresh connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
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
from kolus.balance import fill_first, pick_two
from kolus.testing import FakeBackend, NotFired, result_of
from tests.rigs.groups import Grouped
from tests.rigs.pools import Pooled
from tests.rigs.steps import steps


def used(count: int = 3, **policy: Any) -> Grouped:
    """A group with one idle connection at each backend that was leased before."""
    return use_each(Grouped(count, **policy))


def use_each(rig: Grouped) -> Grouped:
    for backend in rig.backends:
        result_of(rig.pool.connect("us", backend)).release()
    return rig


def attempts(rig: Grouped) -> list[int]:
    return [each.attempts for each in rig.fakes]


@pytest.mark.parametrize("balancer", [fill_first, pick_two()])
def test_a_fresh_connection_is_made_although_others_are_idle(balancer: Any) -> None:
    rig = use_each(Grouped(3, balancer, limit=2))
    before = sum(attempts(rig))
    lease = rig.lease(fresh=True)
    assert not lease.reused
    assert sum(attempts(rig)) == before + 1
    assert rig.lease().reused
    lease.release()


def test_at_the_limit_of_all_an_idle_connection_makes_way() -> None:
    rig = used()
    asked = rig.ask(fresh=True)
    with pytest.raises(NotFired):
        result_of(asked)
    rig.turn()
    assert not result_of(asked).reused
    assert sum(attempts(rig)) == 4


def test_a_fresh_request_is_placed_where_there_is_room() -> None:
    rig = Grouped(3)
    held = rig.lease()
    assert str(held.backend) == "a"
    held.release()
    lease = rig.lease(fresh=True)  # at a, one would have to make way
    assert str(lease.backend) == "b"


def test_an_idle_connection_that_was_never_leased_serves_it_wherever_it_is() -> None:
    rig = Grouped(2)
    rig.fakes[1].accept(after=1.0)
    held = rig.lease()
    asked = rig.ask()
    asked.addErrback(lambda _: None).cancel()
    rig.clock.advance(1.0)
    assert [each.idle for each in rig.pool.status(rig.backends)] == [0, 1]
    lease = rig.lease(fresh=True)
    assert str(lease.backend) == "b"
    assert not lease.reused
    held.release()


@pytest.mark.parametrize("slots", [None, 2])
def test_no_later_request_takes_what_is_idle_past_one_that_prefers_another_backend(
    slots: int | None,
) -> None:
    def first(statuses: Sequence[Any]) -> Any:
        return statuses[0]

    first.prefers = True  # type: ignore[attr-defined]
    rig = Grouped(2, lambda statuses: statuses[1], limit=2, slots=slots)
    rig.fakes[0].never_answer()
    rig.pool.warm(rig.backends[1], ident="us")
    asked = rig.ask(fresh=True, balancer=first)
    assert not asked.called
    rig.ask()
    assert str(result_of(asked).backend) == "b"


def test_the_first_connection_to_be_made_serves_it_wherever_that_is() -> None:
    rig = Grouped(2)
    rig.fakes[0].accept(after=3.0)
    rig.fakes[1].accept(after=1.0)
    first, second = rig.ask(fresh=True), rig.ask(fresh=True)
    rig.clock.advance(1.0)
    assert str(result_of(first).backend) == "b"
    rig.clock.advance(2.0)
    assert str(result_of(second).backend) == "a"


def test_what_was_leased_before_serves_those_behind_it() -> None:
    rig = Grouped(2)
    leases = rig.fill()
    first, second = rig.ask(fresh=True), rig.ask()
    leases["a"].release()  # makes way
    leases["b"].release()
    assert result_of(second).reused
    rig.turn()
    assert not result_of(first).reused


def test_after_a_failed_connect_another_backend_is_tried() -> None:
    rig = Grouped(3)
    rig.fakes[0].refuse(always=True)
    lease = rig.lease(fresh=True)
    assert str(lease.backend) == "b"
    assert not lease.reused


def test_when_all_fail_the_error_names_them_all() -> None:
    rig = used(2, limit=2)
    for each in rig.fakes:
        each.refuse(always=True)
    with pytest.raises(ConnectFailed) as caught:
        rig.lease(fresh=True)
    assert set(caught.value.tried) == set(rig.backends)


def test_exclude_and_a_balancer_go_with_it() -> None:
    rig = used(3, limit=2)
    lease = rig.lease(fresh=True, exclude=rig.backends[:2])
    assert (str(lease.backend), lease.reused) == ("c", False)
    lease = rig.lease(fresh=True, balancer=lambda statuses: statuses[1])
    assert (str(lease.backend), lease.reused) == ("b", False)


def test_with_a_bound_balancer_it_waits_for_the_chosen_backend() -> None:
    def first(statuses: Any) -> Any:
        return statuses[0]

    first.bound = True  # type: ignore[attr-defined]
    rig = used(2)
    asked = rig.ask(fresh=True, balancer=first)
    rig.turn()
    lease = result_of(asked)
    assert (str(lease.backend), lease.reused) == ("a", False)


def test_try_connect_gives_none_or_one_that_was_never_leased() -> None:
    rig = used(2, limit=2)
    assert rig.group.try_connect("us", fresh=True) is None
    assert sum(attempts(rig)) == 2
    assert rig.group.try_connect("us") is not None


def test_cancelling_and_the_deadline_and_closing_end_it() -> None:
    rig = Grouped(2)
    held = rig.fill()
    cancelled, late = rig.ask(fresh=True), rig.ask(fresh=True, timeout=1.0)
    cancelled.cancel()
    with pytest.raises(CancelledError):
        result_of(cancelled)
    rig.clock.advance(1.0)
    with pytest.raises(LeaseTimeout):
        result_of(late)
    closed = rig.ask(fresh=True)
    rig.group.close()
    with pytest.raises(Closed):
        result_of(closed)
    assert rig.waiting() == [0, 0]
    assert all(each.held for each in held.values())


def test_an_owner_ends_it() -> None:
    rig = Grouped(1)
    held = rig.lease()
    owner: Deferred[None] = Deferred()
    asked = rig.ask(fresh=True, owner=owner)
    owner.callback(None)
    with pytest.raises(CancelledError):
        result_of(asked)
    held.release()


def test_a_backend_that_leaves_leaves_its_requests_to_the_others() -> None:
    rig = Grouped(2)
    leases = rig.fill()
    asked = rig.ask(fresh=True)
    rig.group._told(rig.backends[1:])
    leases["b"].release()
    rig.turn()
    lease = result_of(asked)
    assert (str(lease.backend), lease.reused) == ("b", False)
    leases["a"].release()


def test_empty_queues_for_fresh_connections_are_few_whatever_the_number_of_idents() -> None:
    rig = used(2)
    for number in range(100):
        rig.group.connect(number, fresh=True).addErrback(lambda failure: None).cancel()
    assert len(rig.group._candidates.queues._queues) <= 65


def test_one_fresh_connection_costs_the_same_where_there_are_many_backends() -> None:
    def cost_with(count: int) -> int:
        clock = Clock()
        backends = [Backend(FakeBackend(clock), name=str(each)) for each in range(count)]
        pool = Pool(clock, Protocol, policy=Policy(limit=1))
        group = pool.group(backends)
        kept = [result_of(pool.connect("us", each)) for each in backends]

        def ask_and_cancel() -> None:
            group.connect("us", fresh=True).addErrback(lambda failure: None).cancel()

        ask_and_cancel()
        least = min([steps(ask_and_cancel) for _ in range(20)])
        assert len(kept) == count
        return least

    assert cost_with(100) <= 3 * cost_with(10)


def test_select_does_the_same_for_a_list() -> None:
    rig = Pooled(limit=1)
    for backend in rig.backends:
        result_of(rig.pool.connect("us", backend)).release()
    asked = rig.pool.select("us", rig.backends, fresh=True)
    rig.turn()
    lease = result_of(asked)
    assert not lease.reused
    lease.release()
    alone = rig.pool.select("us", rig.backends[:1], fresh=True)
    rig.turn()
    lease = result_of(alone)
    assert (lease.backend, lease.reused) == (rig.backends[0], False)


def test_a_fresh_request_of_a_group_gets_a_new_shared_connection() -> None:
    rig = Grouped(2, slots=2)
    held = [rig.lease() for _ in range(3)]
    asked = [rig.ask(fresh=True) for _ in range(2)]
    for each in held:
        each.release()
        rig.turn()
    leases = [result_of(each) for each in asked]
    assert [each.reused for each in leases] == [False, False]


# Managers of a third party


@implementer(IKolusManager)
class Plain:
    """A manager that knows nothing of fresh connections, nor of groups."""

    def __init__(self, inner: ConnectionManager[Any]) -> None:
        self._inner = inner
        self.backend, self.ident = inner.backend, inner.ident

    def connect(self, ident: Any, timeout: Any = None, owner: Any = None) -> Any:
        return self._inner.connect(ident, timeout, owner)

    def try_connect(self, ident: Any, owner: Any = None) -> Any:
        return self._inner.try_connect(ident, owner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Others(Pooled):
    """A pool whose managers are a third party's."""

    def __init__(self) -> None:
        super().__init__()
        pool = self.pool
        self.pool = Pool(
            self.clock,
            pool._protocol,
            make_manager=lambda backend, ident: Plain(
                ConnectionManager(self.clock, pool._protocol, backend, ident)
            ),
        )


def test_a_manager_that_does_not_know_it_is_told_so_clearly() -> None:
    rig = Others()
    backend = rig.backends[0]
    with pytest.raises(TypeError, match=r"fresh=True needs a manager that provides IGivesFresh"):
        rig.pool.connect("us", backend, fresh=True)
    with pytest.raises(TypeError, match="IGivesFresh"):
        rig.pool.try_connect("us", backend, fresh=True)
    with pytest.raises(TypeError, match="IGivesFresh"):
        result_of(rig.pool.select("us", rig.backends, fresh=True))
    assert result_of(rig.pool.connect("us", backend)).held


def test_no_head_start_is_given_past_an_older_request_that_wants_a_fresh_connection() -> None:
    turn = [1]
    rig = Grouped(2, lambda statuses: statuses[turn[0]], limit=2)
    rig.lease().finished()  # the manager of b is made
    rig.turn()
    turn[0] = 0
    rig.fakes[0].accept(after=0.1)
    older = rig.ask(fresh=True)
    turn[0] = 1
    younger = rig.ask()
    assert result_of(older).backend is rig.backends[1]
    assert result_of(younger).held


@pytest.mark.parametrize("slots", [None, 2])
def test_what_was_never_leased_serves_it_although_others_have_something_idle(
    slots: int | None,
) -> None:
    rig = Grouped(3, limit=2, slots=slots)
    rig.pool.resize_pool(3)
    for backend in rig.backends[:2]:
        result_of(rig.pool.connect("us", backend)).release()
    result_of(rig.pool.warm(rig.backends[2], ident="us"))
    lease = rig.lease(fresh=True)
    assert (lease.backend, lease.reused) == (rig.backends[2], False)
    assert attempts(rig) == [1, 1, 1]


def test_one_that_waits_beside_free_slots_is_placed_where_a_new_connection_can_be_made() -> None:
    rig = Grouped(2, slots=3, limit=2)
    rig.pool.eject(rig.backends[1])
    asked = [rig.ask(fresh=True) for _ in range(3)]
    assert [each.called for each in asked] == [True, True, False]
    rig.pool.admit(rig.backends[1])
    leases = [result_of(each) for each in asked]
    assert [str(each.backend) for each in leases] == ["a", "a", "b"]

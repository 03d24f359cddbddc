"""Invariants of requests that wait for several backends, checked after every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kolus import Group
from kolus.balance import fill_first, idle_first, least_leased
from kolus.balance import lowest as ranked
from kolus.balance.candidates import lowest, total_load
from kolus.manager.connection_state import ConnectionState
from tests.rigs.ledger import Ledger, Manager

__all__ = ["check_groups", "check_nothing_is_left"]

_RANKS = {fill_first: ranked._by_queue, idle_first: ranked._by_readiness}
_RANKS[least_leased] = ranked.by_load


def check_groups(ledger: Ledger, groups: Sequence[Group[Any]]) -> None:
    """Check every queue that several backends share, and the state of the groups."""
    for group in groups:
        if group.balancer in _RANKS and not group._closed:  # else nobody watches
            the_index_knows_the_lowest(group)
    queues = {queue for manager in ledger.managers for queue in manager._shared}
    queues |= set(ledger.pool._managers.records._queues_at(None))
    managers_know_their_queues(ledger)
    for queue in queues:
        each_waits_at_one_manager(ledger, queue)
        nobody_waits_for_what_is_idle_elsewhere(ledger, queue)
        nobody_waits_where_fewer_can_be_served(ledger, queue)
    for manager in ledger.managers:
        for waiter in manager.waiting:
            assert waiter.shared is None or waiter.shared.waiting.get(waiter) is manager
    for queue in ledger.pool._selector._queues.values():
        assert queue.waiting, "a queue for a list has outlived its requests"


def managers_know_their_queues(ledger: Ledger) -> None:
    records = ledger.pool._managers.records
    for record in records:
        assert {each.ident for each in record.members} == set(record._shared)
        for ident, queues in record._shared.items():
            assert set(queues) == set(records.queues(record, ident))


def the_index_knows_the_lowest(group: Group[Any]) -> None:
    statuses = group.statuses
    rank = _RANKS[group.balancer]
    if statuses:
        assert rank(lowest(statuses, rank)) == min(map(rank, statuses))
        assert total_load(statuses) == sum(each.leased + each.waiting for each in statuses)


def each_waits_at_one_manager(ledger: Ledger, queue: Any) -> None:
    orders = [each.order for each in queue.waiting]
    assert orders == sorted(orders)
    for waiter, manager in queue.waiting.items():
        assert waiter.shared is queue
        assert waiter.queue is manager._waiters
        assert waiter in manager.waiting
        assert manager.ident == queue.ident
        assert waiter in queue._at[manager]
        assert not waiter.called
    assert sum(map(len, queue._at.values())) == len(queue.waiting)
    assert not queue._homeless


def servers(ledger: Ledger, queue: Any) -> list[Manager]:
    found = list(ledger.pool._managers.servers(queue))
    return [each for each in found if each.serves() and queue.may_serve(each.backend)]


def nobody_waits_for_what_is_idle_elsewhere(ledger: Ledger, queue: Any) -> None:
    if all(getattr(each.choose.args[0].balancer, "prefers", False) for each in queue.waiting):
        return  # to each a new connection where it was chosen is worth more
    for manager in servers(ledger, queue):
        connections = manager.connections
        ready = [each for each in connections.idle if each.usable()]
        if manager._policy.slots is not None:
            ready += [each for each in connections.all if each.state is ConnectionState.LEASED]
            ready = [each for each in ready if manager._room(each)]
        ready = [each for each in ready if not manager._hooks.is_stale(each)]
        assert not ready, f"somebody waits while {manager} has something ready"


def nobody_waits_where_fewer_can_be_served(ledger: Ledger, queue: Any) -> None:
    short = [
        each
        for each, here in queue._at.items()
        if each.surplus() < 0 and not any(queue._barred(waiter) for waiter in here)
    ]
    roomy = [each for each in servers(ledger, queue) if each.surplus() > 0]
    roomy = [each for each in roomy if each._record.may_connect()]  # else others are in its way
    told = [
        (
            str(each),
            each.surplus(),
            each._connector.due_in(),
            each.connections.slow_at() - each._now(),
        )
        for each in (*short, *roomy)
    ]
    assert not (short and roomy), f"{told}: the first could have been helped by the last"


def check_nothing_is_left(ledger: Ledger) -> None:
    """Check that the pool keeps nothing of closed groups and of answered requests."""
    records = ledger.pool._managers.records
    left = [records._lists, records._queues, records._watchers, records._feedbacks]
    left += [each for record in records for each in (record.watchers, record._shared)]
    assert not any(left)
    assert not ledger.pool._selector._queues

"""Invariants of requests that wait for several backends, checked after every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kolus import Backend, Group
from kolus.balance import fill_first, idle_first, least_leased
from kolus.balance import lowest as ranked
from kolus.balance.candidates import by_load, lowest, total_load
from kolus.connection import ConnectionState
from kolus.health import Phase
from kolus.manager.waiting.fresh_queue import FreshQueue
from tests.rigs.group_queues import queues_of
from tests.rigs.ledger import Ledger, Manager

__all__ = ["check_groups", "check_nothing_is_left"]

_RANKS = {fill_first: ranked._by_queue, idle_first: ranked._by_readiness}
_RANKS[least_leased] = by_load


def check_groups(ledger: Ledger, groups: Sequence[Group[Any]]) -> None:
    """Check every queue of a group or a list, and the state of the groups."""
    for group in groups:
        if group.balancer in _RANKS and not group._closed:  # otherwise there is no index
            the_index_knows_the_lowest(group)
    index = ledger.pool._managers.records.group_queues
    managers_serve_the_queues_where_somebody_waits(ledger, index)
    for queue in queues_of(index):
        each_waits_here_and_is_placed_at_one_manager(ledger, queue)
        nobody_waits_for_what_is_idle_elsewhere(ledger, queue)
        nobody_waits_where_fewer_can_be_served(ledger, queue)
        if queue.is_short():
            who_waits_for_room_looks_when_an_attempt_is_due(ledger, queue)
            who_needs_room_hears_of_it(ledger, queue)
    for manager in ledger.managers:
        placed = manager.placements
        assert set(placed._expecting) <= set(placed.waiters)
        for waiter in placed.waiters:
            assert waiter.placement is manager
            assert waiter in waiter.queue.waiting
            if not isinstance(waiter.queue, FreshQueue):
                known = waiter in placed._expecting or waiter in waiter.queue._placer._short
                assert known, "nobody would look for another place for a waiter"
    for record in ledger.pool._managers.records:
        an_ejected_backend_gets_its_probe_alone(ledger, record)
    for queue in ledger.pool._selector._queues_of_lists._queues.values():
        assert queue.waiting, "a queue for a list has outlived its requests"


def managers_serve_the_queues_where_somebody_waits(ledger: Ledger, index: Any) -> None:
    serving = [each for each in ledger.managers if not each.lifecycle.refusal]
    for manager in serving:
        if ledger.pool._managers.at.get(manager.backend.key, {}).get(manager.ident) is not manager:
            continue  # another ident has taken over
        queues = index.of(manager)
        for queue in queues:
            served = queue in manager.groups.joined
            assert served or (not queue.waiting and manager in queue._to_join)
            placed = manager.placements
            told = placed.wait_for_new if queue.fresh else placed.wait_for_idle
            known = manager in queue._ready or queue in told
            assert known, "nobody would tell a queue that something is idle"
        own = [each for each in manager.groups.joined if isinstance(each, FreshQueue)]
        assert set(manager.groups.joined) <= {*queues, *own}
        placed = manager.placements
        assert {*placed.wait_for_idle, *placed.wait_for_new} <= set(queues)
        for fresh in (False, True):
            first: Any = manager.groups.first(fresh=fresh)
            heads = [
                each.head()
                for each in (*queues, *own)
                if each.fresh is fresh and each.may_serve(manager.backend)
            ]
            orders = [each.order for each in heads if each is not None]
            assert (None if first is None else first.head().order) == min(orders, default=None)


def an_ejected_backend_gets_its_probe_alone(ledger: Ledger, record: Any) -> None:
    """While no panic lets it serve, it connects for no others who wait in queues of groups, unless
    no other backend may serve them either."""
    placed = [waiter for each in record.members for waiter in each.placements.waiters]
    barred = [
        each
        for each in placed
        if not each.queue.may_serve(record.backend) and others_in_service(ledger, each)
    ]
    most = record.health.phase is Phase.PROBED
    assert len(barred) <= most, f"{len(barred)} requests wait at {record}, {record.health.phase}"


def others_in_service(ledger: Ledger, waiter: Any) -> list[Backend]:
    """The backends that may serve a waiter, and did not fail it in this round. Where idents take
    over from each other, only those without a manager: nobody is told that this ident has one
    now."""
    queue, is_separate = waiter.queue, ledger.pool.policy.idents == "separate"
    managers, failed = queue._group_managers, queue._placer._requests[waiter].round
    return [
        each
        for each in queue.backends.values()
        if each not in ledger.unusable
        and each not in failed
        and queue.may_serve(each)
        and managers.may_serve(queue.ident, each)
        and (is_separate or managers.find(queue.ident, each) is None)
    ]


def the_index_knows_the_lowest(group: Group[Any]) -> None:
    statuses = group.statuses
    rank = _RANKS[group.balancer]
    if statuses:
        assert rank(lowest(statuses, rank)) == min(map(rank, statuses))
        assert total_load(statuses) == sum(each.leased + each.waiting for each in statuses)


def each_waits_here_and_is_placed_at_one_manager(ledger: Ledger, queue: Any) -> None:
    orders = [each.order for each in queue.waiting]
    assert orders == sorted(orders)
    for waiter in queue.waiting:
        assert waiter.queue is queue
        assert waiter in waiter.placement.placements.waiters
        assert waiter.placement.ident == queue.ident
        assert waiter.placement.backend.key in queue.backends
        assert not waiter.called
    assert set(queue._placer._requests) == set(queue.waiting)
    assert set(queue._placer._short) <= set(queue.waiting)
    assert not queue._placer._given_up


def servers(ledger: Ledger, queue: Any) -> list[Manager]:
    found = list(queue._group_managers.of(queue.ident, queue.backends))
    return [each for each in found if each.serves() and queue.may_serve(each.backend)]


def nobody_waits_for_what_is_idle_elsewhere(ledger: Ledger, queue: Any) -> None:
    chosen_by = [each.choose.__self__.balancer for each in queue._placer._requests.values()]
    if all(getattr(each, "prefers", False) for each in chosen_by):
        return  # each request prefers a new connection to its chosen backend
    for manager in servers(ledger, queue):
        connections = manager.connections
        ready = [each for each in connections.idle if each.usable()]
        if queue.fresh:
            ready = list(manager.freshness.new_idle())
        elif manager.policy.slots is not None:
            ready += [each for each in connections.all if each.state is ConnectionState.LEASED]
            ready = [each for each in ready if manager.supply.room_on(each)]
        ready = [each for each in ready if not manager.hooks.is_stale(each)]
        assert not ready, f"somebody waits while {manager} has something ready"


def nobody_waits_where_fewer_can_be_served(ledger: Ledger, queue: Any) -> None:
    placed: dict[Any, list[Any]] = {}
    for waiter in queue.waiting:
        placed.setdefault(waiter.placement, []).append(waiter)
    rounds, fresh = queue._placer._requests, queue.fresh
    short = [
        each
        for each, here in placed.items()
        if each.placements.surplus(fresh=fresh) < 0
        and not any(rounds[waiter].round for waiter in here)
    ]
    roomy = [each for each in servers(ledger, queue) if each.placements.surplus(fresh=fresh) > 0]
    roomy = [each for each in roomy if each.record.room.may_connect()]  # else its siblings connect
    told = [
        (
            str(each),
            each.placements.surplus(),
            each.connector.due_in(),
            each.connections.slow_at() - each.now(),
        )
        for each in (*short, *roomy)
    ]
    known = [waiter in queue._placer._short for each in short for waiter in placed[each]]
    assert not (short and roomy), f"{told}, {known}: the first could be helped by the last"


def who_waits_for_room_looks_when_an_attempt_is_due(ledger: Ledger, queue: Any) -> None:
    for record in ledger.pool._managers.records.among(queue.backends):
        due, turns = record.attempts.due_at, record.turns
        here = any(queue in each.placements.wait_for_room for each in turns.awaited)
        waits = queue.may_serve(record.backend) and (here or queue._openings in turns.outside)
        if waits and due > ledger.now() + 0.001:  # a clock that is set back rounds
            assert queue._openings._alarm.at <= due + 0.01, (
                "nothing looks for room when an attempt is due"
            )


def who_needs_room_hears_of_it(ledger: Ledger, queue: Any) -> None:
    openings, managers = queue._openings, ledger.pool._managers
    assert queue in openings._short
    assert set(openings._open) | set(openings._closed) == set(openings.backends)
    assert not set(openings._open) & set(openings._closed)
    for backend in openings.full():
        record = managers.records.find(backend.key)
        told = record is None or openings in record.turns.outside
        told = told or not managers.may_make(backend)  # a change of that is told by its own way
        assert told or not queue.may_serve(backend), (
            f"nobody would tell of room at {backend}: {record}"
        )
    if any(each.round for each in queue._placer._requests.values()):
        return
    number = queue._room_finder._seen
    while (opening := openings.after(number)) is not None:
        number, key = opening
        unseen = queue.backends.get(key)  # another queue may have opened some again
        assert unseen is None or not queue._room_finder.has_room(unseen), "nobody has looked there"


def check_nothing_is_left(ledger: Ledger) -> None:
    """Check that the pool keeps nothing of closed groups and of answered requests."""
    records = ledger.pool._managers.records
    told = records.subscriptions
    left = [records._lists._lists, queues_of(records.group_queues), told._watchers, told._feedbacks]
    left += [each.watchers for each in records]
    left += [each.turns.outside for each in records] + [records.group_queues.openings]
    left += [list(each.groups) for each in ledger.managers]
    assert not any(left), f"left: {left}"
    assert not ledger.pool._selector._queues_of_lists._queues

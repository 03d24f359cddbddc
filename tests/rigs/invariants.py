"""Invariants of a pool, checked after every step: rule 1, and the sums of the counts."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import fields
from typing import Any

from kolus.backend import Backend
from kolus.connection import ConnectionState
from kolus.events import Why
from kolus.health import LATE
from kolus.manager.connections.keepalive import MOST_AT_A_TIME
from kolus.metrics import Counts
from kolus.status import Counters, State
from tests.rigs.group_queues import queues_of
from tests.rigs.lease_invariants import check_leases
from tests.rigs.ledger import Ledger, Manager

__all__ = ["check", "check_the_end"]

_COUNTERS = tuple(each.name for each in fields(Counters))
_EVENT_OF = {
    "connects": "Connected",
    "connect_failures": "ConnectFailure",
    "leases": "Leased",
    "releases": "Released",
    "finishes": "Finished",
    "forgotten": "Forgotten",
    "revoked": "Revoked",
    "detached": "Detached",
    "unclean": "Unclean",
    "overdue": "Overdue",
    "timeouts": "TimedOut",
    "cancels": "Cancelled",
    "rejections": "Rejection",
}


def check(ledger: Ledger) -> None:
    """Check everything between two steps."""
    for manager in ledger.managers:
        if is_over(manager):
            continue
        everything_is_where_its_state_says(manager)
        nobody_waits_for_what_is_there(manager)
        somebody_will_look_again(manager)
    for backend, fake in zip(ledger.backends, ledger.fakes, strict=True):
        ledger.look_at_limit(backend)
        the_backend_sees_no_more_than_the_slots(ledger, backend, fake)
        an_ident_has_its_connections_to_itself(ledger, backend, fake)
        idents_make_way_for_each_other(ledger, backend)
        above_the_limit_nothing_stays_that_nobody_has(ledger, backend)
    the_pools_limit_holds(ledger)
    check_leases(ledger)
    the_sums_agree(ledger)
    ledger.look_at_loads()
    every_request_is_answered_once_or_waits(ledger)
    losses_are_heard(ledger)
    what_is_explained_is_what_is_there(ledger)
    the_reasons_are_possible(ledger)
    assert not ledger.complaints, ledger.complaints
    ledger.trapped = False


def is_over(manager: Manager) -> bool:
    """Whether a manager is closed. Then it has nothing, and nothing is due."""
    if not manager.lifecycle.closed:
        return False
    connections, slots = manager.connections, manager.policy.slots
    assert not (connections.all)
    assert not (connections.idle)
    assert not (connections.closing)
    assert not (connections.connecting)
    assert not (connections.checking)
    assert not (connections.leased())
    assert not manager.demand()
    assert not manager.admission.warming.wishes
    assert slots is None or not (manager.slots.open or manager.slots.leased())
    assert manager not in manager.record.members
    assert manager not in manager.record.turns.wanting
    assert manager.alarm.at == math.inf
    return True


def everything_is_where_its_state_says(manager: Manager) -> None:
    connections, policy = manager.connections, manager.policy
    status = manager.status()  # it looks at each connection, and may close some
    by_state: dict[ConnectionState, set[Any]] = {each: set() for each in ConnectionState}
    for connection in connections.all:
        by_state[connection.state].add(connection)
    assert by_state[ConnectionState.CONNECTING] == set(connections.connecting)
    assert by_state[ConnectionState.IDLE] == set(connections.idle)
    assert by_state[ConnectionState.CLOSING] == set(connections.closing)
    assert not by_state[ConnectionState.CLOSED]
    assert set(connections.checking) <= by_state[ConnectionState.BUSY]
    out = by_state[ConnectionState.LEASED] | by_state[ConnectionState.BUSY]
    assert connections.leased() == len(out)
    open_ = len(connections.all) - len(connections.connecting)
    assert open_ == len(connections.idle) + len(out) + len(connections.closing)
    if policy.slots is None:
        assert (status.idle, status.leased) == (len(connections.idle), len(out))
    else:
        assert status.leased == sum(len(each.slots) for each in connections.all)
        for connection in connections.all:
            leased = connection.state is ConnectionState.LEASED
            assert leased or not connection.slots or connection in connections.closing
            assert connection.slots or not leased
            if leased and manager.supply.room_on(connection):
                assert connection in manager.slots.spare
        spare = manager.slots.spare
        assert all(each in connections.all or not manager.supply.room_on(each) for each in spare)
        the_slots_are_counted(manager)
    if policy.max_uses is not None:
        assert all(each.uses <= policy.max_uses for each in connections.all)
    now = manager.now()
    for connection in connections.idle:
        assert now < connection.expires_at, "something idle is past its lifetime"
    assert manager in manager.record.members


def the_slots_are_counted(manager: Manager) -> None:
    """The sums agree with the connections; no protocol has fewer slots than are counted for it."""
    connections, slots = manager.connections, manager.slots.heard()
    open_ = [*connections.idle]
    open_ += [each for each in connections.all if each.state is ConnectionState.LEASED]
    assert slots.open == len(open_)
    assert slots.free == sum(max(0, each.slots.size - len(each.slots)) for each in open_)
    assert slots.total == sum(max(each.slots.size, len(each.slots)) for each in open_)
    assert slots.ending == sum(len(each.slots) for each in connections.closing)
    assert slots.silent == {each for each in connections.idle if not each.slots.size}
    new = {each for each in slots.silent if not each.uses}
    assert set(slots.fresh) <= new
    assert all(each in slots.fresh for each in new if each.since + LATE > manager.now())
    assert all(slots.measure(each) <= each.slots.size for each in open_)
    assert slots.making_way == {each for each in connections.all if each.why is Why.DISPLACED}
    assert set(slots._speakers.values()) <= connections.all


def nobody_waits_for_what_is_there(manager: Manager) -> None:
    if not (manager.demand() and manager.lifecycle.serves):
        return
    fresh = len(manager.placements.fresh)
    if fresh:
        new = [each for each in manager.freshness.new_idle() if not manager.hooks.is_stale(each)]
        assert not new, "somebody waits while something fresh is ready"
    demand = manager.demand() - fresh
    if not demand:
        return
    connections, shared = manager.connections, manager.policy.slots is not None
    ready = [
        each for each in connections.idle if each.usable() and not manager.hooks.is_stale(each)
    ]
    if shared:
        ready += [each for each in connections.all if each.state is ConnectionState.LEASED]
        ready = [each for each in ready if manager.supply.room_on(each)]
    assert not ready, "somebody waits while something is ready"
    checked = len(connections.checking) * (manager.policy.slots or 1)
    if demand > checked:
        idle = [each for each in connections.idle if each.usable()]
        if shared:
            idle = [each for each in idle if manager.supply.room_on(each)]
        assert not idle, "somebody waits while something idle is not even checked"


def somebody_will_look_again(manager: Manager) -> None:
    """A manager that wants to connect has room, or is registered to be told when there is room."""
    record, lifecycle, alarm = manager.record, manager.lifecycle, manager.alarm
    policy = manager.policy
    due = min(lifecycle.abort_at, manager.queue.next_due(), manager.tracker.leaks_due)
    connections = manager.connections
    due = min(due, connections.vacant_until(), *connections._to_abort.values())
    due = min(due, manager.tracker.next_due(), connections.checking.slow_at())
    if policy.keepalive is not None and len(connections.checking) < MOST_AT_A_TIME:
        times = [each.known_good_at() + policy.keepalive for each in connections.idle]
        due = min(due, *times, math.inf)
    if connections._lifetimes is not None:
        due = min(due, connections._lifetimes.next_due())
    if connections.idle and not policy.min_idle:
        due = min(due, *map(connections._idle_times._due, connections.idle))
    assert alarm.at <= due, "nothing rings when something is due"
    if not (manager.connections.all or manager.demand()):
        return  # a request that was refused has left it behind
    connector, is_making_room = manager.connector, bool(manager.connections.closing)
    if manager.wants_connection() and not is_making_room:
        assert manager in record.turns.wanting, "nobody knows that a manager wants a connection"
        is_known = manager in record.turns._asked or not manager.is_asked()
        assert is_known, "nobody knows that somebody asks at a manager that wants a connection"
        is_spare = bool(record.budget.wanting) and not manager.waiters.is_short()
        is_free = record.room.may_connect() and not is_spare
        assert not is_free, "a manager waits for a slot that is free"
    wants = lifecycle.serves and manager.supply.wanted() > len(manager.connections.connecting)
    if wants and not is_making_room and connector.due_in() > 0 and record.room.may_connect():
        assert record.turns._alarm.at <= record.attempts.due_at, (
            "nothing rings for the next attempt"
        )


def the_backend_sees_no_more_than_the_slots(ledger: Ledger, backend: Backend, fake: Any) -> None:
    rosters = [each.connections for each in ledger.managers if each.backend == backend]
    with_transport = [each for connections in rosters for each in connections.all if each.transport]
    gone = [each for each in ledger.detached if each.backend == backend and each.is_open]
    assert len(fake.connections) <= len(with_transport) + len(gone)


def an_ident_has_its_connections_to_itself(ledger: Ledger, backend: Backend, fake: Any) -> None:
    for connection in fake.accepted:
        assert len(set(connection.received)) <= 1, f"two idents were heard: {connection.received}"
    managers = [each for each in ledger.managers if each.backend == backend]
    serving = list(ledger.pool._at.get(backend.key, {}).values())
    is_paused = ledger.pool._managers.is_paused(backend)
    states = [each.status().state for each in serving]
    assert all((each is State.PAUSED) <= is_paused for each in states)
    assert all((each is State.OPEN) <= (not is_paused) for each in states)
    if ledger.pool.policy.idents != "separate":
        assert len(serving) <= 1, "two managers serve"
    for manager in managers:
        assert manager in serving or manager.status().state in (State.DRAINING, State.CLOSED)
        for connection in manager.connections.all:
            protocol = getattr(connection, "protocol", None)
            if protocol is not None:
                if getattr(protocol, "served", None) is None:  # what was warmed without an ident
                    protocol.served = manager.ident
                assert protocol.served == manager.ident


def idents_make_way_for_each_other(ledger: Ledger, backend: Backend) -> None:
    """An ident with waiters has nothing idle, and idle connections of others make way for it, where
    the limit of the backend binds. See C{the_pools_limit_holds} for that of the pool."""
    record = ledger.record(backend)
    if record is None or record.room.own_to_come() > 0 or record.connecting:
        return
    if any(each.demand() and each.wants_connection() for each in record.members):
        assert not any(each.connections.idle for each in record.members if not each.demand())


def above_the_limit_nothing_stays_that_nobody_has(ledger: Ledger, backend: Backend) -> None:
    """Rule 40: returned connections are closed, and no lease takes a path that skips that check."""
    record = ledger.record(backend)
    if record is None:
        return
    if record.room.to_come() < 0 and record.all:
        assert record.shrinking.active
        assert not any(each.connections.unleased() for each in record.members)
    if record.shrinking.active:
        assert not any(each._plain for each in record.members)
        assert record.room.unused() < 0 or any(each.connections.closing for each in record.members)


def the_pools_limit_holds(ledger: Ledger) -> None:
    """Of all backends together, and what is counted is what is there. Nobody waits for a slot of
    the pool while there is one, or something idle could make way."""
    records = list(ledger.pool._managers.records)
    budget = ledger.pool._managers.records.budget
    everything = {one for each in records for one in each.all}
    assert budget.used == len(everything)
    assert budget.leaving <= everything
    assert budget.limit is None or budget.used <= max(ledger.most_in_pool, budget.limit)
    if budget.limit is None or budget.room_to_come() < 0:
        return
    short = [
        each
        for each in records
        if each.room.has_own()
        and any(m.demand() and m.waiters.is_short() and m.wants_connection() for m in each.members)
    ]
    if budget.room_to_come() < len(short):
        assert budget.obtainable() <= 0, f"{short} wait although something is idle"


def the_sums_agree(ledger: Ledger) -> None:
    """Check the sums of each backend, or only their total if the pool forgets backends."""
    if ledger.forgets:
        told = sum(ledger.told.values(), Counter())
        _agree(ledger, ledger.backends, ledger.pool.counters(), told, ledger.metrics.total())
        return
    for each in ledger.backends:
        counters, counts = ledger.pool.counters(each), ledger.metrics.of(each)
        _agree(ledger, [each], counters, ledger.told[each], counts)


def _agree(
    ledger: Ledger, backends: list[Backend], counters: Counters, told: Counter[str], counts: Counts
) -> None:
    held = sum(each.backend in backends for each in ledger.holding())
    held += sum(map(ledger.forgotten_at, backends))
    settled = counters.releases + counters.finishes + counters.forgotten
    settled += counters.revoked + counters.detached
    assert counters.leases == settled + held
    managers = [each for each in ledger.managers if each.backend in backends]
    ready = [each for manager in managers for each in manager.connections.all if each.was_ready]
    assert counters.connects == counters.closes + counters.detached + len(ready)
    if not ledger.observed:
        return
    for name, event in _EVENT_OF.items():
        assert getattr(counters, name) == told[event], f"{name}: {counters} but {told}"
    assert counters.closes == told["Lost"] + told["Retired"]
    for name in _COUNTERS:
        value = getattr(counts, name)
        total = value if isinstance(value, int) else value.total()
        assert total == getattr(counters, name), f"{name}: {counters} but {counts}"
    assert counts.open == len(ready)
    assert counts.held == held


def every_request_is_answered_once_or_waits(ledger: Ledger) -> None:
    assert all(each.fired <= 1 for each in ledger.requests)
    waiting = [each for each in ledger.requests if not each.fired]
    own = [each.admission._fresh for each in ledger.managers]
    queued = [each for queue in own if queue is not None for each in queue.waiting]
    queued += [each for manager in ledger.managers for each in manager.waiting]
    index = ledger.pool._managers.records.group_queues
    queued += [each for queue in queues_of(index) for each in queue.waiting]
    known = {id(each.deferred) for each in waiting}
    # Those that follow another Deferred, which asks one backend after the other, have no order.
    direct = [each for each in waiting if hasattr(each.deferred, "order")]
    lost = [(each.deferred, each.manager) for each in direct if each.deferred not in queued]
    stray = [each for each in queued if id(each) not in known]
    assert not lost, f"lost: {lost}"
    # If no manager could be made, the request's Deferred is another than the waiter at the next.
    assert len(stray) == len(waiting) - len(direct), f"stray: {stray}"
    assert len(waiting) == len(queued)


def losses_are_heard(ledger: Ledger) -> None:
    for lease in ledger.holding():
        behind: Any = lease.leasable
        connection = getattr(behind, "connection", behind)
        heard = ledger.losses.get(lease)
        is_lost = connection.state is ConnectionState.CLOSED
        assert heard is None or len(heard) == is_lost, f"{lease!r} has heard {heard}"


def what_is_explained_is_what_is_there(ledger: Ledger) -> None:
    explanation = ledger.pool.explain()
    statuses = ledger.pool.status()
    assert str(explanation)
    # A backend without a manager is named only with its last error.
    running = [each for each in explanation.managers if each.status.manager is not None]
    assert [each.status for each in running] == statuses
    for each in running:
        assert len(each.waiters) == each.status.waiting
        assert bool(each.why) == bool(each.waiters)
        leased = [lease for lease in each.leases if lease.doing == "leased"]
        manager: Manager = each.status.manager
        assert manager is not None
        assert len(leased) == len(list(manager.supply.held()))
        out = {each.leasable for each in ledger.holding() if each.manager is manager}
        assert len(leased) <= len(out) + ledger.forgotten_at(manager.backend)


def the_reasons_are_possible(ledger: Ledger) -> None:
    policy = ledger.pool.policy
    impossible = {
        Why.IDLE: policy.idle_timeout is None,
        Why.LIFETIME: policy.lifetime is None,
        Why.USES: policy.max_uses is None,
        Why.DISPLACED: policy.idents != "separate"
        and not (ledger.was_limited or ledger.wanted_fresh),
        Why.SURPLUS: policy.max_idle is None,
        Why.REVOKED: policy.hold_limit is None,
        Why.UNCLEAN: policy.clean is None,
        Why.RESIZED: not (sum(t["Resized"] for t in ledger.told.values()) or ledger.was_limited),
    }
    assert not any(impossible.get(each) for each in ledger.reasons)
    lost = sum(told["Lost"] for told in ledger.told.values())
    assert lost <= ledger.blows, "a connection was lost that nobody has touched"


def check_the_end(ledger: Ledger) -> None:
    """Check that a closed pool has nothing left."""
    assert all(each.fired == 1 for each in ledger.requests), "a request was never answered"
    assert all(each.fired == 1 for each in ledger.wishes), "a call of warm was never answered"
    assert all(each.lifecycle.closed for each in ledger.managers)
    for backend, fake in zip(ledger.backends, ledger.fakes, strict=True):
        gone = [each.protocol.transport for each in ledger.detached if each.is_open]
        assert all(each.transport in gone for each in fake.connections)
        record = ledger.record(backend)
        assert record is None or not (record.members or record.turns.wanting)
        assert not ledger.forgotten_at(backend)
    assert not ledger.clock.getDelayedCalls()
    assert not ledger.pool.status()

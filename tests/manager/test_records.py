"""C{Records}: what a pool keeps of backends and idents, and for how long."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from kolus import Backend
from kolus.manager.backend import records
from kolus.status import Counters, State
from kolus.testing import FakeBackend, result_of
from tests.rigs.group_queues import queues_of
from tests.rigs.groups import Sourced
from tests.rigs.ledger import noted_load


def record_of(rig: Sourced, name: str) -> Any:
    record = rig.pool._managers.records.find(rig.known[name].key)
    assert record is not None
    return record


# Idents


@pytest.mark.parametrize("by", ["a group", "name"])
def test_nothing_is_kept_of_idents_whose_managers_have_gone(by: str) -> None:
    rig = Sourced("ab", idents="separate", manager_idle_timeout=1.0)
    for user in range(20):
        if by == "a group":
            asked = rig.group.connect(user)
        else:
            asked = rig.pool.connect(user, rig.known["ab"[user % 2]])
        result_of(asked).finished()
        rig.clock.pump([1.0] * 3)
    assert list(rig.pool._managers) == []
    index = rig.pool._managers.records.group_queues
    assert not any(each._to_join or each._ready for each in queues_of(index))


def test_a_manager_is_not_kept_whose_last_lease_is_settled_after_its_end() -> None:
    rig = Sourced("a", slots=2)
    lease = result_of(rig.pool.connect("us", rig.known["a"]))
    drained = rig.pool.drain(rig.known["a"])
    lease.protocol.transport.abortConnection()
    rig.clock.advance(1)
    assert result_of(drained) is None
    lease.release()
    assert record_of(rig, "a").load.stale == {}


def test_no_queue_is_kept_that_nobody_needs() -> None:
    rig = Sourced("ab", idents="separate", manager_idle_timeout=1.0)
    for user in range(20):
        result_of(rig.group.connect(user, exclude=[rig.known["a"]])).finished()
        rig.clock.pump([1.0] * 3)
    rig.group.close()
    assert not rig.pool._managers.records.group_queues


def test_a_manager_serves_the_queues_that_came_before_it_and_after() -> None:
    rig = Sourced("ab")
    held = [rig.lease(), rig.lease()]
    waits_for_b = rig.ask(exclude=[rig.known["a"]])
    waits_for_both = rig.ask()
    for each in held:
        each.finished()
    rig.turn()
    for asked in (waits_for_b, waits_for_both):
        result_of(asked).release()


def test_an_ident_that_takes_over_again_serves_its_queues_when_its_first_manager_ends() -> None:
    rig = Sourced("a", idents="replace", limit=3)
    first = rig.lease()
    other = result_of(rig.pool.connect("them", rig.known["a"]))
    again = rig.lease()
    assert again.manager is not first.manager
    more = rig.ask()
    first.release()
    other.release()
    rig.turn()
    assert len(record_of(rig, "a").members) == 1
    (queue,) = again.manager.groups
    assert queue.ident == "us"
    result_of(more).release()
    again.release()


# Backends


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only ten records that nobody uses are kept."""
    monkeypatch.setattr(records, "_MOST_UNUSED", 10)


def short_lived() -> Sourced:
    return Sourced("ab", manager_idle_timeout=1.0, idle_timeout=1.0, probe=lambda protocol: None)


def come_and_go(rig: Sourced, times: int = 30) -> Iterator[Backend]:
    """Each list is of another backend, which is used."""
    for number in range(times):
        backend = Backend(FakeBackend(rig.clock), name=str(number))
        rig.source.tell(backend)
        rig.lease().release()
        rig.turn()
        yield backend
    rig.tell("d")
    rig.turn()


def keys(rig: Sourced) -> list[Any]:
    return [record.backend.key for record in rig.pool._managers.records]


def test_of_backends_that_nobody_uses_the_last_are_remembered(few: None) -> None:
    rig = short_lived()
    told = list(come_and_go(rig))
    assert keys(rig) == [each.key for each in told[-10:]]


def test_a_load_is_found_as_long_as_its_record(few: None) -> None:
    rig = short_lived()
    told = list(come_and_go(rig))
    find, find_load = rig.pool._managers.records.find, rig.pool._managers.records.find_load
    for each in told:
        record = find(each.key)
        assert find_load(each.key) is (None if record is None else record.load)


def test_those_that_are_used_by_name_alone_are_forgotten_when_their_managers_have_gone(
    few: None,
) -> None:
    rig = short_lived()
    rig.group.close()
    for _ in range(3):
        for _ in range(20):
            backend = Backend(FakeBackend(rig.clock))
            result_of(rig.pool.connect("us", backend)).release()
        assert len(keys(rig)) >= 20
        rig.clock.pump([1.0] * 4)
        assert list(rig.pool._managers) == []
        assert len(keys(rig)) == 10


def test_what_was_counted_at_backends_that_are_forgotten_stays_in_the_sum(few: None) -> None:
    rig = short_lived()
    before = 0
    for number, _ in enumerate(come_and_go(rig)):
        assert rig.pool.counters().leases == rig.pool.counters().releases == before + 1
        before = number + 1
    rig.turn()
    gc.collect()
    assert rig.pool.counters() == Counters(connects=30, closes=30, leases=30, releases=30)


def test_a_lease_of_a_backend_that_is_forgotten_is_counted_when_it_is_settled(few: None) -> None:
    rig = short_lived()
    lease = rig.lease()
    record = record_of(rig, "a")
    rig.fake("a").connections[-1].reset()
    rig.tell("d")
    rig.turn()
    assert record.members == []
    for _ in come_and_go(rig):
        gc.collect()
    assert record not in list(rig.pool._managers.records)
    lease.release()
    rig.fake("a").accepted.clear()
    del lease, record
    for _ in come_and_go(rig, 3):
        gc.collect()
    told = rig.pool.counters()
    assert (told.leases, told.releases + told.finishes) == (34, 34)


def test_a_backend_that_a_group_has_is_not_forgotten(few: None) -> None:
    rig = short_lived()
    rig.at("b").finished(failed=True)
    rig.pool.group([rig.known["b"]])
    list(come_and_go(rig))
    assert rig.known["b"].key in keys(rig)
    assert rig.pool.counters(rig.known["b"]).leases == 1


def test_a_backend_that_is_ejected_by_hand_is_not_forgotten_until_it_is_admitted(few: None) -> None:
    rig = short_lived()
    rig.pool.eject(rig.known["c"])
    list(come_and_go(rig))
    assert rig.status("c").state is State.EJECTED
    rig.pool.admit(rig.known["c"])
    list(come_and_go(rig))
    assert rig.known["c"].key not in keys(rig)


def test_a_backend_that_is_forgotten_leaves_no_timer_and_is_well_when_it_comes_back(
    few: None,
) -> None:
    rig = short_lived()
    for _ in range(5):
        rig.at("a").finished(failed=True)
        rig.turn()
    assert rig.status("a").state is State.EJECTED
    list(come_and_go(rig))
    rig.clock.pump([1.0] * 6)  # longer than a request may wait: the queue's alarm rings in vain
    assert rig.pool._managers.records.sick == {}
    assert rig.clock.getDelayedCalls() == []
    rig.tell("a")
    rig.lease().release()
    assert rig.status("a").state is State.OPEN


def test_a_manager_that_is_closed_does_not_count_the_requests_that_it_fails() -> None:
    rig = Sourced("a", idents="replace")
    rig.fake("a").never_answer(always=True)
    noted: list[tuple[int, int]] = []

    def look(failure: object) -> None:
        record = record_of(rig, "a")
        noted.append((noted_load(record), 1 + sum(each.load() for each in record.members)))
        record.load.now()  # from now on it is noted

    for _ in range(2):
        rig.pool.connect("us", rig.known["a"]).addErrback(look)
    other = rig.pool.connect("them", rig.known["a"])
    assert len(noted) == 2
    assert noted[1] == (1, 1)
    other.addErrback(lambda failure: None).cancel()

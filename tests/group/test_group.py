"""C{Group}: its status, its leases, and its closing."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Closed, GroupStatus, KolusError, LeaseTimeout, NoBackend, Pool
from kolus.balance import least_leased, peak_ewma, round_robin
from kolus.checking import CheckedSource, HealthCheck
from kolus.testing import result_of
from tests.rigs.groups import Sourced, Teller, names
from tests.rigs.pools import Pooled

# What it tells


def test_its_statuses_are_in_the_order_of_the_source() -> None:
    rig = Sourced("bca")
    assert names(rig.group.backends) == "bca"
    assert names(rig.group.status().backends) == "bca"
    rig.tell("cab")
    assert names(rig.group.backends) == "cab"
    assert names(rig.group.status().backends) == "cab"


def test_its_status_tells_its_numbers() -> None:
    rig = Sourced("ab")
    held = [rig.lease(), rig.lease()]
    asked = [rig.ask() for _ in range(3)]
    rig.pool.eject(rig.known["a"])
    status = rig.group.status()
    assert isinstance(status, GroupStatus)
    assert (status.name, status.waiting) == ("them", 3)
    assert (status.ejected, status.panics, status.panicked) == (1, False, 0)
    assert [each.leased for each in status.backends] == [1, 1]
    assert sum(each.waiting for each in status.backends) == 3
    for each in asked:
        each.addErrback(lambda failure: None)
        each.cancel()
    assert rig.group.status().waiting == 0
    assert len(held) == 2


def test_waiting_counts_requests_with_another_balancer_too() -> None:
    rig = Sourced("abc")
    held = [rig.lease() for _ in range(3)]
    asked = [rig.ask(), rig.ask(balancer=least_leased)]
    assert rig.group.status().waiting == 2
    for each in held:
        each.release()
    assert all(each.called for each in asked)


def test_its_repr_tells_its_name_and_how_many_backends() -> None:
    rig = Sourced("ab")
    assert repr(rig.group) == "<Group 'them' of 2 backends>"
    assert repr(rig.pool.group([rig.known["a"]])) == "<Group of 1 backends>"


# Leases


def test_a_lease_is_of_one_of_its_backends() -> None:
    rig = Sourced("ab")
    leases = [rig.lease(), rig.lease()]
    assert names(leases) == "ab"
    assert leases[0].ident == "us"


def test_try_connect_leases_what_is_ready() -> None:
    rig = Sourced("ab")
    assert rig.group.try_connect("us") is None
    rig.at("b").release()
    lease = rig.group.try_connect("us")
    assert lease is not None
    assert names([lease]) == "b"
    assert rig.group.try_connect("us") is None
    assert rig.fake("a").attempts == 0
    lease.release()


def test_try_connect_does_not_overtake_who_waits() -> None:
    rig = Sourced("ab")
    held = [rig.lease(), rig.lease()]
    rig.ask(balancer=round_robin())
    taken: list[Any] = []
    asked = rig.ask()
    asked.addCallback(lambda lease: taken.append(rig.group.try_connect("us")))
    held[0].release()
    assert rig.group.try_connect("us") is None


def test_try_connect_keeps_to_exclude() -> None:
    rig = Sourced("ab")
    rig.at("b").release()
    assert rig.group.try_connect("us", exclude=[rig.known["b"]]) is None
    lease = rig.group.try_connect("us", exclude=[rig.known["a"]])
    assert lease is not None
    lease.release()


def test_try_connect_before_the_first_list_leases_nothing() -> None:
    assert Sourced("").group.try_connect("us") is None


def test_where_all_are_excluded_there_is_no_backend() -> None:
    rig = Sourced("ab")
    everything = [rig.known["a"], rig.known["b"]]
    with pytest.raises(NoBackend):
        rig.lease(exclude=everything)
    with pytest.raises(NoBackend):
        rig.group.try_connect("us", exclude=everything)


def test_exclude_takes_every_form_of_a_backend() -> None:
    clock = Clock()
    pool: Pool[Any] = Pool(clock, Protocol)
    group = pool.group(["tcp:192.0.2.1:1", ("192.0.2.2", 2)])
    everything = [("192.0.2.1", 1), "tcp:192.0.2.2:2"]
    with pytest.raises(NoBackend):
        result_of(group.connect("us", exclude=everything))


def test_a_request_has_a_deadline_of_its_own() -> None:
    rig = Sourced("a")
    held = rig.lease()
    asked = rig.ask(timeout=0.5)
    rig.clock.advance(0.5)
    with pytest.raises(LeaseTimeout):
        result_of(asked)
    held.release()


def test_a_request_with_an_ident_that_is_refused_everywhere_is_refused() -> None:
    rig = Sourced("ab", idents="reject")
    held = [rig.lease(), rig.lease()]
    with pytest.raises(KolusError, match="belongs to another ident"):
        result_of(rig.group.connect("others"))
    assert len(held) == 2


# The end


def test_closing_the_pool_closes_its_groups_and_stops_their_sources() -> None:
    rig = Sourced("ab")
    held = [rig.lease(), rig.lease()]
    asked = rig.ask()
    closed = rig.pool.close(10)
    with pytest.raises(Closed):
        result_of(asked)
    assert not rig.source.started
    with pytest.raises(Closed):
        rig.lease()
    with pytest.raises(Closed):
        rig.group.try_connect("us")
    for each in held:
        each.release()
    rig.turn()
    assert result_of(closed) is None
    assert rig.clock.getDelayedCalls() == []


def test_closing_a_group_stops_its_source_and_leaves_the_connections_be() -> None:
    rig = Sourced("ab")
    rig.lease().release()
    rig.group.close()
    assert not rig.source.started
    assert rig.status("a").idle == 1
    rig.group.close()


def test_a_group_of_a_closed_pool_is_refused_and_its_source_not_started() -> None:
    rig = Sourced("ab")
    rig.pool.close()
    source = Teller()
    with pytest.raises(Closed, match="the pool is closed"):
        rig.pool.group(source)
    assert not source.started


def test_nothing_of_a_closed_group_is_left_in_its_pool() -> None:
    rig = Sourced("ab", peak_ewma(Clock()))
    rig.lease(balancer=least_leased).release()
    rig.group.close()
    records = rig.pool._managers.records
    assert not records.group_queues
    assert not records.subscriptions._watchers
    assert [each.watchers for each in records] == [[]]


def test_a_source_that_does_not_start_leaves_no_group_behind() -> None:
    rig = Sourced("ab")
    with pytest.raises(RuntimeError, match="started already"):
        rig.pool.group(rig.source)
    assert rig.pool._groups._open == [rig.group]


@pytest.mark.parametrize("checked", [False, True])
def test_a_source_whose_start_nobody_waits_for_is_refused(checked: bool) -> None:
    class Later(Teller):
        async def start(self, listener: Any) -> None:  # type: ignore[override]
            raise AssertionError("nobody waits for it")

    rig = Pooled()
    source: Any = Later()
    if checked:
        source = CheckedSource(rig.clock, source, HealthCheck(), rig.pool.checked)
    with pytest.raises(TypeError, match=r"start of .*Later.* returned an object of type coroutine"):
        rig.pool.group(source)
    assert not rig.pool._groups._open


def test_pausing_a_backend_may_lead_to_its_end() -> None:
    rig = Sourced("ab")
    rig.fake("a").never_answer()
    asked = rig.ask()
    asked.addCallback(lambda lease: (rig.pool.drain(rig.known["a"]), lease)[1])
    rig.pool.pause(rig.known["a"])
    lease = result_of(asked)
    assert names([lease]) == "b"
    lease.release()
    rig.pool.close(0)
    rig.clock.pump([0, 0, 0])
    assert not rig.clock.getDelayedCalls()

"""A group whose source gives its first list late: requests wait for it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, formatEvent

from kolus import Backend, Closed, Lease, LeaseError, LeaseTimeout, NoBackend, Pool, PoolFull
from kolus.events import Event, Resized
from kolus.testing import result_of
from kolus.testing.results import failure_of
from tests.rigs.groups import Sourced, Teller, names


def test_requests_before_the_first_list_wait_for_it_and_are_served_in_turn() -> None:
    rig = Sourced("")
    asked = [rig.ask() for _ in range(3)]
    assert not any(each.called for each in asked)
    rig.tell("ab")
    assert names([result_of(each) for each in asked[:2]]) == "ab"
    assert not asked[2].called
    asked[2].addErrback(lambda failure: None)
    asked[2].cancel()


def test_no_more_wait_for_the_first_list_than_may_wait_at_all() -> None:
    rig = Sourced("", max_waiters=2)
    asked = [rig.ask() for _ in range(3)]
    assert [not each.called for each in asked] == [True, True, False]
    assert rig.group.status().waiting == 2
    with pytest.raises(PoolFull, match=r"no backends yet, and 2 requests wait.*max_waiters=2"):
        result_of(asked[2])
    rig.tell("ab")
    assert names([result_of(each) for each in asked[:2]]) == "ab"


def test_by_default_any_number_may_wait_for_the_first_list() -> None:
    rig = Sourced("")
    asked = [rig.ask() for _ in range(1000)]
    assert not any(each.called for each in asked)
    rig.tell("ab")
    held = [result_of(each) for each in asked[:2]]
    rig.clock.advance(5)
    for each in asked[2:]:
        with pytest.raises(LeaseTimeout):
            result_of(each)
    assert names(held) == "ab"


def test_a_changed_list_is_told_in_the_log(log_events: list[LogEvent]) -> None:
    rig = Sourced("ab")
    rig.tell("bc")
    told = [formatEvent(each) for each in log_events if "joined" in each["log_format"]]
    assert [each.partition(": ")[2] for each in told] == [
        "a, b joined, none left",
        "c joined, a left",
    ]


def test_a_newcomer_does_not_overtake_who_waits_for_the_first_list() -> None:
    rig = Sourced("")
    newcomers: list[Deferred[Lease[Any]]] = []
    first, second = rig.ask(), rig.ask()
    leases: list[Lease[Any]] = []

    def ask_again(lease: Lease[Any]) -> None:
        newcomers.append(rig.ask())
        leases.append(lease)

    first.addCallback(ask_again)
    rig.tell("a")
    leases[0].release()
    assert second.called
    assert not newcomers[0].called
    newcomers[0].addErrback(lambda failure: None)
    newcomers[0].cancel()


def test_a_request_for_which_no_list_comes_fails_at_its_deadline() -> None:
    rig = Sourced("")
    asked = rig.ask(timeout=2.0)
    rig.clock.advance(1.9)
    assert not asked.called
    rig.clock.advance(0.1)
    with pytest.raises(NoBackend, match=r"'them'.* not been told of any backend within 2 s"):
        result_of(asked)


def test_without_a_deadline_of_its_own_it_has_the_policys() -> None:
    rig = Sourced("", acquire_timeout=3.0)
    asked = rig.ask()
    rig.clock.advance(3.0)
    with pytest.raises(NoBackend, match="within 3 s"):
        result_of(asked)


def test_the_time_until_the_first_list_is_part_of_the_deadline() -> None:
    rig = Sourced("")
    held = rig.at("a")
    asked = rig.ask(timeout=2.0)
    rig.clock.advance(1.5)
    rig.tell("a")
    rig.clock.advance(0.4)
    assert not asked.called
    rig.clock.advance(0.1)
    with pytest.raises(LeaseTimeout, match="within 2 s") as caught:
        result_of(asked)
    assert caught.value.waited == 2.0
    held.release()


def test_a_request_can_be_cancelled_before_the_first_list() -> None:
    rig = Sourced("")
    asked = rig.ask()
    asked.cancel()
    with pytest.raises(CancelledError):
        result_of(asked)
    rig.tell("a")
    assert rig.fake("a").attempts == 0
    assert rig.clock.getDelayedCalls() == []


def test_an_owner_that_ends_before_the_first_list_ends_its_request() -> None:
    rig = Sourced("")
    owner: Deferred[None] = Deferred()
    asked = rig.ask(owner=owner)
    owner.callback(None)
    with pytest.raises(CancelledError):
        result_of(asked)
    assert rig.group.status().waiting == 0
    rig.tell("a")
    assert rig.fake("a").attempts == 0


def test_an_owner_that_is_known_to_have_ended_cannot_wait_for_the_first_list() -> None:
    rig, worker = Sourced(""), Service()
    worker.startService()
    asked = [rig.ask(owner=worker)]
    worker.stopService()
    asked.append(rig.ask(owner=worker))
    with pytest.raises(CancelledError):
        result_of(asked[0])
    with pytest.raises(LeaseError, match="has ended"):
        result_of(asked[1])


def test_closing_fails_who_waits_for_the_first_list() -> None:
    rig = Sourced("")
    asked = rig.ask()
    rig.group.close()
    with pytest.raises(Closed, match="'them'"):
        result_of(asked)
    assert rig.clock.getDelayedCalls() == []


def test_who_is_failed_as_a_group_closes_may_cancel_the_others() -> None:
    rig = Sourced("")
    asked = [rig.ask() for _ in range(3)]
    for each in asked:
        each.addErrback(lambda failure: [other.cancel() for other in asked])
    rig.group.close()
    assert all(each.called for each in asked)
    assert not rig.source.started
    with pytest.raises(Closed):
        result_of(rig.ask())


def test_who_is_served_from_the_first_list_may_close_the_group() -> None:
    rig = Sourced("")
    asked = [rig.ask() for _ in range(2)]
    asked[0].addCallback(lambda lease: (lease, rig.group.close())[0])
    rig.tell("a")
    assert names([result_of(asked[0])]) == "a"
    with pytest.raises(Closed):
        result_of(asked[1])


def test_a_request_without_a_deadline_waits_for_the_first_list_for_ever() -> None:
    rig = Sourced("")
    asked = rig.group.connect("us", timeout=math.inf)
    rig.clock.advance(1e6)
    assert not asked.called
    rig.tell("a")
    assert names([result_of(asked)]) == "a"


def test_nor_has_it_a_deadline_when_the_list_has_come() -> None:
    rig = Sourced("")
    lease = rig.at("a")
    asked = rig.group.connect("us", timeout=math.inf)
    rig.tell("a")
    rig.clock.advance(100)
    assert not asked.called
    lease.finished()
    rig.turn()
    assert names([result_of(asked)]) == "a"


def test_a_pool_that_is_closed_as_the_first_list_is_told_stops_its_source() -> None:
    class Told(Teller):
        def start(self, listener: Any) -> None:
            super().start(listener)
            self.tell(Backend("tcp:192.0.2.1:1", limit=2))

    def close(event: Event) -> None:
        if isinstance(event, Resized):
            pool.close()

    pool: Pool[Any] = Pool(MemoryReactorClock(), Protocol, observers=[close])
    pool.connect("us", "tcp:192.0.2.1:1").addErrback(lambda failure: None)
    source = Told()
    with pytest.raises(Closed):
        result_of(pool.group(source).connect("us"))
    assert not source.started


@pytest.mark.parametrize("told", [(), (Backend("tcp:192.0.2.1:1"),)])
def test_a_source_whose_start_fails_after_it_has_told_is_stopped(told: Any) -> None:
    class Told(Teller):
        def start(self, listener: Any) -> None:
            super().start(listener)
            self.tell(*told)
            raise ValueError("start fails")

    pool: Pool[Any] = Pool(MemoryReactorClock(), Protocol)
    source = Told()
    with pytest.raises(ValueError, match=r"start fails|no backend"):
        pool.group(source)
    assert not source.started


def test_a_source_that_another_group_has_started_is_refused_and_goes_on() -> None:
    rig = Sourced("a")
    with pytest.raises(RuntimeError, match="started already"):
        rig.pool.group(rig.source)
    rig.tell("b")
    assert names([rig.lease()]) == "b"


def test_a_source_that_raises_in_stop_is_logged_and_the_group_is_closed(
    logged_failures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        raise RuntimeError("stop fails")

    rig = Sourced("a")
    monkeypatch.setattr(rig.source, "stop", stop)
    held, asked = rig.lease(), rig.ask(timeout=30)
    closed = rig.pool.close()
    with pytest.raises(Closed, match="'them'"):
        result_of(asked)
    held.release()
    rig.turn()
    result_of(closed)
    assert len(logged_failures.flush(RuntimeError)) == 1


KNOWN = Backend("tcp:192.0.2.1:1", name="known")


@pytest.mark.parametrize(
    ("told", "error", "says"),
    [
        (None, TypeError, "'them'.* must tell a sequence, not None"),
        ("tcp:192.0.2.1:1", TypeError, "must tell a sequence, not 'tcp"),
        ((each for each in [KNOWN]), TypeError, "must tell a sequence, not <generator"),
        (["tcp:192.0.2.1:1"], TypeError, "must tell Backends, not 'tcp"),
        ([KNOWN, ("192.0.2.1", 2)], TypeError, r"must tell Backends, not \('192"),
        ([KNOWN, KNOWN], ValueError, "tells known twice"),
        ([], ValueError, "tells no backend"),
    ],
)
def test_what_no_source_should_tell_is_refused_and_changes_nothing(
    told: Any, error: Any, says: str
) -> None:
    rig = Sourced("a")
    with pytest.raises(error, match=says):
        rig.source._listener(told)
    assert names(rig.group.backends) == "a"
    assert names([rig.lease()]) == "a"


def test_a_group_that_is_closed_while_a_manager_is_made_takes_no_request() -> None:
    rig = Sourced("ab")
    make = rig.pool._managers._make

    def closing(backend: Backend, ident: Any) -> Any:
        rig.group.close()
        return make(backend, ident)

    rig.pool._managers._make = closing
    failure_of(Closed, rig.ask())
    assert not rig.pool._managers.records.group_queues

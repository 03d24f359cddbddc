"""Health checks of backends, on a clock: what passes, what fails, and what a pool makes of it."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, Policy, Pool
from kolus.balance import round_robin
from kolus.checking import CheckedSource, CheckResult, HealthCheck
from kolus.events import Admitted, Ejected, Event
from kolus.sources import StaticSource
from kolus.status import State
from kolus.testing import FakeBackend, result_of
from tests.rigs.pools import Half


class Rig:
    """A pool and a group of backends with checks."""

    def __init__(self, *names: str, **check: Any) -> None:
        self.clock = Clock()
        self.fakes = {name: FakeBackend(self.clock) for name in names}
        self.backends = {name: Backend(fake, name=name) for name, fake in self.fakes.items()}
        self.events: list[Event] = []
        self.pool: Pool[Any] = Pool(
            self.clock, Protocol, policy=Policy(), observers=[self.events.append], rng=Half()
        )
        self.source = Changing(list(self.backends.values()))
        self.checked = CheckedSource(
            self.clock, self.source, HealthCheck(**check), self.pool.checked, rng=Half()
        )
        self.group = self.pool.group(self.checked, round_robin(Half()))
        self.turn()

    def turn(self, seconds: float = 0.0) -> None:
        self.clock.pump([0.0] * 5 + [seconds] + [0.0] * 5)

    def states(self) -> dict[str, State]:
        return {str(each.backend): each.state for each in self.group.status().backends}

    def told(self) -> list[Any]:
        return [each for each in self.events if isinstance(each, Ejected | Admitted)]


class Changing:
    """A source whose list a test changes."""

    def __init__(self, backends: list[Backend]) -> None:
        self.backends = backends

    def start(self, listener: Any) -> None:
        self.listener = listener
        listener(self.backends)

    def stop(self) -> None:
        pass


def test_failures_in_a_row_eject_a_backend_and_successes_admit_it() -> None:
    rig = Rig("a", "b")
    rig.fakes["a"].refuse(always=True)
    rig.turn(2.0)
    rig.turn(2.0)
    assert rig.told() == []
    rig.turn(2.0)
    (ejected,) = rig.told()
    assert ejected.backend is rig.backends["a"]
    assert ejected.seconds == float("inf")
    assert "its health check fails: " in ejected.reason
    assert rig.states()["a"] is State.EJECTED
    assert f"a is ejected: {ejected.reason}" in str(rig.pool.explain())
    rig.turn(600.0)
    for _ in range(20):
        lease = result_of(rig.group.connect("us"))
        assert str(lease.backend) == "b"
        lease.release()
    rig.fakes["a"].accept(always=True)
    rig.turn(2.0)
    assert rig.states()["a"] is State.EJECTED
    rig.turn(2.0)
    assert isinstance(rig.told()[-1], Admitted)
    assert rig.states()["a"] is not State.EJECTED


def test_a_success_between_begins_the_count_anew() -> None:
    rig = Rig("a", "b", fall=2, rise=2)
    for _ in range(3):
        rig.fakes["a"].refuse().accept()
        rig.turn(2.0)
        rig.turn(2.0)
    assert rig.told() == []


def test_a_check_without_an_answer_in_time_fails() -> None:
    rig = Rig("a", "b", fall=1, timeout=1.0)
    rig.fakes["a"].never_answer()
    rig.turn(2.0)
    rig.turn(0.9)
    assert rig.told() == []
    rig.turn(0.2)
    assert "the check took longer than 1 s" in rig.told()[0].reason


def test_the_next_check_begins_when_the_last_has_ended() -> None:
    rig = Rig("a", interval=5.0, timeout=3.0)
    rig.fakes["a"].never_answer()
    rig.turn(5.0)
    asked = rig.fakes["a"].attempts
    rig.turn(3.0)
    rig.turn(4.9)
    assert rig.fakes["a"].attempts == asked
    rig.turn(0.2)
    assert rig.fakes["a"].attempts == asked + 1


@pytest.mark.parametrize("answers", [[b"+PONG\r\n"], [b"+PO", b"NG\r\n"], [b"hello +PONG"]])
def test_an_exchange_passes_if_the_answer_has_what_is_expected(answers: list[bytes]) -> None:
    rig = Rig("a", "b", kind="exchange", send=b"PING\r\n", expect=b"+PONG", fall=1)
    for fake in rig.fakes.values():
        (connection,) = fake.accepted
        assert bytes(connection.received) == b"PING\r\n"
        for each in answers:
            connection.speak(each)
    rig.turn()
    assert [each.error for each in rig.checked.results()] == ["", ""]
    assert [each.checks for each in rig.checked.results()] == [1, 1]
    assert all(not fake.connections for fake in rig.fakes.values())


def test_an_exchange_fails_with_what_came_instead() -> None:
    rig = Rig("a", kind="exchange", send=b"PING\r\n", expect=b"+PONG", fall=1)
    (connection,) = rig.fakes["a"].accepted
    connection.speak(b"-LOADING")
    connection.close()
    rig.turn()
    (result,) = rig.checked.results()
    assert not result.is_up
    assert result.error == "UnexpectedAnswer: b'-LOADING' does not have b'+PONG'"
    assert str(result).startswith("a: down, 1 in a row failed, the last: UnexpectedAnswer: b")


def test_an_answer_without_end_fails() -> None:
    rig = Rig("a", kind="exchange", expect=b"x", fall=1)
    (connection,) = rig.fakes["a"].accepted
    connection.speak(b"." * (64 * 1024 + 1))
    rig.turn()
    assert not rig.checked.results()[0].is_up
    assert not rig.fakes["a"].connections


def test_what_was_ejected_by_hand_stays_so_whatever_the_checks_find() -> None:
    rig = Rig("a", "b", fall=1, rise=1)
    rig.pool.eject(rig.backends["a"])
    rig.turn(2.0)
    rig.fakes["a"].refuse()
    rig.turn(2.0)
    rig.turn(2.0)
    assert [each.reason for each in rig.told()] == ["by hand"]
    rig.pool.admit(rig.backends["a"])
    assert rig.states()["a"] is not State.EJECTED


def test_who_is_admitted_by_hand_is_ejected_again_by_the_next_failure() -> None:
    rig = Rig("a", "b", fall=1)
    rig.fakes["a"].refuse(always=True)
    rig.turn(2.0)
    rig.pool.admit(rig.backends["a"])
    rig.turn(2.0)
    kinds = [type(each) for each in rig.told()]
    assert kinds == [Ejected, Admitted, Ejected]


def test_an_ejection_by_hand_takes_the_place_of_that_by_a_check() -> None:
    rig = Rig("a", "b", fall=1, rise=1)
    rig.fakes["a"].refuse()
    rig.turn(2.0)
    rig.pool.eject(rig.backends["a"])
    rig.turn(2.0)
    assert rig.states()["a"] is State.EJECTED
    assert rig.told()[-1].reason == "by hand"


def test_a_backend_that_leaves_the_list_is_checked_no_more() -> None:
    rig = Rig("a", "b", fall=1)
    rig.fakes["a"].refuse(always=True)
    rig.turn(2.0)
    rig.source.listener([rig.backends["b"]])
    asked = rig.fakes["a"].attempts
    rig.turn(20.0)
    assert rig.fakes["a"].attempts == asked
    assert isinstance(rig.told()[-1], Admitted)  # nobody would end its ejection
    rig.source.listener([rig.backends["a"], rig.backends["b"]])
    rig.turn()
    assert rig.fakes["a"].attempts == asked + 1


def test_a_renamed_backend_keeps_its_results() -> None:
    rig = Rig("a")
    rig.turn(2.0)
    renamed = replace(rig.backends["a"], name="new")
    object.__setattr__(renamed, "key", rig.backends["a"].key)
    rig.source.listener([renamed])
    (result,) = rig.checked.results()
    assert (str(result.backend), result.checks) == ("new", 2)


def test_what_other_checks_have_found_down_is_down_from_the_begin_until_it_passes() -> None:
    rig = Rig("a", "b")
    rig.fakes["a"].refuse(always=True)
    rig.turn(2.0)
    rig.turn(2.0)
    rig.turn(2.0)
    assert rig.states()["a"] is State.EJECTED
    again = CheckedSource(
        rig.clock, StaticSource(rig.backends.values()), HealthCheck(), rig.pool.checked, rng=Half()
    )
    again.begin_with(rig.checked.results())
    rig.group.close()  # it admits what it has ejected
    rig.group = rig.pool.group(again, round_robin(Half()))
    assert rig.states()["a"] is State.EJECTED
    assert {str(each.backend): each.is_up for each in again.results()} == {"a": False, "b": True}
    rig.turn(2.0)
    assert rig.states()["a"] is State.EJECTED
    rig.fakes["a"].accept(always=True)
    rig.turn(2.0)
    rig.turn(2.0)
    assert rig.states()["a"] is not State.EJECTED


def test_closing_the_pool_stops_the_checks() -> None:
    rig = Rig("a")
    rig.fakes["a"].never_answer()
    rig.turn(2.0)
    rig.pool.close()
    rig.turn(20.0)
    assert rig.clock.getDelayedCalls() == []


@pytest.mark.parametrize("name", ["here", "there"])
def test_a_callable_that_makes_endpoints_is_asked_for_each_check(name: str) -> None:
    clock = Clock()
    asked: list[object] = []
    fake = FakeBackend(clock)

    def make(context: Any) -> FakeBackend:
        asked.append(context.ident)
        return fake

    backend = Backend(make, name=name)
    found: list[str] = []
    source = CheckedSource(
        clock,
        StaticSource([backend]),
        HealthCheck(),
        lambda backend, failure: found.append(failure),
        rng=Half(),
    )
    source.start(lambda backends: None)
    clock.pump([0.0, 0.0, 2.0, 0.0, 0.0])
    assert asked == ["health check"] * 2
    assert found == ["", ""]
    source.stop()


def test_a_listener_that_stops_the_source_as_it_hears_a_list_leaves_no_check_behind() -> None:
    clock = Clock()
    source = Changing([Backend(FakeBackend(clock))])
    checked = CheckedSource(clock, source, HealthCheck(), lambda backend, failure: None)
    checked.start(lambda backends: checked.stop() if len(backends) == 2 else None)
    source.listener([Backend(FakeBackend(clock)) for _ in range(2)])
    clock.pump([0.0] * 5)
    assert checked.results() == []
    assert clock.getDelayedCalls() == []


def test_a_report_that_stops_the_source_leaves_no_check_behind() -> None:
    clock, fakes = Clock(), [FakeBackend(Clock()) for _ in range(2)]
    backends = [Backend(each) for each in fakes]
    checked = CheckedSource(
        clock, Changing(backends), HealthCheck(), lambda backend, failure: checked.stop()
    )
    checked.begin_with([CheckResult(each, is_up=False) for each in backends])
    checked.start(lambda backends: None)
    clock.pump([0.0] * 5)
    assert [each.attempts for each in fakes] == [0, 0]
    assert clock.getDelayedCalls() == []


def test_a_fault_of_this_machine_is_not_counted() -> None:
    rig = Rig("a", "b", fall=1)
    rig.fakes["a"].refuse(reason=OSError(errno.EMFILE, "Too many open files"))
    rig.turn(2.0)
    assert rig.told() == []
    assert rig.checked.results()[0].checks == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", "http"),
        ("send", "PING"),
        ("send", b"PING"),
        ("expect", b"PONG"),
        ("interval", 0),
        ("timeout", None),
        ("fall", 0),
        ("rise", 1.5),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_of_its_key(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}\b"):
        HealthCheck(**{name: value})


def test_an_exchange_needs_something_to_expect() -> None:
    with pytest.raises(ValueError, match=r"^expect must not be empty"):
        HealthCheck(kind="exchange", send=b"PING")

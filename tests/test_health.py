"""Rules 28 and 29: failures eject a backend, time and one probe bring it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, ConnectFailed, Ejection, KolusError, Lease, LeaseTimeout, Policy, Pool
from kolus.backend import State
from kolus.backoff import Backoff
from kolus.balance import (
    Balancer,
    consistent,
    fill_first,
    idle_first,
    least_leased,
    peak_ewma,
    pick_two,
    prefer_zone,
    round_robin,
)
from kolus.events import Admitted, Ejected, Event, ProbeDue
from kolus.testing import FakeBackend, NotFired, result_of
from tests.rigs import Half

FIRST = 3.75
"""How long the first ejection lasts, with every jitter half of its range."""


class Nursed:
    """A pool, a group of all its backends, and what its observers were told of their health."""

    def __init__(self, count: int = 2, balancer: Balancer = fill_first, **policy: Any) -> None:
        self.clock = Clock()
        self.fakes = [FakeBackend(self.clock) for _ in range(count)]
        self.backends = [
            Backend(fake, name=name)
            for fake, name in zip(self.fakes, "abcdefgh"[:count], strict=True)
        ]
        self.events: list[Event] = []
        self.pool: Pool[Any] = Pool(
            self.clock,
            Protocol,
            policy=Policy(**({"backoff": Backoff(0.001, most=0.001)} | policy)),
            observers=[self.events.append],
            rng=Half(),
        )
        self.group = self.pool.group(self.backends, balancer)

    # What happens at a backend

    def fail(self, place: int = 0, times: int = 5) -> None:
        """Leases that are settled as failed."""
        for _ in range(times):
            self.at(place).finished(failed=True)
            self.turn()

    def refuse(self, place: int = 0, times: int = 5) -> None:
        """Connects that fail."""
        for _ in range(times):
            self.fakes[place].refuse()
            asked = self.pool.connect("us", self.backends[place])
            asked.addErrback(lambda failure: failure.trap(ConnectFailed, CancelledError))
            asked.cancel()  # or a lease that is out might serve it
            self.clock.advance(0.002)

    def at(self, place: int = 0) -> Lease[Any]:
        """A lease of that backend."""
        return result_of(self.pool.connect("us", self.backends[place]))

    def use(self, place: int = 0) -> None:
        self.at(place).release()

    # Requests for any

    def ask(self, **how: Any) -> Deferred[Lease[Any]]:
        return self.group.connect("us", **how)

    def lease(self, **how: Any) -> Lease[Any]:
        return result_of(self.ask(**how))

    def fill(self, place: int) -> list[Lease[Any]]:
        """Lease all that a backend has."""
        limit = self.pool.status([self.backends[place]])[0].limit
        return [self.at(place) for _ in range(limit)]

    # What is to be seen

    def state(self, place: int = 0) -> State:
        return self.pool.status([self.backends[place]])[0].state

    def told(self, *kinds: type[Event]) -> list[Any]:
        return [
            each for each in self.events if type(each) in (kinds or (Ejected, ProbeDue, Admitted))
        ]

    def turn(self) -> None:
        self.clock.pump([0, 0, 0])

    def until_due(self, seconds: float = FIRST) -> None:
        self.clock.advance(seconds)
        assert self.state() is State.DUE


# The row of failures


def test_five_failed_leases_in_a_row_eject_a_backend() -> None:
    rig = Nursed()
    rig.fail(times=4)
    assert rig.state() is State.OPEN
    rig.fail(times=1)
    assert rig.state() is State.EJECTED


def test_five_refused_connects_in_a_row_eject_a_backend() -> None:
    rig = Nursed()
    rig.refuse(times=4)
    assert rig.state() is not State.EJECTED
    rig.refuse(times=1)
    assert rig.state() is State.EJECTED


def test_five_connects_in_a_row_that_take_too_long_eject_a_backend() -> None:
    rig = Nursed(connect_timeout=1.0)
    for _ in range(5):
        assert rig.state() is not State.EJECTED
        rig.fakes[0].never_answer()
        asked = rig.pool.connect("us", rig.backends[0])
        rig.clock.advance(1.0)
        with pytest.raises(ConnectFailed):
            result_of(asked)
        rig.clock.advance(0.002)
    assert rig.state() is State.EJECTED


def test_connections_that_cannot_be_prepared_are_failures() -> None:
    def refuse(protocol: Any) -> None:
        raise ValueError("no such database")

    rig = Nursed(prepare=refuse)
    for _ in range(5):
        with pytest.raises(ConnectFailed):
            rig.at()
        rig.clock.advance(0.002)
    assert rig.state() is State.EJECTED


def test_checks_that_fail_are_failures() -> None:
    rig = Nursed(limit=5, check=lambda protocol: False, check_after=1.0)
    held = [rig.at() for _ in range(5)]
    for each in held:
        each.release()
    rig.clock.advance(1.0)
    assert rig.state() is State.OPEN
    rig.pool.connect("us", rig.backends[0])  # each that is idle is checked until one passes
    assert [each.reason for each in rig.told(Ejected)] == [
        "5 failures in a row, the last: a check failed"
    ]


@pytest.mark.parametrize("settle", ["finished", "forgotten"])
def test_leases_that_are_finished_for_another_reason_are_no_failures(settle: str) -> None:
    rig = Nursed()
    for _ in range(10):
        lease = rig.at()
        if settle == "finished":
            lease.finished()
        del lease
        rig.turn()
    assert rig.told() == []


def test_time_outs_of_requests_are_no_failures() -> None:
    rig = Nursed(limit=1)
    held = rig.at()
    for _ in range(10):
        asked = rig.pool.connect("us", rig.backends[0], timeout=0.1)
        rig.clock.advance(0.1)
        with pytest.raises(LeaseTimeout):
            result_of(asked)
    assert rig.told() == []
    held.release()


def test_a_release_interrupts_a_row() -> None:
    rig = Nursed()
    rig.fail(times=4)
    rig.use()
    rig.fail(times=4)
    assert rig.state() is State.OPEN
    rig.fail(times=1)
    assert rig.state() is State.EJECTED


def test_a_release_interrupts_a_row_of_connects() -> None:
    rig = Nursed()
    held = rig.at()
    rig.refuse(times=4)
    held.release()
    other = rig.at()
    rig.refuse(times=4)
    assert rig.state() is State.OPEN
    other.release()


def test_a_connect_that_succeeds_interrupts_a_row_of_connects() -> None:
    rig = Nursed()
    rig.refuse(times=4)
    held = rig.at()
    rig.refuse(times=4)
    assert rig.state() is State.OPEN
    held.release()


def test_a_connect_that_succeeds_does_not_interrupt_a_row_of_failed_leases() -> None:
    rig = Nursed()
    rig.fail(times=3)
    held = rig.at()
    rig.fail(times=2)
    assert rig.state() is State.EJECTED
    held.release()


def test_failed_connects_and_failed_leases_are_one_row() -> None:
    rig = Nursed()
    rig.fail(times=1)
    rig.refuse(times=3)
    rig.fail(times=1)
    assert rig.state() is State.EJECTED


def test_idents_share_the_row_of_a_backend() -> None:
    rig = Nursed(idents="separate")
    rig.fail(times=3)
    for _ in range(2):
        result_of(rig.pool.connect("them", rig.backends[0])).finished(failed=True)
    assert rig.state() is State.EJECTED


def test_slots_on_one_connection_count_one_by_one() -> None:
    rig = Nursed(slots=10, limit=1)
    held = [rig.at() for _ in range(5)]
    for each in held:
        each.finished(failed=True)
    assert rig.state() is State.EJECTED


def test_without_an_ejection_nothing_is_ejected() -> None:
    rig = Nursed(ejection=None)
    rig.fail(times=50)
    assert rig.state() is State.OPEN
    assert rig.told() == []


def test_how_many_failures_eject_is_the_policys() -> None:
    rig = Nursed(ejection=Ejection(failures=2))
    rig.fail(times=2)
    assert rig.state() is State.EJECTED


# The time, and the events


def test_an_ejection_tells_its_reason_and_its_time() -> None:
    rig = Nursed()
    rig.fail()
    (event,) = rig.told()
    assert event == Ejected(
        rig.backends[0], None, "5 failures in a row, the last: a lease was settled as failed", FIRST
    )


def test_the_reason_tells_why_connecting_failed() -> None:
    rig = Nursed()
    rig.refuse()
    (event,) = rig.told()
    assert event.reason.startswith("5 failures in a row, the last: connecting failed: Connection")


def test_a_backend_is_due_when_its_time_is_over() -> None:
    rig = Nursed()
    rig.fail()
    rig.clock.advance(FIRST - 0.01)
    assert rig.state() is State.EJECTED
    rig.clock.advance(0.01)
    assert rig.state() is State.DUE
    assert rig.told()[1:] == [ProbeDue(rig.backends[0], None)]


def test_the_time_doubles_with_each_probe_that_fails() -> None:
    rig = Nursed(1)
    rig.fail()
    times = [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST, 16 * FIRST, 32 * FIRST, 225, 225]
    for seconds in times:
        assert rig.told(Ejected)[-1].seconds == seconds
        rig.until_due(seconds)
        rig.lease().finished(failed=True)
        rig.turn()


def test_the_time_is_the_first_again_after_a_probe_that_went_well() -> None:
    rig = Nursed(1)
    rig.fail()
    rig.until_due()
    rig.lease().finished(failed=True)
    rig.turn()
    rig.until_due(2 * FIRST)
    rig.lease().release()
    rig.fail()
    assert [each.seconds for each in rig.told(Ejected)] == [FIRST, 2 * FIRST, FIRST]


def test_failures_while_it_is_ejected_do_not_make_it_longer() -> None:
    rig = Nursed()
    rig.fail()
    rig.fail(times=20)
    rig.until_due()
    rig.fail(times=3)
    assert len(rig.told(Ejected)) == 1
    assert rig.state() is State.DUE


def test_a_backend_is_not_due_before_it_may_be_connected_to() -> None:
    rig = Nursed(backoff=Backoff(40.0, most=40.0))
    rig.fail(times=4)
    rig.refuse(times=1)
    assert rig.state() is State.EJECTED
    rig.clock.advance(19.9)
    assert rig.state() is State.EJECTED
    rig.clock.advance(0.2)
    assert rig.state() is State.DUE


# The probe


def test_one_request_is_the_probe_and_a_second_goes_elsewhere() -> None:
    rig = Nursed()
    rig.fail()
    rig.until_due()
    probe, other = rig.lease(), rig.lease()
    assert [str(each.backend) for each in (probe, other)] == ["a", "b"]
    assert rig.state() is State.EJECTED
    probe.release()
    other.release()


def test_one_request_is_the_probe_though_connections_are_idle_elsewhere() -> None:
    rig = Nursed()
    rig.fail()
    rig.use(1)
    rig.until_due()
    probe = rig.lease()
    assert str(probe.backend) == "a"
    probe.release()
    assert rig.state() is State.OPEN


@pytest.mark.parametrize("balancer", [fill_first, least_leased, round_robin(), pick_two()])
def test_a_backend_that_is_well_again_comes_back_whatever_the_others_have_idle(
    balancer: Balancer,
) -> None:
    rig = Nursed(2, balancer)
    rig.fail()
    for _ in range(100):
        rig.lease().release()
        rig.clock.advance(0.1)
    assert rig.state() is State.OPEN


def test_the_probe_is_connected_for_though_others_have_room() -> None:
    rig = Nursed()
    rig.refuse()
    rig.fakes[0].accept(after=0.1)
    rig.fakes[1].accept(after=5.0, always=True)
    rig.until_due()
    before = rig.fakes[0].attempts
    asked = rig.ask()
    assert rig.fakes[0].attempts == before + 1
    rig.clock.advance(0.1)
    assert str(result_of(asked).backend) == "a"
    assert rig.state() is State.OPEN


def test_a_request_whose_probe_fails_is_served_elsewhere() -> None:
    rig = Nursed()
    rig.refuse()
    rig.until_due()
    rig.fakes[0].refuse()
    assert str(rig.lease().backend) == "b"
    assert rig.told(Ejected)[-1].seconds == 2 * FIRST


def test_try_connect_that_gets_another_backends_lease_is_no_probe() -> None:
    rig = Nursed()
    rig.fail()
    rig.use(1)
    rig.until_due()
    lease = rig.group.try_connect("us")
    assert lease is not None
    assert str(lease.backend) == "b"
    assert rig.state() is State.DUE
    lease.release()


def test_a_probe_that_goes_well_admits_a_backend() -> None:
    rig = Nursed(1)
    rig.fail()
    rig.until_due()
    probe = rig.lease()
    assert rig.state() is State.EJECTED
    probe.release()
    assert rig.state() is State.OPEN
    assert rig.told(Admitted) == [Admitted(rig.backends[0], None, "a probe went well")]


def test_a_probe_that_can_connect_admits_a_backend_that_could_not_be_connected_to() -> None:
    rig = Nursed(1)
    rig.refuse()
    rig.until_due()
    probe = rig.lease()
    assert rig.state() is State.OPEN
    assert rig.told(Admitted) == [Admitted(rig.backends[0], None, "a probe could connect")]
    probe.release()


def test_a_probe_that_fails_ejects_a_backend_for_twice_as_long_and_tells_why() -> None:
    rig = Nursed(1)
    rig.fail()
    rig.until_due()
    rig.lease().finished(failed=True)
    assert rig.state() is State.EJECTED
    event = rig.told(Ejected)[-1]
    assert event.reason == "a probe failed: a lease was settled as failed"
    assert event.seconds == 2 * FIRST


def test_of_a_lease_from_before_the_probe_nothing_is_learnt() -> None:
    rig = Nursed(1)
    good, bad = rig.at(), rig.at()
    rig.fail()
    rig.until_due()
    rig.clock.advance(0.1)
    probe = rig.lease()
    good.release()
    bad.finished(failed=True)
    assert rig.state() is State.EJECTED
    assert len(rig.told(Ejected)) == 1
    probe.release()
    assert rig.state() is State.OPEN


@pytest.mark.parametrize("settle", [lambda lease: lease.finished(), lambda lease: None])
def test_a_probe_that_comes_to_nothing_is_made_again(settle: Callable[[Any], None]) -> None:
    rig = Nursed(1)
    rig.fail()
    rig.until_due()
    probe = rig.lease()
    settle(probe)
    rig.turn()
    rig.clock.advance(FIRST - 0.01)
    assert rig.state() is State.EJECTED
    rig.clock.advance(0.01)
    assert rig.state() is State.DUE
    assert len(rig.told(ProbeDue)) == 2
    rig.lease().release()
    assert rig.state() is State.OPEN
    if probe.held:
        probe.release()


def test_a_probe_that_is_cancelled_is_made_again() -> None:
    rig = Nursed(1)
    rig.fail()
    rig.until_due()
    rig.fakes[0].never_answer()
    asked = rig.ask()
    asked.addErrback(lambda failure: None)
    asked.cancel()
    rig.clock.advance(FIRST)
    assert rig.state() is State.DUE


# Who is chosen


BALANCERS: dict[str, Callable[[Nursed], Balancer]] = {
    "fill_first": lambda rig: fill_first,
    "idle_first": lambda rig: idle_first,
    "least_leased": lambda rig: least_leased,
    "peak_ewma": lambda rig: peak_ewma(rig.clock),
    "pick_two": lambda rig: pick_two(),
    "prefer_zone": lambda rig: prefer_zone("", fill_first),
    "round_robin": lambda rig: round_robin(),
}


@pytest.mark.parametrize("name", BALANCERS)
@pytest.mark.parametrize("by", ["a group", "select"])
def test_no_balancer_chooses_an_ejected_backend_while_others_are_well(name: str, by: str) -> None:
    rig = Nursed(4)
    balancer = BALANCERS[name](rig)
    for place in (0, 2):
        rig.use(place)
        rig.fail(place)
        rig.use(place)  # so that it has a connection idle
    held = []
    for _ in range(20):
        if by == "a group":
            asked = rig.ask(balancer=balancer)
        else:
            asked = rig.pool.select("us", rig.backends, balancer)
        held.append(result_of(asked))
    assert {str(each.backend) for each in held} == {"b", "d"} or (
        name in ("fill_first", "prefer_zone") and {str(each.backend) for each in held} <= {"b", "d"}
    )
    for each in held:
        each.release()


@pytest.mark.parametrize("spill", [1.25, None])
def test_no_key_is_given_to_an_ejected_backend_while_others_are_well(spill: float | None) -> None:
    rig = Nursed(4)
    rig.fail(0)
    rig.fail(2)
    for key in range(40):
        lease = rig.lease(balancer=consistent(key, spill=spill))
        assert str(lease.backend) in "bd"
        lease.release()


def test_an_ejected_backend_does_not_serve_who_waits_for_all() -> None:
    rig = Nursed(limit=6)
    held = rig.fill(1)
    home = rig.at(0)
    rig.fail(0)
    asked = rig.ask()
    home.release()
    with pytest.raises(NotFired):
        result_of(asked)
    held.pop().release()
    assert str(result_of(asked).backend) == "b"


def test_requests_that_waited_at_a_backend_move_on_when_it_is_ejected() -> None:
    rig = Nursed(2, limit=1)
    rig.fakes[0].never_answer(always=True)
    rig.fakes[1].never_answer()
    asked = rig.ask()
    assert [each.waiting for each in rig.pool.status(rig.backends)] == [1, 0]
    rig.pool.eject(rig.backends[0])
    assert [each.waiting for each in rig.pool.status(rig.backends)] == [0, 1]
    with pytest.raises(NotFired):
        result_of(asked)
    rig.clock.advance(5)
    with pytest.raises(KolusError):
        result_of(asked)


def test_requests_that_waited_at_it_are_served_elsewhere_at_once_if_there_is_room() -> None:
    rig = Nursed(2, limit=1)
    rig.fakes[0].never_answer()
    asked = rig.ask()
    rig.pool.eject(rig.backends[0])
    assert str(result_of(asked).backend) == "b"


def test_who_asks_for_an_ejected_backend_by_name_gets_it() -> None:
    rig = Nursed()
    rig.fail()
    assert rig.state() is State.EJECTED
    lease = rig.at()
    assert lease.backend is rig.backends[0]
    lease.release()
    assert rig.state() is State.EJECTED
    again = rig.pool.try_connect("us", rig.backends[0])
    assert again is not None
    again.release()


# Panic


def test_of_two_backends_one_can_be_out_of_use() -> None:
    rig = Nursed(2, round_robin())
    rig.fail(0)
    assert {str(rig.lease().backend) for _ in range(6)} == {"b"}
    assert not rig.group.status().panics


def test_the_only_backend_is_never_out_of_use() -> None:
    rig = Nursed(1)
    rig.fail()
    assert str(rig.lease().backend) == "a"
    assert rig.group.status().panics


@pytest.mark.parametrize("name", BALANCERS)
def test_below_half_healthy_all_are_chosen_from(name: str) -> None:
    rig = Nursed(4, limit=3)
    balancer = BALANCERS[name](rig)
    held = [rig.lease(balancer=balancer)]
    for place in (0, 2, 3):
        rig.pool.eject(rig.backends[place])
    held += [rig.lease(balancer=balancer) for _ in range(11)]
    assert {str(each.backend) for each in held[1:]} == set("abcd")
    for each in held:
        each.release()


def test_requests_given_to_ejected_backends_in_panic_are_counted() -> None:
    rig = Nursed(3, round_robin())
    for backend in rig.backends[:2]:
        rig.pool.eject(backend)
    held = [rig.lease() for _ in range(6)]
    status = rig.group.status()
    assert (status.ejected, status.panics, status.panicked) == (2, True, 4)
    for each in held:
        each.release()


def test_panic_is_told_in_the_log_once(log_events: list[Any]) -> None:
    rig = Nursed(3)
    for backend in rig.backends[:2]:
        rig.pool.eject(backend)
    for _ in range(3):
        rig.lease().release()
    told = [each for each in log_events if "all are chosen from" in str(each["log_format"])]
    assert [(each["ejected"], each["all"]) for each in told] == [(2, 3)]


def test_panic_is_over_when_half_are_healthy() -> None:
    rig = Nursed(3, round_robin())
    for backend in rig.backends[:2]:
        rig.pool.eject(backend)
    rig.lease().release()
    rig.pool.admit(rig.backends[0])
    assert not rig.group.status().panics
    held = [rig.lease() for _ in range(10)]
    assert {str(each.backend) for each in held} == {"a", "c"}


def test_in_panic_an_ejected_backend_serves_who_waits_already() -> None:
    rig = Nursed(3, limit=1)
    held = [rig.at(place) for place in range(3)]
    asked = rig.ask()
    for backend in rig.backends[:2]:
        rig.pool.eject(backend)
    held[1].release()
    assert str(result_of(asked).backend) == "b"


def test_after_a_panic_an_ejected_backend_serves_nobody_who_waited_in_it() -> None:
    rig = Nursed(3, limit=1)
    held = [rig.at(place) for place in range(3)]
    for backend in rig.backends[:2]:
        rig.pool.eject(backend)
    asked = rig.ask()
    rig.pool.admit(rig.backends[0])
    held[1].release()
    with pytest.raises(NotFired):
        result_of(asked)
    held[0].release()
    assert str(result_of(asked).backend) == "a"


def test_only_a_groups_own_backends_count_for_its_panic() -> None:
    rig = Nursed(4)
    group = rig.pool.group(rig.backends[2:])
    for backend in rig.backends[:3]:
        rig.pool.eject(backend)
    assert (group.status().ejected, group.status().panics) == (1, False)
    assert (rig.group.status().ejected, rig.group.status().panics) == (3, True)


# Slow start


def test_a_backend_that_is_admitted_starts_with_a_tenth_of_its_weight() -> None:
    rig = Nursed(1, ejection=Ejection(slow_start=10.0))
    rig.fail()
    rig.until_due()
    rig.lease().release()
    ramps = []
    for _ in range(6):
        (status,) = rig.pool.status(rig.backends)
        ramps.append(status.ramp)
        assert status.load == pytest.approx(1 / status.ramp)
        rig.clock.advance(2.0)
    assert ramps == pytest.approx([0.1, 0.2, 0.4, 0.6, 0.8, 1.0])


def test_without_a_slow_start_a_backend_has_its_full_weight_at_once() -> None:
    rig = Nursed(1)
    rig.fail()
    rig.pool.admit(rig.backends[0])
    assert rig.pool.status(rig.backends)[0].ramp == 1.0


@pytest.mark.parametrize("balancer", [least_leased, pick_two(), round_robin()])
def test_a_backend_that_starts_slowly_gets_fewer_requests(balancer: Balancer) -> None:
    rig = Nursed(2, balancer, ejection=Ejection(slow_start=100.0), limit=100)
    rig.fail()
    rig.pool.admit(rig.backends[0])
    rig.clock.advance(25.0)
    held = [rig.lease() for _ in range(50)]
    share = [str(each.backend) for each in held].count("a")
    assert share == pytest.approx(10, abs=1)
    for each in held:
        each.release()


def test_a_backend_that_is_ejected_while_it_starts_slowly_is_ejected() -> None:
    rig = Nursed(ejection=Ejection(slow_start=10.0))
    rig.fail()
    rig.pool.admit(rig.backends[0])
    rig.fail()
    assert rig.state() is State.EJECTED


# A hook that probes


class Hook:
    """A probe whose answers a test decides."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []

    def __call__(self, protocol: Any) -> Deferred[Any]:
        assert isinstance(protocol, Protocol)
        asked: Deferred[Any] = Deferred()
        self.asked.append(asked)
        return asked


@pytest.mark.parametrize("how", ["fail", "refuse"])
def test_the_pool_probes_by_itself_with_the_hook(how: str) -> None:
    hook = Hook()
    rig = Nursed(probe=hook)
    getattr(rig, how)()
    rig.clock.advance(FIRST)
    assert len(hook.asked) == 1
    assert rig.state() is State.EJECTED
    hook.asked[0].callback(None)
    assert rig.state() is State.OPEN
    assert [each.reason for each in rig.told(Admitted)] == ["a probe went well"]
    assert rig.pool.status(rig.backends)[0].idle == 1


def test_no_request_is_the_probe_where_there_is_a_hook() -> None:
    rig = Nursed(probe=Hook())
    rig.fail()
    rig.clock.advance(FIRST)
    held = [rig.lease() for _ in range(5)]
    assert {str(each.backend) for each in held} == {"b"}


def raises(protocol: Any) -> None:
    raise ValueError("not well")


async def raises_later(protocol: Any) -> None:
    raise ValueError("not well")


async def returns_false_later(protocol: Any) -> bool:
    return False


@pytest.mark.parametrize("how", ["fail", "refuse"])
@pytest.mark.parametrize(
    "hook", [raises, lambda protocol: False, raises_later, returns_false_later]
)
def test_a_hook_that_raises_or_returns_false_keeps_it_ejected_for_twice_as_long(
    hook: Any, how: str
) -> None:
    rig = Nursed(probe=hook)
    getattr(rig, how)()
    rig.clock.advance(FIRST)
    assert rig.state() is State.EJECTED
    assert rig.told(Admitted) == []
    assert [each.seconds for each in rig.told(Ejected)] == [FIRST, 2 * FIRST]


@pytest.mark.parametrize("how", ["fail", "refuse"])
def test_a_hook_that_never_answers_keeps_it_ejected_and_is_given_up(how: str) -> None:
    hook = Hook()
    rig = Nursed(probe=hook, probe_timeout=5.0)
    getattr(rig, how)()
    rig.clock.advance(FIRST)
    for _ in range(49):
        rig.clock.advance(0.1)
        assert rig.state() is State.EJECTED
    assert len(hook.asked) == 1
    rig.clock.advance(0.2)
    rig.turn()
    assert [each.seconds for each in rig.told(Ejected)] == [FIRST, 2 * FIRST]
    assert rig.pool.status(rig.backends)[0].leased == 0


def test_the_time_of_a_hook_begins_when_its_connection_is_asked_for() -> None:
    hook = Hook()
    rig = Nursed(probe=hook, probe_timeout=5.0)
    rig.fail()
    rig.fakes[0].accept(after=3.0)
    rig.clock.advance(FIRST)
    rig.clock.advance(3.0)
    assert len(hook.asked) == 1
    rig.clock.advance(1.9)
    assert len(rig.told(Ejected)) == 1
    rig.clock.advance(0.2)
    assert len(rig.told(Ejected)) == 2


def test_a_hook_is_given_up_when_its_connection_is_lost() -> None:
    hook = Hook()
    rig = Nursed(probe=hook)
    rig.fail()
    rig.clock.advance(FIRST)
    rig.fakes[0].connections[-1].reset()
    assert [each.seconds for each in rig.told(Ejected)] == [FIRST, 2 * FIRST]


def test_a_probe_that_cannot_connect_keeps_it_ejected_for_twice_as_long() -> None:
    rig = Nursed(probe=Hook())
    rig.fail()
    rig.fakes[0].refuse()
    rig.clock.advance(FIRST)
    assert [each.seconds for each in rig.told(Ejected)] == [FIRST, 2 * FIRST]


def test_a_probe_of_a_full_backend_is_made_again_later() -> None:
    hook = Hook()
    rig = Nursed(probe=hook, probe_timeout=1.0, limit=6)
    held = rig.fill(0)
    for _ in range(5):
        held.pop().finished(failed=True)
    rig.turn()
    held += [rig.at() for _ in range(5)]
    rig.clock.pump([FIRST, 1.0])
    assert hook.asked == []
    for each in held:
        each.release()
    rig.clock.advance(FIRST)
    assert len(hook.asked) == 1
    hook.asked[0].callback(None)
    assert rig.state() is State.OPEN


def test_only_one_probe_is_under_way_however_short_the_ejections() -> None:
    hook = Hook()
    rig = Nursed(probe=hook, probe_timeout=5.0, ejection=Ejection(first=0.1))
    rig.fail()
    for _ in range(45):
        rig.clock.advance(0.1)
    assert len(hook.asked) == 1


def test_a_hook_probes_for_the_ident_that_used_the_backend_last() -> None:
    hook = Hook()
    rig = Nursed(probe=hook)
    rig.fail()
    rig.clock.advance(FIRST)
    assert len(hook.asked) == 1
    status = rig.pool.status(rig.backends)[0]
    assert (status.ident, status.leased) == ("us", 1)


# By hand


def test_a_backend_that_is_ejected_by_hand_stays_so_until_it_is_admitted() -> None:
    rig = Nursed(2, round_robin())
    rig.pool.eject(rig.backends[0])
    rig.clock.advance(10_000)
    assert rig.state() is State.EJECTED
    assert {str(rig.lease().backend) for _ in range(4)} == {"b"}
    rig.pool.admit(rig.backends[0])
    assert rig.state() is State.ABSENT
    assert {str(rig.lease().backend) for _ in range(4)} == {"a", "b"}
    assert rig.told() == [
        Ejected(rig.backends[0], None, "by hand", float("inf")),
        Admitted(rig.backends[0], None, "by hand"),
    ]


def test_a_backend_can_be_ejected_by_hand_though_failures_eject_none() -> None:
    rig = Nursed(ejection=None)
    rig.pool.eject(rig.backends[0])
    assert str(rig.lease().backend) == "b"
    rig.pool.admit(rig.backends[0])
    assert str(rig.lease().backend) == "a"


def test_admitting_a_backend_ends_the_ejection_that_its_failures_led_to() -> None:
    rig = Nursed()
    rig.fail()
    rig.pool.admit(rig.backends[0])
    assert rig.state() is State.OPEN
    rig.clock.advance(10)
    assert rig.told(ProbeDue) == []


def test_admitting_a_backend_that_is_well_does_nothing() -> None:
    rig = Nursed()
    rig.pool.admit(rig.backends[0])
    assert rig.told() == []


def test_failures_of_a_backend_that_is_ejected_by_hand_do_not_bring_it_back() -> None:
    rig = Nursed()
    rig.pool.eject(rig.backends[0])
    rig.fail(times=10)
    rig.use()
    rig.clock.advance(1000)
    assert rig.state() is State.EJECTED


def test_a_backend_that_is_ejected_by_hand_while_it_is_probed_is_not_admitted_by_that() -> None:
    rig = Nursed(1)
    rig.fail()
    rig.until_due()
    probe = rig.lease()
    rig.pool.eject(rig.backends[0])
    probe.release()
    rig.clock.advance(1000)
    assert rig.state() is State.EJECTED


def test_a_backend_that_was_never_used_can_be_ejected() -> None:
    rig = Nursed()
    rig.pool.eject("tcp:192.0.2.1:1")
    (status,) = rig.pool.status(["tcp:192.0.2.1:1"])
    assert status.state is State.EJECTED


# The end


@pytest.mark.parametrize("phase", ["ejected", "due", "probed", "by hand"])
def test_a_closed_pool_leaves_no_timer(phase: str) -> None:
    rig = Nursed(1)
    rig.fail()
    if phase in ("due", "probed"):
        rig.until_due()
    if phase == "probed":
        probe = rig.lease()
        probe.finished()
    if phase == "by hand":
        rig.pool.eject(rig.backends[0])
    closed = rig.pool.close()
    rig.turn()
    assert result_of(closed) is None
    assert rig.clock.getDelayedCalls() == []


def test_failures_after_close_leave_no_timer() -> None:
    rig = Nursed(1)
    held = rig.fill(0)
    closed = rig.pool.close(10)
    for each in held:
        each.finished(failed=True)
    rig.turn()
    assert result_of(closed) is None
    assert rig.clock.getDelayedCalls() == []


def test_connects_that_fail_after_close_leave_no_timer() -> None:
    rig = Nursed(1, ejection=Ejection(failures=1))
    rig.fakes[0].refuse(after=1.0)
    asked = rig.pool.connect("us", rig.backends[0])
    asked.addErrback(lambda failure: None)
    closed = rig.pool.close(10)
    rig.clock.advance(1.0)
    rig.turn()
    rig.clock.advance(10.0)
    assert result_of(closed) is None
    assert rig.clock.getDelayedCalls() == []


def test_a_probe_that_is_under_way_when_the_pool_is_closed_leaves_no_timer() -> None:
    rig = Nursed(1, probe=Hook())
    rig.fail()
    rig.clock.advance(FIRST)
    closed = rig.pool.close(0)
    rig.turn()
    assert result_of(closed) is None
    assert rig.clock.getDelayedCalls() == []

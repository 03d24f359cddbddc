"""C{peak_ewma}: the faster of two backends, by estimated latency and load."""

from __future__ import annotations

import math
from collections import Counter
from random import Random
from typing import Any

import pytest
from twisted.internet.task import Clock

from kolus.balance import peak_ewma
from kolus.status import State
from tests.balance.test_balance import Looked, names, status


class Rig:
    """A balancer and its clock, and two backends."""

    def __init__(self, decay: float = 10.0) -> None:
        self.clock = Clock()
        self.balancer = peak_ewma(self.clock, Random(1), decay)
        self.a, self.b = status("a"), status("b")

    def observe(self, a: float | None = None, b: float | None = None) -> None:
        for each, seconds in ((self.a, a), (self.b, b)):
            if seconds is not None:
                self.balancer.observe(each.backend, seconds)

    def chosen(self, a: dict[str, Any] | None = None, b: dict[str, Any] | None = None) -> set[str]:
        """Which of the two, with these numbers, is chosen; both if it is left to chance."""
        return set(names(self.balancer, [status("a", **a or {}), status("b", **b or {})], 60))

    def estimate(self) -> float:
        """Of the first, as it was when it was last observed."""
        return self.balancer._estimates[self.a.backend.key][0]


def test_the_quicker_one_is_chosen() -> None:
    rig = Rig()
    rig.observe(a=0.2, b=0.1)
    assert rig.chosen() == {"b"}


def test_load_counts_as_latency_does() -> None:
    rig = Rig()
    rig.observe(a=0.3, b=0.1)
    assert rig.chosen(b={"leased": 1}) == {"b"}
    assert rig.chosen(b={"leased": 1, "waiting": 2}) == {"a"}


def test_a_heavier_one_bears_more_load_and_one_that_starts_slowly_less() -> None:
    rig = Rig()
    rig.observe(a=0.1, b=0.1)
    busy = {"leased": 3}
    assert rig.chosen(a=busy | {"weight": 5.0}) == {"a"}
    assert rig.chosen(a={"ramp": 0.1}, b=busy) == {"b"}


def test_the_estimate_rises_at_once() -> None:
    rig = Rig()
    rig.observe(a=0.1, b=0.5)
    assert rig.chosen() == {"a"}
    rig.observe(a=0.6)
    assert rig.chosen() == {"b"}


def test_the_estimate_falls_with_the_time_constant() -> None:
    rig = Rig(decay=10.0)
    rig.observe(a=1.0)
    rig.clock.advance(10.0)
    rig.observe(a=0.2)
    kept = math.exp(-1)
    assert rig.estimate() == pytest.approx(kept + 0.2 * (1 - kept))


def test_many_quick_answers_at_once_do_not_hide_a_peak() -> None:
    rig = Rig()
    rig.observe(a=1.0, b=0.5)
    for _ in range(1000):
        rig.observe(a=0.001)
    assert rig.chosen() == {"b"}


def test_one_that_was_slow_is_tried_again() -> None:
    rig = Rig(decay=10.0)
    rig.observe(a=2.0)
    chosen = []
    for _ in range(31):
        rig.clock.advance(1.0)
        rig.observe(b=0.1)
        chosen.append(rig.chosen())
    assert chosen == [{"b"}] * 29 + [{"a"}] * 2  # 2.0 exp(-3) is less than 0.1


def test_reading_an_estimate_changes_nothing() -> None:
    rig, other = Rig(), Rig()
    for each in (rig, other):
        each.observe(a=1.0)
    for _ in range(100):
        rig.clock.advance(0.05)
        rig.chosen()
    other.clock.advance(5.0)
    for each in (rig, other):
        each.observe(a=0.5)
    assert rig.estimate() == pytest.approx(other.estimate())


def test_one_never_measured_gets_tried() -> None:
    rig = Rig()
    rig.observe(a=1e-9)
    assert rig.chosen() == {"b"}


def test_one_never_measured_is_left_alone_while_it_is_being_tried() -> None:
    rig = Rig()
    rig.observe(a=60.0)
    assert rig.chosen(a={"leased": 9}, b={"leased": 1}) == {"a"}
    assert rig.chosen(a={"leased": 9}, b={"waiting": 1}) == {"a"}


def test_of_those_never_measured_the_less_loaded_is_chosen() -> None:
    assert Rig().chosen(a={"leased": 2}, b={"leased": 1}) == {"b"}
    assert Rig().chosen() == {"a", "b"}


def test_an_estimate_of_ten_time_constants_ago_counts_as_none() -> None:
    rig = Rig(decay=1.0)
    rig.observe(a=1.0, b=0.5)
    rig.clock.advance(10.5)
    assert rig.chosen(a={"leased": 1}, b={"leased": 2}) == {"a"}


def test_no_latency_at_all_leaves_the_load_to_decide() -> None:
    rig = Rig()
    rig.observe(a=0.0, b=0.0)
    assert rig.chosen(a={"leased": 1}) == {"b"}


def test_a_clock_that_is_set_back_does_no_harm() -> None:
    rig = Rig()
    rig.clock.advance(1e6)
    rig.observe(a=1.0, b=-5.0)
    rig.clock.rightNow = 0.0
    assert rig.chosen() == {"b"}
    rig.observe(a=0.5)
    assert rig.estimate() == pytest.approx(1.0)


def test_what_takes_no_requests_is_not_chosen_however_quick() -> None:
    rig = Rig()
    rig.observe(a=0.001, b=5.0)
    assert rig.chosen(a={"state": State.EJECTED}, b={"leased": 9}) == {"b"}
    assert rig.chosen(a={"state": State.EJECTED}, b={"state": State.EJECTED}) == {"a", "b"}


def test_two_are_drawn_again_when_neither_takes_requests() -> None:
    balancer = peak_ewma(Clock(), Random(2))
    many = Looked(10_000, lambda at: status(str(at), state=State.OPEN if at % 2 else State.EJECTED))
    assert all(int(name) % 2 for name in names(balancer, many, 1000))
    few = [status(str(at), state=State.EJECTED) for at in range(15)] + [status("open", leased=9)]
    assert set(names(balancer, few, 1000)) == {"open"}


def test_two_are_looked_at_of_any_number() -> None:
    for count in (2, 10, 10_000):
        statuses = Looked(count, lambda at: status(str(at)))
        names(peak_ewma(Clock(), Random(3)), statuses, 100)
        assert statuses.looks == 200


def test_the_only_one_is_taken() -> None:
    assert names(peak_ewma(Clock()), [status("a", state=State.EJECTED)], 1) == ["a"]


def test_a_slow_backend_gets_fewer_requests_in_proportion() -> None:
    """Ten backends, one of them ten times slower, each lease held for as long as it takes."""
    clock, rng = Clock(), Random(4)
    balancer = peak_ewma(clock, rng)
    leased: Counter[int] = Counter()
    served: Counter[int] = Counter()
    statuses = Looked(10, lambda at: status(str(at), leased=leased[at]))

    def done(at: int, seconds: float) -> None:
        leased[at] -= 1
        balancer.observe(status(str(at)).backend, seconds)

    for _ in range(5000):
        at = int(str(balancer(statuses).backend))
        leased[at] += 1
        served[at] += 1
        seconds = 0.1 if at else 1.0
        clock.callLater(seconds, done, at, seconds)
        clock.advance(0.005)
    assert served[0] < 0.25 * 5000 / 10
    assert all(0.75 < served[at] / ((5000 - served[0]) / 9) < 1.25 for at in range(1, 10))
    clock.advance(2.0)


def test_backends_that_have_gone_are_forgotten() -> None:
    clock = Clock()
    balancer = peak_ewma(clock, decay=1.0)
    for at in range(1000):
        clock.advance(0.1)
        for name in ("always there", str(at)):
            balancer.observe(status(name).backend, 0.1)
    assert len(balancer._estimates) <= 102


def test_an_equal_backend_keeps_its_estimate() -> None:
    rig = Rig()
    rig.observe(a=0.2, b=0.1)
    assert rig.chosen(a={"weight": 1.5}) == {"b"}


@pytest.mark.parametrize("decay", [0, -1.0, math.inf, math.nan, True, "10"])
def test_a_time_constant_that_is_none_is_refused(decay: Any) -> None:
    with pytest.raises(ValueError, match="decay must be a number of seconds"):
        peak_ewma(Clock(), Random(1), decay)


@pytest.mark.parametrize("seconds", [math.inf, math.nan])
def test_a_latency_that_is_no_time_is_refused(seconds: float) -> None:
    rig = Rig()
    with pytest.raises(ValueError, match="finite number of seconds"):
        rig.observe(a=seconds)

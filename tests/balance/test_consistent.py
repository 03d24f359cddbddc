"""C{consistent}: the same backend for the same key."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import Clock

from kolus import Backend, Status
from kolus.balance import Rank, Ring, consistent
from kolus.status import State
from tests.balance.test_balance import Looked, status

KEYS = [f"user:{at}" for at in range(2000)]


class GroupStatuses(Looked):
    """As a group: it knows its backends and its load, and has an index for each rank."""

    def __init__(self, statuses: Sequence[Status]) -> None:
        super().__init__(len(statuses), lambda at: statuses[at])
        self.statuses = statuses
        self.backends = tuple([each.backend for each in statuses])
        self.asked = 0

    @property
    def total_load(self) -> float:
        return sum([each.leased + each.waiting for each in self.statuses])

    def lowest(self, rank: Rank) -> Status:
        self.asked += 1
        return min(self.statuses, key=rank)


def some(count: int, **numbers: Any) -> list[Status]:
    return [status(str(at), **numbers) for at in range(count)]


def homes(statuses: Sequence[Status], spill: float | None = 1.25, points: int = 32) -> list[str]:
    ring = Ring(points)
    return [str(consistent(key, ring, spill)(statuses).backend) for key in KEYS]


def spread(count: int, key: str, requests: int, spill: float | None = 1.25) -> Counter[str]:
    """How many requests for one key each backend has, if each is held for ever."""
    leased: Counter[str] = Counter()
    ring = Ring()
    for _ in range(requests):
        members = GroupStatuses([status(str(at), leased=leased[str(at)]) for at in range(count)])
        leased[str(consistent(key, ring, spill)(members).backend)] += 1
    return leased


def test_the_same_key_gets_the_same_backend() -> None:
    statuses = some(10)
    assert homes(statuses) == homes(statuses)
    assert len(set(homes(statuses))) == 10


def test_the_order_of_the_list_does_not_matter() -> None:
    statuses = some(10)
    assert homes(statuses) == homes(statuses[::-1])


def test_a_ring_is_not_needed() -> None:
    statuses = some(10)
    assert [str(consistent(key)(statuses).backend) for key in KEYS[:50]] == homes(statuses)[:50]


def test_without_one_backend_only_its_keys_move() -> None:
    statuses = some(10)
    before, after = homes(statuses), homes(statuses[:4] + statuses[5:])
    assert all((old == new) == (old != "4") for old, new in zip(before, after, strict=True))
    heirs = {new for old, new in zip(before, after, strict=True) if old == "4"}
    assert len(heirs) > 5


def test_a_new_backend_takes_its_share_of_the_keys_and_moves_no_others() -> None:
    before, after = homes(some(9), points=128), homes(some(10), points=128)
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {"9"}
    assert len(moved) == pytest.approx(len(KEYS) / 10, rel=0.3)


def test_keys_are_shared_by_weight() -> None:
    statuses = [status("heavy", weight=4.0), *some(4)]
    shares = Counter(homes(statuses, points=512))
    assert shares["heavy"] == pytest.approx(len(KEYS) / 2, rel=0.1)


def test_the_lightest_backends_have_keys() -> None:
    assert len(set(homes(some(5, weight=0.001)))) > 1


def test_another_weight_moves_keys_to_or_from_that_backend_alone() -> None:
    ring, statuses = Ring(), some(5)
    before = [str(consistent(key, ring)(statuses).backend) for key in KEYS]
    statuses[2] = status("2", weight=2.0)
    after = [str(consistent(key, ring)(statuses).backend) for key in KEYS]
    assert before != after
    assert {new for old, new in zip(before, after, strict=True) if old != new} == {"2"}


def test_those_that_take_no_requests_leave_their_keys_to_the_next() -> None:
    statuses = some(10)
    without = homes(statuses[:4] + statuses[5:])
    statuses[4] = status("4", state=State.EJECTED)
    assert homes(statuses) == without
    assert homes(statuses, spill=None) == without


@pytest.mark.long
def test_places_are_the_same_in_every_process() -> None:
    program = (
        "from kolus.balance import Ring, consistent\n"
        "from tests.balance.test_consistent import some\n"
        "ring, few = Ring(), some(10)\n"
        "print(*[consistent(f'user:{at}', ring)(few).backend for at in range(100)])\n"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(filter(None, sys.path))},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]
    assert told[0] == told[1] == homes(some(10))[:100]


def test_places_are_the_same_in_every_release() -> None:
    statuses = [status(name) for name in "abcd"]
    told = "".join([str(consistent(key, Ring())(statuses).backend) for key in range(20)])
    assert told == "addabcddccabcbacccac"


def test_a_name_places_a_backend_whose_endpoint_is_an_object() -> None:
    def made() -> list[Status]:
        return [
            status(name, backend=Backend(TCP4ClientEndpoint(Clock(), name, 1), name=name))
            for name in "abcde"
        ]

    assert homes(made()) == homes(made())


def test_text_bytes_and_numbers_are_the_same_key() -> None:
    statuses = some(100)
    chosen = {str(consistent(key)(statuses).backend) for key in ("77", b"77", 77)}
    assert len(chosen) == 1
    assert consistent("\udcff")(statuses) in statuses


@pytest.mark.parametrize("key", [None, 1.5, ("a", 1), object(), bytearray(b"a")])
def test_another_kind_of_key_is_refused(key: Any) -> None:
    with pytest.raises(TypeError, match="a key must be a string, bytes or a whole number"):
        consistent(key)


# Bounded load


@pytest.mark.parametrize("count", [2, 3, 10, 100])
def test_a_hot_key_spills_over_at_one_and_a_quarter_times_the_mean(count: int) -> None:
    requests = 400
    leased = spread(count, "hot", requests)
    assert max(leased.values()) <= -(-1.25 * requests // count)
    assert max(leased.values()) >= 1.2 * requests / count


def test_a_key_that_is_not_hot_stays_at_home() -> None:
    statuses = some(10, leased=7)
    assert homes(statuses) == homes(some(10))


def test_a_heavy_backend_bears_its_share_before_it_spills() -> None:
    numbers = {"leased": 10}
    statuses = GroupStatuses([status("heavy", weight=4.0, **numbers), *some(4, leased=2)])
    assert "heavy" in homes(statuses)
    crowded = GroupStatuses([status("heavy", weight=4.0, leased=30), *some(4, leased=2)])
    assert "heavy" not in homes(crowded)


def test_one_that_starts_slowly_spills_sooner() -> None:
    assert "9" in homes(GroupStatuses([*some(9, leased=4), status("9", leased=2)]))
    slow = status("9", leased=2, ramp=0.25)
    assert "9" not in homes(GroupStatuses([*some(9, leased=4), slow]))


def test_a_key_that_must_not_spill_waits_at_home() -> None:
    assert set(spread(10, "hot", 50, spill=None).values()) == {50}


def test_only_a_key_that_must_not_spill_binds_its_request() -> None:
    assert consistent("a", spill=None).bound is True
    assert consistent("a").bound is False


@pytest.mark.parametrize("spill", [0.9, -1, float("inf"), float("nan"), "2"])
def test_a_bound_that_is_none_is_refused(spill: Any) -> None:
    with pytest.raises(ValueError, match="spill must be a number of at least 1"):
        consistent("a", spill=spill)


# Cost


def test_among_a_thousand_one_is_looked_at() -> None:
    members = GroupStatuses(some(1000))
    homes(members)
    assert members.looks == len(KEYS)


def test_a_long_way_round_is_left_to_the_index() -> None:
    dead = [status(str(at), state=State.EJECTED) for at in range(999)]
    members = GroupStatuses([*dead, status("only one")])
    assert str(consistent("a", Ring(1))(members).backend) == "only one"
    assert members.looks == 16
    assert members.asked == 1


def test_a_bound_key_goes_the_long_way_round() -> None:
    dead = [status(str(at), state=State.EJECTED) for at in range(100)]
    for busy in ("a", "b"):
        alive = [status(name, leased=int(name == busy)) for name in "ab"]
        assert homes(GroupStatuses([*dead, *alive]), None) == homes(GroupStatuses(alive), None)


def test_when_none_takes_requests_a_key_stays_at_home() -> None:
    for count in (10, 100):
        dead = GroupStatuses(some(count, state=State.EJECTED))
        assert homes(dead) == homes(some(count))
        assert dead.looks == min(count, 16) * len(KEYS)


def test_a_ring_is_made_once_for_the_same_backends() -> None:
    ring, first = Ring(), some(10)
    circle = ring.circle(tuple([each.backend for each in first]))
    assert ring.circle(tuple([each.backend for each in some(10)])) is circle
    assert ring.circle(tuple([each.backend for each in some(11)])) is not circle
    assert ring.circle(circle.backends) is circle


def test_a_ring_remembers_the_last_four_lists() -> None:
    ring, lists = Ring(), [tuple([each.backend for each in some(at)]) for at in range(1, 9)]
    always = ring.circle(lists[0])
    for each in lists[1:]:
        ring.circle(each)
        assert ring.circle(lists[0]) is always
    assert len(ring._circles) == 4


@pytest.mark.parametrize("points", [0, -1, 4097, 1.5, True])
def test_a_number_of_points_that_is_none_is_refused(points: Any) -> None:
    with pytest.raises(ValueError, match="points must be a whole number from 1 to 4096"):
        Ring(points)

"""C{Metrics}: its sums agree with each other and with the pool."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import events
from kolus.backend import Backend
from kolus.errors import Draining, PoolFull
from kolus.events import (
    Admitted,
    Cancelled,
    Connected,
    ConnectFailure,
    Detached,
    Ejected,
    Event,
    Finished,
    Forgotten,
    Leased,
    Lost,
    Overdue,
    Paused,
    ProbeDue,
    Recovered,
    Rejection,
    Released,
    Resized,
    Resumed,
    Retired,
    Revoked,
    Settled,
    TimedOut,
    Why,
)
from kolus.metrics import Counts, Metrics
from kolus.policy import Policy
from kolus.pool import Pool
from kolus.testing import FakeBackend, result_of
from tests.rigs.steps import steps

HERE = Backend("tcp:a:1", name="here")
THERE = Backend("tcp:b:1", name="there")

CHANGES: list[tuple[type[Event], list[Any], dict[str, Any]]] = [
    (Connected, [], {"connects": 1}),
    (ConnectFailure, [OSError(), 1.0], {"connect_failures": 1}),
    (Recovered, [3.0], {"recoveries": 1}),
    (Leased, [True, 0.0], {"leases": 1}),
    (Released, [2.0], {"releases": 1, "held_for": 2.0, "longest_held": 2.0}),
    (Finished, [2.0], {"finishes": 1, "held_for": 2.0, "longest_held": 2.0}),
    (
        Finished,
        [2.0, True],
        {"finishes": 1, "unclean": 1, "held_for": 2.0, "longest_held": 2.0},
    ),
    (Forgotten, [2.0], {"forgotten": 1, "held_for": 2.0, "longest_held": 2.0}),
    (Revoked, [2.0], {"revoked": 1, "held_for": 2.0, "longest_held": 2.0}),
    (Detached, [2.0], {"detached": 1, "held_for": 2.0, "longest_held": 2.0}),
    (Overdue, [60.0], {"overdue": 1}),
    (Lost, [OSError()], {"closes": {"lost": 1}}),
    (Retired, [Why.OUT_OF_STEP], {"closes": {"out of step": 1}}),
    (TimedOut, [5.0], {"timeouts": 1}),
    (Cancelled, [5.0], {"cancels": 1}),
    (Rejection, [PoolFull()], {"rejections": {"PoolFull": 1}}),
    (Paused, [], {"pauses": 1}),
    (Resumed, [], {"resumes": 1}),
    (Resized, [7], {"resizes": 1}),
    (Ejected, ["it fails", 5.0], {"ejections": 1}),
    (ProbeDue, [], {"probes": 1}),
    (Admitted, ["it went well"], {"admissions": 1}),
]
"""What an event says, and what it changes."""


def told(*happened: tuple[Any, ...], backend: Backend = HERE) -> Metrics:
    """Metrics that were told of events, each given as its class and what it says."""
    metrics = Metrics()
    for kind, *facts in happened:
        metrics(kind(backend, "us", *facts))
    return metrics


@pytest.mark.parametrize(("kind", "facts", "expected"), CHANGES)
def test_an_event_changes_what_it_is_about_and_nothing_else(
    kind: type[Event], facts: list[Any], expected: dict[str, Any]
) -> None:
    counted = told((kind, *facts)).of(HERE).snapshot()
    nothing = Counts().snapshot()
    changed = {name: value for name, value in counted.items() if value != nothing[name]}
    changed.pop("open", None)
    changed.pop("held", None)
    assert changed == expected


def test_every_event_that_there_is_has_a_count_of_its_own() -> None:
    kinds = {getattr(events, name) for name in events.__all__ if name not in ("Observer", "Why")}
    assert kinds - {Event, Settled} == {kind for kind, _, _ in CHANGES}


def test_the_reasons_of_closes_and_rejections_are_told_apart() -> None:
    metrics = told(
        (Retired, Why.IDLE),
        (Retired, Why.IDLE),
        (Lost, OSError()),
        (Rejection, PoolFull()),
        (Rejection, Draining()),
        (Rejection, PoolFull()),
    )
    assert metrics.of(HERE).closes == {"idle": 2, "lost": 1}
    assert metrics.of(HERE).rejections == {"PoolFull": 2, "Draining": 1}


def test_a_lease_whose_request_was_queued_has_waited_even_if_it_took_no_time() -> None:
    metrics = told((Leased, True, 0.0, True), (Leased, True, 0.0))
    counts = metrics.of(HERE)
    assert (counts.leases, counts.waits, counts.waited) == (2, 1, 0.0)


def test_a_lease_that_was_given_at_once_did_not_wait() -> None:
    counts = told((Leased, True, 0.0), (Leased, True, 0.25), (Leased, False, 0.5)).of(HERE)
    assert (counts.leases, counts.waits) == (3, 2)
    assert (counts.waited, counts.longest_wait) == (0.75, 0.5)


def test_what_is_open_and_held_follows_from_what_was_counted() -> None:
    metrics = told(
        *[(Connected,)] * 5,
        *[(Leased, True, 0.0)] * 9,
        (Released, 1.0),
        (Finished, 2.0),
        (Forgotten, 4.0),
        (Retired, Why.FINISHED),
        (Lost, OSError()),
    )
    counts = metrics.of(HERE)
    assert (counts.open, counts.held) == (3, 6)
    assert (counts.held_for, counts.longest_held) == (7.0, 4.0)


def test_backends_are_counted_apart_and_add_up() -> None:
    metrics = told((Released, 1.0), (Lost, OSError()))
    for _ in range(2):
        metrics(Released(THERE, "them", 3.0))
        metrics(Lost(THERE, "them", OSError()))
    assert metrics.of(HERE).releases == 1
    assert metrics.of("tcp:b:1").releases == 2
    assert metrics.of(("c", 1)) == Counts()
    total = metrics.total()
    assert (total.releases, total.held_for, total.longest_held) == (3, 7.0, 3.0)
    assert total.closes == {"lost": 3}


def test_what_one_has_been_given_is_a_copy() -> None:
    metrics = told((Lost, OSError()))
    metrics.of(HERE).closes["lost"] += 1
    metrics.total().closes["lost"] += 1
    metrics.of(HERE).connects += 1
    assert metrics.of(HERE) == metrics.total() == Counts(closes=metrics.of(HERE).closes)
    assert metrics.total().closes == {"lost": 1}


@dataclass(frozen=True, slots=True)
class Novelty(Event):
    """An event of a class that nobody has heard of."""


def test_an_event_of_an_unknown_class_is_counted_under_its_name() -> None:
    assert told((Novelty,), (Novelty,)).of(HERE).others == {"Novelty": 2}


def test_a_snapshot_is_plain_and_says_which_backend() -> None:
    metrics = told((Connected,), (Retired, Why.IDLE))
    metrics(Leased(THERE, "us", True, 0.5))
    snapshot = metrics.snapshot()
    assert json.loads(json.dumps(snapshot)) == snapshot
    assert [each["backend"] for each in snapshot["backends"]] == ["here", "there"]
    assert [each["held"] for each in snapshot["backends"]] == [0, 1]
    assert snapshot["total"]["closes"] == {"idle": 1}
    assert (snapshot["total"]["open"], snapshot["total"]["waited"]) == (0, 0.5)


def test_the_sums_agree_with_the_pools_own_numbers() -> None:
    clock = Clock()
    fake = FakeBackend(clock)
    backend = Backend(fake, name="fake")
    metrics = Metrics()
    pool: Pool[Any] = Pool(clock, Protocol, policy=Policy(limit=3), observers=[metrics])
    leases = [result_of(pool.connect("us", backend)) for _ in range(3)]
    waiting = pool.connect("us", backend)
    clock.advance(0.5)
    leases.pop().release()
    leases.append(result_of(waiting))
    pool.connect("us", backend, timeout=1.0).addErrback(lambda _: None)
    clock.advance(2.0)
    leases.pop().finished()
    clock.pump([0.0] * 3)
    fake.connections[0].close()
    clock.pump([0.0] * 3)
    counts, counters = metrics.of(backend), pool.counters(backend)
    (status,) = pool.status()
    assert counts.held == len(leases) == 2
    assert counts.open == counters.connects - counters.closes
    assert counts.open == (status.idle or 0) + status.leased
    for name in ("connects", "leases", "releases", "finishes", "timeouts"):
        assert getattr(counts, name) == getattr(counters, name)
    # The first three were queued, too, and connected in no time.
    assert (counts.waits, counts.longest_wait, counts.timeouts) == (4, 0.5, 1)
    for lease in leases:
        lease.finished()
    result = pool.close()
    clock.pump([0.1] * 5)
    result_of(result)
    assert (metrics.total().held, metrics.total().open) == (0, 0)


# Backends that come and go


def gone(number: int) -> Backend:
    return Backend(("gone", number + 1), name=str(number))


def use(metrics: Metrics, backend: Backend, held: float = 1.0) -> None:
    """Tell of a connection that was made, used and closed."""
    for event in (Connected, Leased, Released, Retired):
        facts = {Leased: [True, held], Released: [held], Retired: [Why.IDLE]}.get(event, [])
        metrics(event(backend, "us", *facts))


def test_the_total_counts_backends_that_were_dropped() -> None:
    metrics = Metrics(most=3)
    everything = Counts()
    for number in range(10):
        use(metrics, gone(number), held=float(number % 7))
        everything.add(metrics.of(gone(number)))
        assert metrics.total() == everything
    assert len(metrics.snapshot()["backends"]) == 3
    assert metrics.total().longest_held == 6.0
    assert metrics.snapshot()["total"] == everything.snapshot()


def test_the_number_of_dropped_backends_can_be_seen() -> None:
    metrics = Metrics(most=3)
    for number in range(3):
        use(metrics, gone(number))
    assert metrics.dropped == metrics.snapshot()["dropped"] == 0
    for number in range(3, 5):
        use(metrics, gone(number))
    assert metrics.dropped == metrics.snapshot()["dropped"] == 2


def test_those_without_events_for_longest_are_dropped() -> None:
    metrics = Metrics(most=3)
    for number in (0, 1, 2, 0, 3):
        use(metrics, gone(number))
    names = [each["backend"] for each in metrics.snapshot()["backends"]]
    assert names == ["2", "0", "3"]
    assert metrics.of(gone(0)).connects == 2
    assert metrics.of(gone(1)) == Counts()
    use(metrics, gone(1))
    assert metrics.of(gone(1)).connects == 1
    assert metrics.total().connects == 6


@pytest.mark.parametrize("use_it", [Connected, Leased], ids=["connections", "leases"])
def test_a_backend_in_use_is_never_dropped(use_it: type[Event]) -> None:
    metrics = Metrics(most=3)
    facts = [True, 0.0] if use_it is Leased else []
    for number in range(5):
        metrics(use_it(gone(number), "us", *facts))
    for number in range(100, 200):
        use(metrics, gone(number))
    counts = [metrics.of(gone(number)) for number in range(5)]
    assert all(each.open or each.held for each in counts)
    assert len(metrics.snapshot()["backends"]) <= 3 + 2 * 5
    end = Retired if use_it is Connected else Released
    for number in range(5):
        metrics(end(gone(number), "us", Why.IDLE if end is Retired else 1.0))
        assert (metrics.of(gone(number)).open, metrics.of(gone(number)).held) == (0, 0)
    for number in range(200, 210):
        use(metrics, gone(number))
    assert len(metrics.snapshot()["backends"]) == 3


def test_metrics_that_began_late_drop_what_they_did_not_see_begin() -> None:
    metrics = Metrics(most=3)
    for number in range(50):
        metrics(Released(gone(number), "us", 1.0))
        metrics(Retired(gone(number), "us", Why.IDLE))
    assert len(metrics.snapshot()["backends"]) == 3
    assert metrics.total().releases == 50


def test_a_thousand_are_kept_unless_told_otherwise() -> None:
    metrics = Metrics()
    for number in range(1001):
        use(metrics, Backend(("10.0.0.1", number + 1)))
    assert len(metrics.snapshot()["backends"]) == 1000


def test_an_event_costs_no_more_with_many_backends_in_use() -> None:
    costs = []
    for count in (10, 1000):
        metrics = Metrics(most=5)
        for number in range(count):
            metrics(Connected(gone(number), "us"))
        use(metrics, gone(count))  # what is there now is to be counted, not how it came
        costs.append(steps(lambda metrics=metrics: use(metrics, HERE)))  # type: ignore[misc]
    few, many = costs
    assert many < 2 * few, (few, many)


@pytest.mark.parametrize("most", [0, -1, 1.5, None, True, "3"])
def test_what_is_no_number_of_backends_is_refused(most: Any) -> None:
    with pytest.raises(ValueError, match="most must be a whole number of at least 1"):
        Metrics(most=most)

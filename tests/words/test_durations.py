"""C{Durations}: what it measures, and what it keeps."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, Policy, Pool
from kolus.durations import Durations
from kolus.events import Leased
from kolus.support import Histogram
from kolus.testing import FakeBackend, result_of


def test_waits_leases_and_connects_are_measured() -> None:
    clock = Clock()
    fake = FakeBackend(clock)
    fake.accept(after=0.2, always=True)
    backend = Backend(fake)
    durations = Durations()
    pool: Pool[Any] = Pool(clock, Protocol, policy=Policy(limit=1), observers=[durations])
    asked = pool.connect("us", backend)
    clock.advance(0.2)
    lease = result_of(asked)
    second = pool.connect("us", backend)
    clock.advance(3)
    lease.release()
    result_of(second).finished()
    its = durations.of(backend)
    assert (its.connect.count, its.connect.sum) == (1, pytest.approx(0.2))
    assert (its.wait.count, its.wait.sum) == (2, pytest.approx(3.2))
    assert (its.hold.count, its.hold.sum) == (2, pytest.approx(3.0))
    closed = pool.close(0)
    clock.pump([0, 0])
    result_of(closed)


def test_a_value_counts_up_to_its_bound_and_no_lower() -> None:
    histogram = Histogram((1.0, 2.0))
    for each in (0.0, 1.0, 1.5, 2.0, 99.0):
        histogram.add(each)
    assert histogram.cumulative() == [("1.0", 2), ("2.0", 4), ("+Inf", 5)]


def test_no_more_backends_are_kept_than_so_many() -> None:
    durations = Durations(most=2)
    backends = [Backend(f"tcp:192.0.2.{each}:1") for each in range(1, 4)]
    for each in (*backends[:2], backends[0], backends[2]):
        durations(Leased(each, "us", False, 0.0))
    assert [backend for backend, _ in durations] == [backends[0], backends[2]]
    assert durations.of(backends[1]).wait.count == 0


@pytest.mark.parametrize("observer", [None, "no", 7])
def test_what_cannot_be_called_is_no_observer(observer: Any) -> None:
    pool: Pool[Any] = Pool(Clock(), Protocol)
    with pytest.raises(TypeError, match="an observer must be callable"):
        pool.add_observer(observer)

"""A request that leaves the queue because nobody wants it any more is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from kolus import LeaseTimeout
from kolus.events import Cancelled, Leased
from kolus.metrics import Metrics
from kolus.testing import result_of
from kolus.testing.results import failure_of
from tests.rigs.groups import Teller
from tests.rigs.idents import Idents

WAYS: dict[str, Callable[..., Deferred[Any]]] = {
    "connect": lambda rig, **how: rig.pool.connect("u", rig.backend, **how),
    "select": lambda rig, **how: rig.pool.select("u", [rig.backend], **how),
    "group": lambda rig, **how: rig.group.connect("u", **how),
}


class Counting(Idents):
    """Has a limit of one, a group of its backend, and metrics."""

    def __init__(self, **policy: Any) -> None:
        super().__init__(None, **({"limit": 1} | policy))
        self.group = self.pool.group([self.backend])
        self.metrics = Metrics()
        self.pool._observers.append(self.metrics)

    def cancels(self) -> tuple[int, int, int]:
        """As the pool, its backend, and the metrics count them."""
        counts = self.metrics.of(self.backend)
        return (
            self.pool.counters().cancels,
            self.pool.counters(self.backend).cancels,
            counts.cancels,
        )


@pytest.fixture(params=[None, 1], ids=["exclusive", "shared"])
def rig(request: pytest.FixtureRequest) -> Counting:
    return Counting(slots=request.param)


@pytest.mark.parametrize("way", WAYS)
def test_a_request_that_its_caller_cancels_is_counted(rig: Counting, way: str) -> None:
    held = rig.lease("u")
    asked = WAYS[way](rig)
    rig.clock.advance(2)
    asked.cancel()
    failure_of(CancelledError, asked)
    assert rig.cancels() == (1, 1, 1)
    assert [each.waited for each in rig.events if isinstance(each, Cancelled)] == [2.0]
    held.release()
    rig.end()


@pytest.mark.parametrize("way", WAYS)
def test_a_request_that_ends_with_its_owner_is_counted(rig: Counting, way: str) -> None:
    held, owner = rig.lease("u"), Deferred[None]()
    asked = WAYS[way](rig, owner=owner)
    owner.callback(None)
    failure_of(CancelledError, asked)
    assert rig.cancels() == (1, 1, 1)
    held.release()
    rig.end()


@pytest.mark.parametrize("way", WAYS)
def test_cancelling_what_is_answered_already_counts_nothing(rig: Counting, way: str) -> None:
    served = WAYS[way](rig)
    served.cancel()
    late = WAYS[way](rig, timeout=1.0)
    rig.clock.advance(1)
    late.cancel()
    failure_of(LeaseTimeout, late)
    assert rig.cancels() == (0, 0, 0)
    result_of(served).release()
    rig.end()


def test_a_request_that_nobody_placed_yet_is_counted_nowhere(rig: Counting) -> None:
    asked = rig.pool.group(Teller()).connect("u")
    asked.cancel()
    failure_of(CancelledError, asked)
    assert rig.pool.counters().cancels == 0
    rig.end()


@pytest.mark.parametrize("way", WAYS)
def test_a_request_that_is_served_in_the_instant_it_was_queued_has_waited(
    rig: Counting, way: str
) -> None:
    first = result_of(WAYS[way](rig))  # it needs a connection, which is there in no time
    first.release()
    at_once = result_of(WAYS[way](rig))
    queued = WAYS[way](rig)
    at_once.release()
    result_of(queued).release()
    told = [(each.queued, each.waited) for each in rig.events if isinstance(each, Leased)]
    assert told == [(True, 0.0), (False, 0.0), (True, 0.0)]
    assert rig.metrics.of(rig.backend).waits == 2
    rig.end()

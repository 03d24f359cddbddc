"""The garbage collector of a daemon: what it looks at, and how often."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

from kolus.daemon.collector import calm_collector


class Starting:
    """A reactor that has not started yet."""

    def __init__(self) -> None:
        self.triggers: list[tuple[str, str, Callable[[], object]]] = []

    def addSystemEventTrigger(self, phase: str, event: str, call: Callable[[], object]) -> None:
        self.triggers.append((phase, event, call))


@pytest.fixture(autouse=True)
def threshold() -> Iterator[int]:
    before = gc.get_threshold()
    yield before[0]
    gc.set_threshold(*before)


def test_what_is_there_when_the_reactor_has_started_is_not_collected_any_more() -> None:
    reactor = Starting()
    calm_collector(reactor)
    ((phase, event, call),) = reactor.triggers
    assert (phase, event) == ("after", "startup")
    assert any(each is reactor for each in gc.get_objects())
    call()
    assert not any(each is reactor for each in gc.get_objects())


def test_no_look_at_what_is_young_is_at_more_than_a_few_looks_at_what_is_new() -> None:
    reactor = Starting()
    calm_collector(reactor)
    reactor.triggers[0][2]()
    new, young, old = gc.get_threshold()
    assert new * (young + 1) <= 50_000
    assert new * young * old < 1_000_000  # what has left with its backends does not stay for ever


def test_new_objects_are_collected_all_the_same_but_less_often(threshold: int) -> None:
    reactor = Starting()
    calm_collector(reactor)
    reactor.triggers[0][2]()
    assert gc.isenabled()
    assert gc.get_threshold()[0] > threshold
    circle: list[object] = []
    circle.append(circle)
    del circle
    assert gc.collect() > 0

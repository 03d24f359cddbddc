"""C{WeightedSource}: weights that are set by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.task import Clock

from kolus import Backend
from kolus.sources import SourceSwitch, StaticSource, WeightedSource
from kolus.testing import FakeBackend

ONE, TWO = Backend("tcp:192.0.2.1:7"), Backend("tcp:192.0.2.2:7", weight=2)


def started(source: Any) -> tuple[WeightedSource, list[list[float]]]:
    told: list[list[float]] = []

    def listener(backends: Sequence[Backend]) -> None:
        told.append([each.weight for each in backends])

    weighted = WeightedSource(source)
    weighted.start(listener)
    return weighted, told


def test_a_weight_is_told_at_once_and_the_others_stay() -> None:
    weighted, told = started(StaticSource([ONE, TWO]))
    weighted.set_weight(ONE, 5)
    assert told == [[1, 2], [5, 2]]


def test_a_weight_stays_over_another_list_until_the_backend_leaves_it() -> None:
    switch = SourceSwitch(StaticSource([ONE, TWO]))
    weighted, told = started(switch)
    weighted.set_weight(ONE, 5)
    switch.switch(StaticSource([TWO, ONE]))
    switch.switch(StaticSource([TWO]))
    switch.switch(StaticSource([TWO, ONE]))
    assert told[2:] == [[2, 5], [2], [2, 1]]


@pytest.mark.parametrize("weight", [0, -1, 1e9, float("nan")])
def test_a_wrong_weight_changes_nothing(weight: float) -> None:
    weighted, told = started(StaticSource([ONE, TWO]))
    with pytest.raises(ValueError, match="weight must be"):
        weighted.set_weight(ONE, weight)
    assert told == [[1, 2]]


def test_a_backend_made_from_an_object_keeps_its_weight() -> None:
    backend = Backend(FakeBackend(Clock()))
    weighted, _ = started(StaticSource([backend]))
    with pytest.raises(ValueError, match="made from an object"):
        weighted.set_weight(backend, 2)


def test_a_source_that_is_stopped_tells_nothing() -> None:
    weighted, told = started(StaticSource([ONE]))
    weighted.stop()
    weighted.set_weight(ONE, 5)
    assert told == [[1]]

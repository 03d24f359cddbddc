"""A source that may be replaced by another."""

from __future__ import annotations

from kolus.backend import Backend
from kolus.sources import SourceSwitch
from tests.rigs.staging import FakeSource

ONE, TWO = Backend("tcp:10.0.0.1:1"), Backend("tcp:10.0.0.2:1")


def test_the_lists_of_the_next_source_take_the_place_of_the_last() -> None:
    first, second, lists = FakeSource(ONE), FakeSource(), []
    switch = SourceSwitch(first)
    switch.start(lists.append)
    switch.switch(second)
    assert (first.started, second.started) == (False, True)
    assert lists == [(ONE,)]  # until the next source tells one
    second.tell(TWO)
    assert lists == [(ONE,), (TWO,)]
    switch.stop()
    assert not second.started


def test_a_source_that_is_replaced_before_the_start_is_never_started() -> None:
    first, second, lists = FakeSource(ONE), FakeSource(TWO), []
    switch = SourceSwitch(first)
    switch.switch(second)
    assert not second.started
    switch.start(lists.append)
    assert (first.started, lists) == (False, [(TWO,)])

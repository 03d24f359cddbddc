"""C{after_fork}, tested with real children, which report through a pipe."""

from __future__ import annotations

import gc
import os
import select
import signal
from collections.abc import Callable

import pytest
from twisted.logger import LogEvent, globalLogPublisher

from kolus.support import after_fork
from tests.rigs.patience import PATIENCE

"""Seconds that a child has."""

pytestmark = [
    # From 3.12 on Python warns of any thread, such as pytest's own watchdog.
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]


def in_child(report: Callable[[], str]) -> str:
    """What C{report} returns in a forked child, or raises; the child does nothing else."""
    end, childs_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(childs_end, report().encode())
        except BaseException as error:
            os.write(childs_end, repr(error).encode())
        finally:
            os._exit(0)
    os.close(childs_end)
    try:
        is_ready, _, _ = select.select([end], [], [], PATIENCE)
        assert is_ready, "the child says nothing"
        return os.read(end, 10_000).decode()
    finally:
        os.close(end)
        os.kill(child, signal.SIGKILL)  # it has said all; and if not, it hangs
        os.waitpid(child, 0)


class Told:
    """Notes in which process it was told.

    @ivar by: the processes.
    """

    def __init__(self, notes: list[str] | None = None, name: str = "") -> None:
        self.by: list[int] = []
        self.notes = notes
        self.name = name

    def forked(self) -> None:
        self.by.append(os.getpid())
        if self.notes is not None:
            self.notes.append(self.name)


class Equal(Told):
    """Equal to all others of its kind, and without a hash."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equal)


class Broken:
    def forked(self) -> None:
        raise RuntimeError("forked is broken")


def test_what_asked_for_it_is_told_in_the_child_before_fork_returns() -> None:
    told = Told()
    after_fork(told)
    assert in_child(lambda: str(told.by == [os.getpid()])) == "True"


def test_the_parent_is_told_nothing() -> None:
    told = Told()
    after_fork(told)
    in_child(str)
    assert told.by == []


def test_a_childs_child_is_told_again() -> None:
    told = Told()
    after_fork(told)
    assert in_child(lambda: in_child(lambda: str(len(told.by)))) == "2"


def test_what_registers_in_a_child_is_told_in_that_childs_children() -> None:
    def register() -> str:
        told = Told()
        after_fork(told)
        return in_child(lambda: str(len(told.by)))

    assert in_child(register) == "1"


def test_they_are_told_in_the_order_they_asked_once_each() -> None:
    notes: list[str] = []
    told = [Told(notes, name) for name in "abc"]
    for each in [*told, told[0]]:
        after_fork(each)
    assert in_child(lambda: " ".join(notes)) == "a b c"


def test_two_that_are_equal_are_both_told() -> None:
    one, other = Equal(), Equal()
    after_fork(one)
    after_fork(other)
    assert in_child(lambda: f"{len(one.by)} {len(other.by)}") == "1 1"


def test_one_that_raises_is_logged_and_keeps_nobody_from_being_told() -> None:
    before, broken, after = Told(), Broken(), Told()
    for each in (before, broken, after):
        after_fork(each)
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        report = in_child(
            lambda: f"{len(before.by)} {len(after.by)} {events[0]['log_failure'].value}"
        )
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert report == "1 1 forked is broken"


def test_what_is_garbage_is_not_kept_and_not_told() -> None:
    notes: list[str] = []
    kept, dropped, ring = Told(notes, "kept"), Told(notes, "dropped"), Told(notes, "ring")
    for each in (kept, dropped, ring):
        after_fork(each)
    ring.ring = ring  # type: ignore[attr-defined]
    del each, dropped, ring
    gc.collect()
    assert in_child(lambda: " ".join(notes)) == "kept"

"""Rule 27: one warning if the limits need most of the process's descriptors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from twisted.logger import LogEvent

from kolus.support import DescriptorWatch, descriptors
from kolus.support.descriptors import soft_limit
from tests.rigs.patience import PATIENCE

CHECKOUT = Path(__file__).parents[2]


def messages(events: list[LogEvent]) -> list[str]:
    return [each["log_format"].format(**each) for each in events]


def test_limits_beyond_four_fifths_of_the_descriptors_are_warned_of(
    log_events: list[LogEvent],
) -> None:
    watch = DescriptorWatch(lambda: 100)
    watch.change(0, 80)
    assert log_events == []
    watch.change(0, 1)
    assert messages(log_events) == [
        "the limits of this pool's backends add up to 81 connections, which is more than 80 % of "
        "the 100 descriptors that this process may have open; raise that number (ulimit -n) or "
        "lower the limits"
    ]


def test_too_few_descriptors_are_warned_of_once(log_events: list[LogEvent]) -> None:
    watch = DescriptorWatch(lambda: 100)
    for _ in range(20):
        watch.change(0, 10)
    watch.change(10, 1)
    watch.change(1, 1000)
    assert len(log_events) == 1


def test_a_limit_that_is_raised_counts_as_it_is_now(log_events: list[LogEvent]) -> None:
    watch = DescriptorWatch(lambda: 100)
    watch.change(0, 40)
    watch.change(0, 40)
    watch.change(40, 30)
    watch.change(30, 40)
    assert (watch.total, log_events) == (80, [])
    watch.change(40, 41)
    assert (watch.total, len(log_events)) == (81, 1)


def test_a_limit_that_is_lowered_is_no_reason_to_warn(log_events: list[LogEvent]) -> None:
    soft = 1000
    watch = DescriptorWatch(lambda: soft)
    watch.change(0, 100)
    soft = 10
    watch.change(100, 90)
    assert log_events == []


def test_a_process_that_raises_its_limit_is_measured_by_the_new_one(
    log_events: list[LogEvent],
) -> None:
    soft = 100
    watch = DescriptorWatch(lambda: soft)
    watch.change(0, 80)
    soft = 1000
    watch.change(0, 80)
    assert log_events == []


def test_ten_thousand_backends_are_added_one_by_one() -> None:
    watch = DescriptorWatch(lambda: None)
    for _ in range(10_000):
        watch.change(0, 10)
    assert watch.total == 100_000


def test_where_nothing_limits_descriptors_nothing_is_warned_of(log_events: list[LogEvent]) -> None:
    DescriptorWatch(lambda: None).change(0, 10**9)
    assert log_events == []


class Resource:
    """The module C{resource} of a process with such a limit."""

    RLIMIT_NOFILE = 7
    RLIM_INFINITY = -1

    def __init__(self, soft: int) -> None:
        self._soft = soft

    def getrlimit(self, which: int) -> tuple[int, int]:
        assert which == self.RLIMIT_NOFILE
        return self._soft, 4096


@pytest.mark.parametrize(
    ("module", "limit"), [(Resource(256), 256), (Resource(-1), None), (None, None)]
)
def test_the_limit_is_what_the_process_has_and_none_where_it_has_none(
    module: object, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "resource", module)
    assert soft_limit() == limit


PROGRAM = """
import resource, sys
from twisted.logger import globalLogBeginner, textFileLogObserver
from kolus.support.descriptors import DescriptorWatch

globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)
resource.setrlimit(resource.RLIMIT_NOFILE, (50, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
watch = DescriptorWatch()
for each in range(10):
    print(each)
    watch.change(0, 10)
"""


def test_a_process_with_a_low_limit_is_warned() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    before, warning, after = ran.stdout.partition("the limits of this pool's backends")
    assert before.splitlines()[:5] == ["0", "1", "2", "3", "4"]
    assert warning
    assert after.startswith(" add up to 50 connections, which is more than 80 % of the 50 ")
    assert "the limits of" not in after

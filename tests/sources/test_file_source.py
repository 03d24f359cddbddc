"""C{FileSource} on a clock: the backends, log lines about errors, and when the file is read again.

Changes are found by polling here; C{tests/net} tests inotify.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent

from kolus.backend import Backend
from kolus.sources import FileSource
from tests.conftest import LoggedFailures

ONE = '[[backend]]\nendpoint = "tcp:10.0.0.7:6379"\n'
OTHER = '[[backend]]\nendpoint = "tcp:10.0.0.8:6379"\n'
A, B = Backend("tcp:10.0.0.7:6379"), Backend("tcp:10.0.0.8:6379")


class Followed:
    """A started source, its file, and what was told and logged."""

    def __init__(self, path: Path, events: list[LogEvent]) -> None:
        self.path = path
        self.clock = Clock()
        self.told: list[Sequence[Backend]] = []
        self.source = FileSource(self.clock, path, poll=2.0)
        self._events = events
        self._writes = 0

    def start(self) -> None:
        self.source.start(self.told.append)

    def write(self, text: str | bytes) -> None:
        """Write it, with a time that no file had before, however coarse the file system's is."""
        self.path.write_bytes(text.encode() if isinstance(text, str) else text)
        self.touch()

    def touch(self) -> None:
        self._writes += 1
        os.utime(self.path, (self._writes, self._writes))

    def wait(self) -> None:
        """Let a change be noticed, and settle."""
        self.clock.advance(2.0)
        self.clock.advance(0.05)

    @property
    def complaints(self) -> list[str]:
        return [
            formatEvent(each)
            for each in self._events
            if each["log_namespace"] == "kolus.sources.file" and each["log_level"].name == "warn"
        ]


Follow = Callable[..., Followed]


@pytest.fixture
def follow(tmp_path: Path, log_events: list[LogEvent]) -> Iterator[Follow]:
    """Starts to follow a file of that content, which is missing if it is C{None}."""
    started: list[Followed] = []

    def begin(text: str | bytes | None = ONE, name: str = "backends.toml") -> Followed:
        followed = Followed(tmp_path / name, log_events)
        if text is not None:
            followed.write(text)
        followed.start()
        started.append(followed)
        return followed

    yield begin
    for each in started:
        each.source.stop()
        assert each.clock.getDelayedCalls() == []


# What a file may say


def test_the_list_is_told_at_once(follow: Follow) -> None:
    assert follow(ONE + OTHER).told == [(A, B)]


def test_an_entry_says_all_that_a_backend_has(follow: Follow) -> None:
    followed = follow(
        '[[backend]]\nhost = "10.0.0.7"\nport = 6379\nname = "first"\n'
        'limit = 5\nweight = 2.5\nzone = "near"\n'
    )
    (backend,) = followed.told[0]
    assert backend == A
    assert (backend.name, backend.limit, backend.weight, backend.zone) == ("first", 5, 2.5, "near")


def test_json_says_the_same_as_toml(follow: Follow) -> None:
    entries = [{"endpoint": "tcp:10.0.0.7:6379", "limit": 5}, {"host": "10.0.0.8", "port": 6379}]
    followed = follow(json.dumps({"backend": entries}), "backends.JSON")
    assert followed.told == [(A, B)]
    assert followed.told[0][0].limit == 5


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("backends.toml", f"{ONE}weight = 1{'0' * 5000}\n", ", line 3: ValueError: Exceeds"),
        ("backends.json", '{"backend": [{"host": "a", "host": "b"}]}', ": the key 'host' is given"),
    ],
)
def test_a_file_that_cannot_be_decoded_is_named_and_keeps_the_list(
    follow: Follow, name: str, text: str, complaint: str
) -> None:
    first = json.dumps({"backend": [{"endpoint": A.endpoint}]}) if "json" in name else ONE
    followed = follow(first, name)
    followed.write(text)
    followed.wait()
    assert followed.told == [(A,)]
    (told,) = followed.complaints
    assert told.startswith(f"{followed.path}{complaint}")
    assert told.endswith("the last good list stays")


def test_a_listener_that_raises_is_logged_and_told_the_same_list_again(
    tmp_path: Path, logged_failures: LoggedFailures
) -> None:
    path, clock = tmp_path / "backends.toml", Clock()
    path.write_text(ONE)
    told: list[Sequence[Backend]] = []

    def listen(backends: Sequence[Backend]) -> None:
        told.append(backends)
        if len(told) < 3:
            raise ZeroDivisionError

    source = FileSource(clock, path, poll=2.0)
    source.start(listen)
    clock.pump([2.0, 0.05] * 5)
    assert told == [(A,)] * 3
    assert len(logged_failures.flush(ZeroDivisionError)) == 2
    source.stop()


@pytest.mark.parametrize("path", ["backends", "backends.yaml", "toml", ".json"])
def test_another_suffix_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"ends in \.toml or \.json, not"):
        FileSource(Clock(), path)


@pytest.mark.parametrize("poll", [0, -1, float("nan"), float("inf"), True, None, "2", 10**400])
def test_a_time_between_polls_that_is_none_is_refused(poll: Any) -> None:
    with pytest.raises(ValueError, match="poll must be a number of seconds above 0"):
        FileSource(Clock(), "backends.toml", poll=poll)


def test_a_relative_path_is_from_the_folder_at_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = FileSource(Clock(), "backends.toml")
    monkeypatch.chdir("/")
    assert source.path == str(tmp_path / "backends.toml")


# Mistakes in it


def test_a_mistake_is_told_with_file_and_line_and_the_last_good_list_stays(follow: Follow) -> None:
    followed = follow()
    followed.write(ONE + OTHER + "speed = 3\n")
    followed.wait()
    assert followed.complaints == [
        f"{followed.path}, line 5: unknown key 'speed'; expected one of endpoint, host, limit, "
        "name, port, weight, zone; the last good list stays"
    ]
    assert followed.told == [(A,)]


def test_a_file_that_is_wrong_from_the_beginning_is_told_and_watched(follow: Follow) -> None:
    followed = follow("oops")
    (complaint,) = followed.complaints
    assert "line 1" in complaint
    assert complaint.endswith("; there is no list yet")
    followed.write(ONE)
    followed.wait()
    assert followed.told == [(A,)]


def test_a_missing_file_is_told_and_waited_for(follow: Follow) -> None:
    followed = follow(None)
    assert followed.complaints == [
        f"{followed.path} cannot be read: No such file or directory; there is no list yet"
    ]
    followed.write(ONE)
    followed.wait()
    assert followed.told == [(A,)]


def test_a_file_that_vanishes_is_told_and_the_last_good_list_stays(follow: Follow) -> None:
    followed = follow()
    followed.path.unlink()
    followed.wait()
    assert followed.complaints == [
        f"{followed.path} cannot be read: No such file or directory; the last good list stays"
    ]
    assert followed.told == [(A,)]


def test_a_folder_in_its_place_is_told(follow: Follow) -> None:
    followed = follow()
    followed.path.unlink()
    followed.path.mkdir()
    followed.wait()
    assert "cannot be read" in followed.complaints[0]


def test_a_pipe_in_its_place_is_told_and_not_waited_for(follow: Follow) -> None:
    followed = follow()
    followed.path.unlink()
    os.mkfifo(followed.path)
    followed.wait()
    assert "it is no regular file" in followed.complaints[0]


def test_a_file_that_could_not_be_read_is_read_at_the_next_poll_though_it_is_the_same(
    follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, flags: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        followed = follow()
    assert "Too many open files" in followed.complaints[0]
    followed.wait()
    assert followed.told == [(A,)]


def test_the_same_complaint_is_made_once(follow: Follow) -> None:
    followed = follow("oops")
    for _ in range(3):
        followed.touch()
        followed.wait()
    assert len(followed.complaints) == 1


def test_another_complaint_is_made_too(follow: Follow) -> None:
    followed = follow("oops")
    followed.write("\noops")
    followed.wait()
    assert len(followed.complaints) == 2


def test_a_complaint_is_made_again_after_the_file_was_good(follow: Follow) -> None:
    followed = follow("oops")
    for text in (ONE, "oops"):
        followed.write(text)
        followed.wait()
    assert len(followed.complaints) == 2


def test_it_is_told_that_a_file_is_good_again(follow: Follow, log_events: list[LogEvent]) -> None:
    followed = follow("oops")
    followed.write(ONE)
    followed.wait()
    assert f"{followed.path} is usable again" in [formatEvent(each) for each in log_events]


# Changes


def test_another_list_is_told(follow: Follow) -> None:
    followed = follow()
    followed.write(ONE + OTHER)
    followed.wait()
    assert followed.told == [(A,), (A, B)]


@pytest.mark.parametrize("what", ['name = "x"', "limit = 3", "weight = 2", 'zone = "far"'])
def test_another_value_of_the_same_backend_is_told(follow: Follow, what: str) -> None:
    followed = follow()
    followed.write(ONE + what)
    followed.wait()
    assert len(followed.told) == 2


def test_another_order_is_told_since_a_balancer_may_go_by_it(follow: Follow) -> None:
    followed = follow(ONE + OTHER)
    followed.write(OTHER + ONE)
    followed.wait()
    assert followed.told == [(A, B), (B, A)]


def test_another_text_for_the_same_list_is_not_told(follow: Follow) -> None:
    followed = follow()
    followed.write(f"# the same\n{ONE}")
    followed.wait()
    assert followed.told == [(A,)]


def test_the_list_as_it_was_before_a_mistake_is_not_told_again(follow: Follow) -> None:
    followed = follow()
    for text in ("oops", ONE):
        followed.write(text)
        followed.wait()
    assert followed.told == [(A,)]


def test_a_file_of_the_same_size_and_time_in_its_place_is_read(follow: Follow) -> None:
    followed = follow()
    other = followed.path.with_suffix(".new")
    other.write_text(OTHER)
    os.utime(other, ns=(0, followed.path.stat().st_mtime_ns))
    other.replace(followed.path)
    followed.wait()
    assert followed.told == [(A,), (B,)]


def test_a_file_that_is_overwritten_with_its_size_and_time_kept_is_read(follow: Follow) -> None:
    followed = follow()
    before = followed.path.stat()
    while followed.path.stat().st_ctime_ns == before.st_ctime_ns:  # its clock may be coarse
        followed.path.write_text(OTHER)
        os.utime(followed.path, ns=(0, before.st_mtime_ns))
    followed.wait()
    assert followed.told == [(A,), (B,)]


def test_a_change_is_noticed_at_the_next_poll(follow: Follow) -> None:
    followed = follow()
    followed.write(OTHER)
    followed.clock.advance(1.9)
    followed.clock.advance(0.05)
    assert len(followed.told) == 1
    followed.clock.advance(0.05)
    followed.clock.advance(0.05)
    assert len(followed.told) == 2


def test_a_file_is_read_once_it_has_not_changed_for_a_moment(follow: Follow) -> None:
    followed = follow()
    followed.write('[[backend]]\nendpoint = "tcp:')
    followed.clock.advance(2.0)
    followed.write(ONE)
    followed.clock.advance(0.05)
    followed.write(ONE + OTHER)
    followed.clock.advance(0.05)
    assert followed.complaints == []
    assert followed.told == [(A,)]
    followed.clock.advance(0.05)
    assert followed.told == [(A,), (A, B)]


# Stopping


def test_nothing_is_left_after_a_stop_amid_a_change(follow: Follow) -> None:
    followed = follow()
    followed.write(OTHER)
    followed.clock.advance(2.0)
    assert len(followed.clock.getDelayedCalls()) == 2
    followed.source.stop()
    assert followed.clock.getDelayedCalls() == []
    followed.wait()
    assert followed.told == [(A,)]


def test_one_that_is_started_again_tells_the_list_again(follow: Follow) -> None:
    followed = follow()
    followed.source.stop()
    followed.source.stop()
    followed.start()
    assert followed.told == [(A,), (A,)]


def test_a_listener_may_stop_the_source(tmp_path: Path) -> None:
    (tmp_path / "backends.toml").write_text(ONE)
    clock = Clock()
    source = FileSource(clock, tmp_path / "backends.toml")
    source.start(lambda backends: source.stop())
    assert clock.getDelayedCalls() == []


def test_only_the_endpoints_that_the_file_has_are_remembered_as_good(
    tmp_path: Path, log_events: list[LogEvent]
) -> None:
    followed = Followed(tmp_path / "backends.toml", log_events)
    for number in range(20):
        followed.write(f'[[backend]]\nendpoint = "tcp:10.0.0.7:{number + 1}"\n')
        followed.wait() if number else followed.start()
    assert len(followed.told) == 20
    assert len(followed.source._checked) == 1

"""The log goes on whether or not anybody reads it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from twisted.logger import LogEvent

from kolus.daemon.log_output import LogOutput
from tests.rigs.staging import messages


def test_lines_are_appended_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    output = LogOutput(str(path))
    output.write("one\n")
    output.write("t\udcffwo\n")
    first, second, third = path.read_text().splitlines()
    assert first == "before"
    assert second.endswith("one")
    assert "t\\udcffwo" in third


def test_a_file_that_was_moved_away_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = LogOutput("log")
    output.write("old\n")
    os.rename("log", "moved")
    output.write("still old\n")
    monkeypatch.chdir("/")
    output.reopen()
    output.write("new\n")
    assert len((tmp_path / "moved").read_text().splitlines()) == 2
    assert (tmp_path / "log").read_text().endswith("new\n")


def test_a_file_that_cannot_be_opened_anew_is_told_of_and_the_old_one_goes_on(
    tmp_path: Path, log_events: list[LogEvent]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    output = LogOutput(str(folder / "log"))
    os.rename(folder, tmp_path / "moved")
    output.reopen()
    (told,) = messages(log_events)
    assert told.endswith(f"cannot open {folder / 'log'}: No such file or directory")
    output.write("goes on\n")
    assert "goes on" in (tmp_path / "moved" / "log").read_text()


def test_what_nobody_reads_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    output = LogOutput(os.devnull)
    monkeypatch.setattr(output, "_descriptor", writing)
    for _ in range(3000):
        output.write("x" * 100 + "\n")
    dropped = output.dropped
    assert 0 < dropped < 3000
    os.read(reading, 1 << 20)
    output.write("after\n")
    said, last = os.read(reading, 1 << 20).decode().splitlines()[-2:]
    assert said == f"{dropped} lines of the log were dropped: nobody took them in time"
    assert last.endswith("after")
    assert output.dropped == 0
    os.close(reading)
    output.write("nobody is there\n")
    assert output.dropped == 1
    os.close(writing)


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    output = LogOutput("/dev/full")
    output.write("one\n")
    assert output.dropped == 1


def test_a_line_for_which_there_was_no_room_is_not_joined_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, writing = os.pipe()
    output = LogOutput(os.devnull)
    monkeypatch.setattr(output, "_descriptor", writing)
    room = 16 * 4096  # of a pipe, where four pages are the most that is written at once
    output.write("x" * (room * 2) + "\n")
    assert output.dropped == 1
    got = os.read(reading, room * 2)
    output.write("next\n")
    got += os.read(reading, room)
    torn, told, following = got.decode().splitlines()
    assert set(torn) == {"x"}
    assert told.startswith("1 lines of the log were dropped")
    assert following == "next"
    os.close(reading)
    os.close(writing)

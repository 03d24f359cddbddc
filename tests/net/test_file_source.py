"""C{FileSource} on a real reactor: inotify finds every way of replacing a file.

The source polls only once an hour here, so only inotify can have found a change. One test disables
inotify.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import inotify, reactor
from twisted.logger import LogEvent, formatEvent

from kolus.backend import Backend
from kolus.sources import FileSource
from tests.net.asking import until

HOUR = 3600.0


def entry(number: int) -> str:
    return f'[[backend]]\nendpoint = "tcp:10.0.0.{number}:6379"\n'


def backends(*numbers: int) -> tuple[Backend, ...]:
    return tuple(Backend(f"tcp:10.0.0.{number}:6379") for number in numbers)


def is_watching() -> bool:
    return any(isinstance(each, inotify.INotify) for each in reactor.getReaders())


class Followed:
    """A started source and what it told."""

    def __init__(self, path: Path, poll: float) -> None:
        self.told: list[Sequence[Backend]] = []
        self.source = FileSource(reactor, path, poll=poll)
        self.source.start(self.told.append)

    async def tells(self, *numbers: int) -> None:
        """Wait until these backends, and no others, are what was told last."""
        await until(reactor, lambda: self.told and self.told[-1] == backends(*numbers))


Follow = Callable[..., Followed]


@pytest.fixture
def follow() -> Iterator[Follow]:
    started: list[Followed] = []

    def begin(path: Path, poll: float = HOUR) -> Followed:
        started.append(Followed(path, poll))
        return started[-1]

    yield begin
    for each in started:
        each.source.stop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "backends.toml"
    path.write_text(entry(1))
    return path


@pytest_twisted.ensureDeferred
async def test_an_edit_in_place_is_told(follow: Follow, path: Path) -> None:
    followed = follow(path)
    path.write_text(entry(2))
    await followed.tells(2)


@pytest_twisted.ensureDeferred
async def test_a_file_renamed_over_it_is_told_each_time(follow: Follow, path: Path) -> None:
    followed = follow(path)
    for number in (2, 3):
        new = path.with_suffix(".new")
        new.write_text(entry(number))
        new.replace(path)
        await followed.tells(number)


@pytest_twisted.ensureDeferred
async def test_a_change_of_the_folder_behind_a_link_is_told_each_time(
    follow: Follow, tmp_path: Path
) -> None:
    """As Kubernetes does it: the file is a link through ..data, which is renamed over."""
    for number in (1, 2, 3):
        folder = tmp_path / f"..version_{number}"
        folder.mkdir()
        (folder / "backends.toml").write_text(entry(number))
    (tmp_path / "..data").symlink_to("..version_1")
    (tmp_path / "backends.toml").symlink_to("..data/backends.toml")
    followed = follow(tmp_path / "backends.toml")
    for number in (2, 3):
        (tmp_path / "..new").symlink_to(f"..version_{number}")
        (tmp_path / "..new").rename(tmp_path / "..data")
        shutil.rmtree(tmp_path / f"..version_{number - 1}")
        await followed.tells(number)


@pytest_twisted.ensureDeferred
async def test_an_edit_of_the_file_behind_a_link_is_told(
    follow: Follow, path: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "link.toml").symlink_to(path)
    followed = follow(elsewhere / "link.toml")
    path.write_text(entry(2))
    await followed.tells(2)


@pytest_twisted.ensureDeferred
async def test_an_edit_of_the_file_that_a_link_leads_to_now_is_told(
    follow: Follow, tmp_path: Path
) -> None:
    for number in (1, 2):
        folder = tmp_path / f"folder_{number}"
        folder.mkdir()
        (folder / "backends.toml").write_text(entry(number))
    (tmp_path / "backends.toml").symlink_to("folder_1/backends.toml")
    followed = follow(tmp_path / "backends.toml")
    (tmp_path / "new").symlink_to("folder_2/backends.toml")
    (tmp_path / "new").rename(tmp_path / "backends.toml")
    await followed.tells(2)
    (tmp_path / "folder_2" / "backends.toml").write_text(entry(3))
    await followed.tells(3)


@pytest_twisted.ensureDeferred
async def test_a_file_that_is_deleted_and_comes_back_is_told(
    follow: Follow, path: Path, log_events: list[LogEvent]
) -> None:
    followed = follow(path)
    path.unlink()
    missing = f"{path} cannot be read: No such file or directory; the last good list stays"
    await until(reactor, lambda: missing in [formatEvent(each) for each in log_events])
    path.write_text(entry(2))
    await followed.tells(2)
    assert followed.told == [backends(1), backends(2)]


@pytest_twisted.ensureDeferred
async def test_a_file_that_comes_late_is_told(follow: Follow, tmp_path: Path) -> None:
    followed = follow(tmp_path / "backends.toml")
    (tmp_path / "backends.toml").write_text(entry(1))
    await followed.tells(1)


@pytest_twisted.ensureDeferred
async def test_a_burst_of_changes_is_told_once(follow: Follow, path: Path) -> None:
    followed = follow(path)
    for number in range(2, 30):
        path.write_text(entry(number))
    await followed.tells(29)
    assert followed.told == [backends(1), backends(29)]


@pytest_twisted.ensureDeferred
async def test_other_files_in_the_folder_do_not_keep_it_from_being_read(
    follow: Follow, path: Path, tmp_path: Path
) -> None:
    followed = follow(path)
    path.write_text(entry(2))

    def told() -> bool:
        (tmp_path / "other.log").write_text("x")
        return followed.told[-1] == backends(2)

    await until(reactor, told)


@pytest_twisted.ensureDeferred
async def test_a_folder_that_is_deleted_and_comes_back_is_found_by_polling_and_watched_again(
    follow: Follow, tmp_path: Path, log_events: list[LogEvent]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "backends.toml").write_text(entry(1))
    followed = follow(folder / "backends.toml", poll=0.1)
    shutil.rmtree(folder)
    await until(reactor, lambda: "cannot be read" in "".join(map(formatEvent, log_events)))
    assert not is_watching()
    folder.mkdir()
    (folder / "backends.toml").write_text(entry(2))
    await followed.tells(2)
    assert is_watching()


@pytest_twisted.ensureDeferred
async def test_where_inotify_cannot_be_had_it_is_said_and_polling_tells(
    follow: Follow, path: Path, monkeypatch: pytest.MonkeyPatch, log_events: list[LogEvent]
) -> None:
    def refuse(reactor: object) -> None:
        raise inotify.INotifyError("too many")

    monkeypatch.setattr(inotify, "INotify", refuse)
    followed = follow(path, poll=0.05)
    path.write_text(entry(2))
    await followed.tells(2)
    said = [formatEvent(each) for each in log_events]
    assert (
        said.count(
            f"changes of {path} are found by polling alone: inotify failed (INotifyError: too many)"
        )
        == 1
    )


@pytest_twisted.ensureDeferred
async def test_a_stop_leaves_no_reader_no_call_and_no_descriptor(
    follow: Follow, path: Path
) -> None:
    readers, calls = set(reactor.getReaders()), set(reactor.getDelayedCalls())
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        followed = follow(path)
        path.write_text(entry(2))
        followed.source.stop()
    assert set(reactor.getReaders()) == readers
    assert set(reactor.getDelayedCalls()) == calls
    assert len(os.listdir("/proc/self/fd")) == descriptors


# What needs a reactor to be checked

TLS = '[[backend]]\nendpoint = "tls:localhost:443"\n'


@pytest_twisted.ensureDeferred
async def test_arguments_that_a_plugin_refuses_are_told_with_their_line(
    follow: Follow, path: Path, log_events: list[LogEvent]
) -> None:
    followed = follow(path)
    path.write_text(entry(2) + TLS + '[[backend]]\nendpoint = "tls:localhost"\n')
    await until(reactor, lambda: "last good list stays" in "".join(map(formatEvent, log_events)))
    told = "".join(map(formatEvent, log_events))
    assert (
        f"{path}, line 5: not a client endpoint string: 'tls:localhost' (the port is missing"
        in told
    )
    assert followed.told == [backends(1)]


@pytest_twisted.ensureDeferred
async def test_of_arguments_that_differ_in_the_host_alone_one_is_checked(
    follow: Follow, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []
    monkeypatch.setattr(Backend, "check", lambda backend, reactor: checked.append(str(backend)))
    path.write_text(TLS + TLS.replace("localhost", r"\\:\\:1"))
    followed = follow(path)
    path.write_text(TLS + TLS.replace("443", "444"))
    await until(reactor, lambda: len(followed.told) == 2)
    assert checked == ["tls:localhost:443", "tls:localhost:444"]

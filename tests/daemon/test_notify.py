"""What who started the daemon is told."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kolus.daemon.notify import Notifier
from kolus.testing import result_of


class Reactor(Clock):
    """A clock that notes system event triggers."""

    def __init__(self) -> None:
        super().__init__()
        self.triggers: dict[tuple[str, str], Any] = {}

    def addSystemEventTrigger(self, phase: str, event: str, call: Any, *arguments: Any) -> None:
        self.triggers[phase, event] = lambda: call(*arguments)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.setblocking(False)
        yield heard


def told(manager: socket.socket) -> list[list[str]]:
    messages = []
    while True:
        try:
            messages.append(manager.recv(1000).decode().splitlines())
        except BlockingIOError:
            return messages


def test_it_is_ready_when_it_runs_alive_at_half_of_the_interval_and_stopping_at_the_end(
    manager: socket.socket,
) -> None:
    reactor = Reactor()
    environ = {
        "NOTIFY_SOCKET": manager.getsockname(),
        "WATCHDOG_USEC": "10000000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    Notifier(reactor, environ).begin()
    assert told(manager) == []
    reactor.triggers["after", "startup"]()
    assert told(manager) == [["READY=1", "STATUS=serving"], ["WATCHDOG=1"]]
    reactor.advance(4.9)
    assert told(manager) == []
    reactor.advance(0.1)
    assert told(manager) == [["WATCHDOG=1"]]
    reactor.triggers["before", "shutdown"]()
    assert told(manager) == [["STOPPING=1"]]


@pytest.mark.parametrize("wanted", [{}, {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}])
def test_no_sign_of_life_is_sent_that_is_not_asked_of_this_process(
    manager: socket.socket, wanted: dict[str, str]
) -> None:
    reactor = Reactor()
    Notifier(reactor, {"NOTIFY_SOCKET": manager.getsockname(), **wanted}).begin()
    reactor.triggers["after", "startup"]()
    assert told(manager) == [["READY=1", "STATUS=serving"]]
    assert not reactor.getDelayedCalls()


@pytest.mark.parametrize(
    ("succeeds", "status"),
    [(True, "STATUS=reloaded"), (False, "STATUS=the last reload failed: see the log")],
)
def test_a_reload_is_told_with_its_time_and_its_end(
    manager: socket.socket, succeeds: bool, status: str
) -> None:
    notifier = Notifier(Reactor(), {"NOTIFY_SOCKET": manager.getsockname()})
    reloaded: Deferred[bool] = Deferred()
    outcome = notifier.reloading(lambda: reloaded)
    ((begin, since),) = told(manager)
    reloaded.callback(succeeds)
    assert result_of(outcome) is succeeds
    (end,) = told(manager)
    assert begin == "RELOADING=1"
    assert since.startswith("MONOTONIC_USEC=")
    assert since.partition("=")[2].isdecimal()
    assert end == ["READY=1", status]


def test_an_abstract_name_is_told_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0kolus-test-{os.getpid()}")
        manager.setblocking(False)
        Notifier(Reactor(), {"NOTIFY_SOCKET": f"@kolus-test-{os.getpid()}"}).tell("READY=1")
        assert told(manager) == [["READY=1"]]


def test_who_is_gone_or_never_asked_is_no_trouble(tmp_path: Path) -> None:
    Notifier(Reactor(), {"NOTIFY_SOCKET": str(tmp_path / "gone")}).tell("READY=1")
    reactor = Reactor()
    Notifier(reactor, {}).begin()
    assert not reactor.triggers

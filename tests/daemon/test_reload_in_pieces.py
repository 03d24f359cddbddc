"""A reload of many backends takes many turns, and clients see all of it or none of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from kolus.backend import Backend
from kolus.config import Config, ConfigError, GroupSettings, ListenerConfig, read_config
from kolus.daemon.preflight import preflight
from kolus.daemon.reloads import Reloads
from kolus.support import Work, at_once
from kolus.testing import FakeBackend, result_of
from kolus.tunnel import ListenerSettings
from tests.conftest import LoggedFailures
from tests.rigs.reloading import PIECE, Reloading
from tests.rigs.staging import messages

CLOCK = Clock()
ONE, TWO, THREE = (Backend(FakeBackend(CLOCK), name=name) for name in ("one", "two", "three"))
PIECES = 10


def config_of(backend: Backend, queue_timeout: float = 5.0) -> Config:
    """All in it tells which one it is."""
    return Config(
        groups={"main": GroupSettings(backends=(backend,))},
        listeners={
            "clients": ListenerConfig(
                listen=(f"tcp:{backend.name}",),
                group="main",
                settings=ListenerSettings(queue_timeout=queue_timeout),
            )
        },
    )


@pytest.fixture
def rig() -> Iterator[Reloading]:
    made = Reloading(CLOCK, config_of(ONE))
    made.pieces = PIECES
    yield made
    made.end()


def seen(rig: Reloading) -> tuple[str, float, bool]:
    """What a client sees: which backend serves it, how long it waits, and whether it connects."""
    served = rig.daemon.groups["main"].group
    assert served is not None
    (backend,) = [each.backend for each in served.status().backends]
    return str(backend), rig.daemon.listeners["clients"].route.queue_timeout, rig.listens("tcp:one")


def look(rig: Reloading, looks: list[tuple[str, float, bool]], reloaded: Deferred[bool]) -> None:
    """In each turn of the reactor, as a client that comes and goes."""
    looks.append(seen(rig))
    rig.connect().addCallback(lambda lease: lease.finished())
    if not reloaded.called:
        CLOCK.callLater(0, look, rig, looks, reloaded)


def test_until_the_last_piece_is_read_all_is_as_before_and_then_all_is_changed(
    rig: Reloading,
) -> None:
    before, looks = seen(rig), []
    rig.config = config_of(TWO, 7.0)
    reloaded = rig.daemon.reload()
    look(rig, looks, reloaded)
    rig.settle()
    assert result_of(reloaded)
    assert looks == [before] * (PIECES // 2) + [("two", 7.0, False)]


def test_a_mistake_in_the_last_piece_leaves_all_as_before(rig: Reloading) -> None:
    before = seen(rig)
    with capturedLogs() as events:
        assert not rig.reload(ConfigError(["line 7: wrong"]))
    assert seen(rig) == before
    assert [each for each in messages(events) if "line 7: wrong" in each]


def test_calls_while_one_is_under_way_get_one_more_that_reads_what_is_there_then(
    rig: Reloading,
) -> None:
    applied: list[str] = []
    change = rig.daemon.change

    def noted(config: Config) -> None:
        applied.append(str(config.groups["main"].backends[0]))
        change(config)

    rig.daemon.change = noted
    rig.config = config_of(TWO)
    first = rig.daemon.reload()
    rig.config = config_of(THREE)
    others = [rig.daemon.reload() for _ in range(3)]
    assert not applied
    rig.settle()
    assert [result_of(each) for each in (first, *others)] == [True] * 4
    assert applied == ["two", "three"]
    assert seen(rig)[0] == "three"


def test_a_reload_that_is_under_way_when_the_daemon_ends_changes_nothing() -> None:
    rig = Reloading(CLOCK, config_of(ONE))
    rig.pieces = PIECES
    rig.config = config_of(TWO)
    reloaded, again = rig.daemon.reload(), rig.daemon.reload()
    with capturedLogs() as events:
        rig.end()
    assert (result_of(reloaded), result_of(again)) == (False, False)
    assert rig.daemon.config == config_of(ONE)
    assert not [each for each in messages(events) if "configuration" in each]


def test_a_daemon_whose_sockets_another_process_has_listens_on_none_of_them_again(
    rig: Reloading,
) -> None:
    ports = dict(rig.daemon.offers())
    rig.config = config_of(TWO)
    reloaded = rig.daemon.reload()
    rig.daemon.listeners["clients"]._open.clear()  # as if the ports were of a kind that can be lent
    rig.daemon.release()
    assert not result_of(reloaded)
    assert not rig.reload(config_of(THREE))
    assert rig.daemon.offers() == []
    for port in ports.values():
        port.stopListening()


def test_a_pool_that_leaves_is_drained_in_pieces_while_the_new_one_serves(rig: Reloading) -> None:
    backends = [Backend(FakeBackend(CLOCK), name=name) for name in "abcdef"]
    before = GroupSettings(backends=tuple(backends))
    assert rig.reload(replace(config_of(ONE), groups={"main": before}))
    old: Any = rig.daemon.groups["main"].pool
    for each in backends:
        result_of(old.connect("a client", each)).release()
    drain = old._managers.drain

    def drain_slowly(backend: Backend) -> Any:
        CLOCK.rightNow += PIECE
        return drain(backend)

    old._managers.drain = drain_slowly
    drained: list[int] = []

    def look() -> None:
        drained.append(len(backends) - len({each.backend for each in old.status()}))
        if old.status():
            CLOCK.callLater(0, look)

    rig.daemon.change(replace(config_of(ONE), groups={"main": replace(before, max_waiters=9)}))
    look()
    lease = rig.lease()
    assert lease.manager not in [each.manager for each in old.status()]
    assert drained == [0, 2, 4, 6]  # a connection is gone one turn after it is told to close
    rig.settle(3)
    assert not rig.daemon._leaving.groups


def test_what_reading_raises_is_logged_and_the_next_reload_is_made(
    rig: Reloading, logged_failures: LoggedFailures
) -> None:
    def broken() -> Work[Config]:
        yield
        raise RuntimeError("a fault")

    reloads = Reloads(CLOCK, broken, rig.daemon)
    reloads.begin()
    assert [result_of(reloads.ask()) for _ in range(2)] == [False, False]
    assert len(logged_failures.flush(RuntimeError)) == 2


FILE = """
[groups.main]
backends = [{backends}]
[listeners.main]
listen = ["tcp:1:interface=127.0.0.1"]
"""


def sizes(work: Callable[[], Work[object]]) -> list[int]:
    """How many calls of functions are in each piece of a work."""
    made: list[int] = []
    calls = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    def each() -> Work[object]:
        nonlocal calls
        begun = work()
        while True:
            calls = 0
            try:
                next(begun)
            except StopIteration as end:
                return end.value
            finally:
                made.append(calls)
            yield

    sys.setprofile(note)
    try:
        at_once(each())
    finally:
        sys.setprofile(None)
    return made


def test_no_piece_after_the_file_is_parsed_grows_with_the_number_of_backends(
    tmp_path: Path,
) -> None:
    largest = []
    for number in (50, 400):
        path = tmp_path / f"{number}.toml"
        backends = ", ".join(f'"tcp:10.0.{number % 7}.1:{port + 1}"' for port in range(number))
        path.write_text(FILE.format(backends=backends))
        made = sizes(lambda path=path: read_config(str(path), lambda it: preflight(CLOCK, it)))
        assert len(made) > 3 * number  # it is read, made, and compared with where is listened
        largest.append(max(made[1:]))
    assert largest[1] < 2 * largest[0]


assert PIECE * 2 > 0.002  # so that there are two pieces in a turn

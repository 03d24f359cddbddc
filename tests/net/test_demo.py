"""C{twistd kolus --demo}, as a child process."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol

from tests.net.child import CHECKOUT, Child, twistd

NAMES = ("one", "two", "three")


def sums(child: Child) -> dict[str, int]:
    """The leases that the summary tells for each backend, and in all."""
    summary = child.output.rpartition("share")[2]
    rows = re.findall(r"^(one|two|three|total)\s+(\d+)\s", summary, re.MULTILINE)
    return {name: int(leases) for name, leases in rows}


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_the_demo_shows_a_table_adds_up_and_stops_by_itself(tmp_path: Path) -> None:
    async with twistd(reactor, "--demo", "6", cwd=tmp_path) as child:
        assert await child.ended() == 0
        tables = [line for line in child.lines if "leases/s" in line]
        assert len(tables) >= 2
        assert all("wait p50" in line and "hold p50" in line for line in tables)
        for name in NAMES:
            rows = [line for line in child.lines if re.match(rf"\s+{name}\s", line)]
            assert len(rows) == len(tables)
        leases = sums(child)
        total = leases.pop("total")
        assert set(leases) == set(NAMES)
        assert sum(leases.values()) == total > 0
        found = re.search(r"(\d+) requests = (\d+) answered \+ 0 failed \+ 0 wrong", child.output)
        assert found is not None
        assert found[1] == found[2]
        repeated = re.search(r"^(\d+) repeated", child.output, re.MULTILINE)
        assert repeated is not None
        assert total == int(found[1]) + int(repeated[1])
        assert re.search(r"[1-9]\d* bytes came back as they were sent, 0 answers", child.output)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_the_demo_fits_80_columns_and_has_plain_lines_in_a_pipe() -> None:
    async with twistd(reactor, "--demo", "2") as child:
        assert await child.ended() == 0
        assert max(map(len, child.lines)) <= 80
        assert "\x1b" not in child.output


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_the_demo_shows_that_a_killed_backend_is_ejected_and_admitted_again() -> None:
    async with twistd(reactor, "--demo", "20") as child:
        assert await child.ended() == 0
        told = [
            *("two is killed", "the pool ejects two", "three takes ten times as long"),
            *("two is started again", "the pool admits two again", "three is as fast as before"),
        ]
        assert all(f"** {each}" in child.output for each in told)
        assert child.output.index(told[0]) < child.output.index(told[1])
        assert child.output.index(told[3]) < child.output.index(told[4])
        (row,) = re.findall(r"^two .*", child.output, re.MULTILINE)
        assert [int(each) for each in row.split()[3:5]] == [1, 1]


class Terminal(ProcessProtocol):
    """What a process wrote on its terminal."""

    def __init__(self) -> None:
        self.output = b""
        self.ended: Deferred[bytes] = Deferred()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.output += data

    def processEnded(self, reason: object) -> None:
        self.ended.callback(self.output)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_on_a_terminal_the_table_has_colours_and_is_drawn_in_place() -> None:
    terminal = Terminal()
    run = "from twisted.scripts.twistd import run; run()"
    command = [sys.executable, "-c", run, "-n", "--pidfile=", "kolus", "--demo", "12"]
    environment = {each: os.environ[each] for each in os.environ if each != "NO_COLOR"}
    reactor.spawnProcess(  # type: ignore[attr-defined]
        *(terminal, sys.executable, command, environment | {"TERM": "xterm"}, str(CHECKOUT)),
        usePTY=True,
    )
    output = await terminal.ended
    assert b"\x1b[32mopen" in output
    assert b"\x1b[5F\x1b[J" in output  # five lines up, and they are gone


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_demo_that_is_interrupted_still_sums_up() -> None:
    async with twistd(reactor, "--demo", "600") as child:
        await child.seen("leases/s")
        child.signal("INT")
        await child.seen("0 answers were wrong")
        assert await child.ended() == -signal.SIGINT


WRONG_ECHO = """
from kolus.daemon.demo import backend as demo
right = demo._Echo.dataReceived
def dataReceived(self, data):
    right(self, data[:-1] + bytes([data[-1] ^ 1]))
demo._Echo.dataReceived = dataReceived
from twisted.scripts.twistd import run
run()
"""


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_demo_with_a_wrong_echo_fails() -> None:
    async with twistd(reactor, "--demo", "0.2", run=WRONG_ECHO) as child:
        assert await child.ended() == 1
        assert re.search(r"\n0 bytes came back as they were sent, [1-9]\d* answers", child.output)

"""C{twistd kolus --demo}, as a child process."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest_twisted
from twisted.internet import reactor

from tests.net.child import Child, twistd


def sums(child: Child) -> dict[str, int]:
    """The leases that the summary tells for each backend, and in all."""
    summary = child.output.rpartition("share")[2]
    rows = re.findall(r"^(fast|steady|slow|total)\s+(\d+)\s", summary, re.MULTILINE)
    return {name: int(leases) for name, leases in rows}


@pytest_twisted.ensureDeferred
async def test_the_demo_shows_a_table_adds_up_and_stops_by_itself(tmp_path: Path) -> None:
    async with twistd(reactor, "--demo", "3", cwd=tmp_path) as child:
        assert await child.ended() == 0
        tables = [line for line in child.lines if "leases/s" in line]
        assert len(tables) >= 2
        for name in ("fast", "steady", "slow"):
            rows = [line for line in child.lines if re.match(rf"\s+{name}\s", line)]
            assert len(rows) == len(tables)
        leases = sums(child)
        total = leases.pop("total")
        assert set(leases) == {"fast", "steady", "slow"}
        assert sum(leases.values()) == total > 0
        found = re.search(r"(\d+) requests = (\d+) leases \+ (\d+) errors", child.output)
        assert found is not None
        requests, leased, errors = map(int, found.groups())
        assert (leased, requests) == (total, leased + errors)
        assert re.search(r"[1-9]\d* bytes came back as they were sent, 0 answers", child.output)
        assert list(tmp_path.iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_a_demo_that_is_interrupted_still_sums_up() -> None:
    async with twistd(reactor, "--demo", "600") as child:
        await child.seen("leases/s")
        child.signal("INT")
        await child.seen("0 answers were wrong")
        assert await child.ended() == -signal.SIGINT


WRONG_ECHO = """
from kolus.daemon import demo
right = demo._Echo.dataReceived
def dataReceived(self, data):
    right(self, data[:-1] + bytes([data[-1] ^ 1]))
demo._Echo.dataReceived = dataReceived
from twisted.scripts.twistd import run
run()
"""


@pytest_twisted.ensureDeferred
async def test_a_demo_with_a_wrong_echo_fails() -> None:
    async with twistd(reactor, "--demo", "0.2", run=WRONG_ECHO) as child:
        assert await child.ended() == 1
        assert re.search(r" 0 bytes came back as they were sent, [1-9]\d* answers", child.output)

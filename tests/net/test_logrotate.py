"""The log of C{twistd kolus}, moved away by a real logrotate."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from tests.conftest import require
from tests.net.child import CHECKOUT, LISTEN, Child, twistd
from tests.net.programs import output_of
from tests.net.tunnel_peers import backend, connected, until

pytestmark = pytest.mark.long

its: Any = reactor

_SERVED = re.compile(r"listener default: 0 clients, (\d+) were served")


@pytest.fixture
def logrotate() -> str:
    return require("logrotate", "logrotate")


def written(log: Path) -> str:
    """All of the log, the oldest file first."""
    moved = sorted(log.parent.glob("kolus.log.*"), key=lambda each: -int(each.name.split(".")[2]))
    parts = [
        gzip.decompress(each.read_bytes()).decode() if each.suffix == ".gz" else each.read_text()
        for each in moved
    ]
    return "".join([*parts, log.read_text()])


async def serve(child: Child, port: int) -> None:
    """Serve one client, and log that."""
    async with connected(reactor, port) as client:
        client.send(b"x", end=True)
        await client.ended()
    child.signal("USR2")


@pytest_twisted.ensureDeferred
async def test_each_line_is_in_the_log_once_while_logrotate_moves_it_away(
    logrotate: str, tmp_path: Path
) -> None:
    log, pid, rules = tmp_path / "kolus.log", tmp_path / "kolus.pid", tmp_path / "rules"
    text = (CHECKOUT / "contrib" / "logrotate" / "kolus").read_text()
    text = text.replace("/var/log/kolus/kolus.log", str(log))
    rules.write_text(text.replace("/run/kolus/kolus.pid", str(pid)))
    rules.chmod(0o644)
    rotate = (logrotate, "-f", "-s", tmp_path / "state", rules)
    before = ("--logfile", str(log), "--pidfile", str(pid))
    async with (
        backend(reactor) as echoes,
        twistd(reactor, "--backend", echoes.endpoint, *LISTEN, before=before) as child,
    ):
        await until(reactor, lambda: log.exists() and "kolus listens on" in log.read_text())
        found: Any = re.search(r"kolus listens on \S+:(\d+)", log.read_text())
        for count in range(1, 41):
            await serve(child, int(found[1]))
            if count in (10, 20, 30):
                await output_of(reactor, *rotate)
            said = f" {count} were served"
            await until(reactor, lambda said=said: said in written(log))  # type: ignore[misc]
        assert _SERVED.findall(written(log)) == [str(count) for count in range(1, 41)]
        assert " 40 were served" in log.read_text()
        names = {each.name for each in tmp_path.glob("kolus.log*")}
        assert names == {"kolus.log", "kolus.log.1", "kolus.log.2.gz", "kolus.log.3.gz"}

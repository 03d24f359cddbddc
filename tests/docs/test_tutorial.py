"""The tutorial, walked as its reader walks it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue

from tests.net.servers import Server, free_port
from tests.rigs.pages import ROOT, Page

TUTORIAL = Page(ROOT / "docs" / "tutorial.md")


class Walk:
    """A folder with the files of the tutorial, and its two servers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prints: dict[str, str | None] = {}
        ports = {"9001": free_port(), "9002": free_port()}
        for block in TUTORIAL.blocks:
            if block.is_file:
                name = block.text.partition("\n")[0].removeprefix("# ")
                text = block.text.replace("+ 5.0", "+ 2.0").replace(
                    "callLater(2.0", "callLater(1.0"
                )
                for theirs, ours in ports.items():
                    text = text.replace(theirs, str(ours))
                (folder / name).write_text(text, encoding="utf-8")
                self.prints[name] = block.prints
        self.servers = []
        for port in ports.values():
            command = [sys.executable, str(folder / "server.py"), str(port)]
            self.servers.append(Server(reactor, command, folder, port, b"listens"))

    async def run(self, *command: str) -> tuple[str, str, int]:
        """What it printed, what it complained about, and its status."""
        out, err, status = await getProcessOutputAndValue(
            sys.executable,
            list(command),
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            path=str(self.folder),
        )
        return out.decode(), err.decode(), status


@pytest_twisted.async_yield_fixture
async def walk(tmp_path: Path) -> AsyncIterator[Walk]:
    walk = Walk(tmp_path)
    for server in walk.servers:
        await server.start()
    yield walk
    for server in walk.servers:
        await server.kill()


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_each_program_prints_what_the_page_says(walk: Walk) -> None:
    for name in ("ask.py", "late.py"):
        assert walk.prints[name] is not None
        assert await walk.run(name) == (walk.prints[name], "", 0)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_only_what_a_server_was_answering_is_lost_when_it_ends(walk: Walk) -> None:
    watching = Deferred.fromCoroutine(walk.run("watched.py"))
    await deferLater(reactor, 1.5)
    await walk.servers[1].kill()
    await walk.servers[1].start()
    out, err, status = await watching
    assert (err, status) == ("", 0)
    counts = re.search(r"'answered': (\d+), 'failed': 0, 'broken off': (\d+)", out)
    assert counts is not None, out
    assert int(counts[1]) > 20
    assert int(counts[2]) <= 6  # those under way, and those that connected while it ended


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_the_tests_of_the_tutorial_pass(walk: Walk) -> None:
    out, err, status = await walk.run(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shout.py"
    )
    assert (err, status) == ("", 0)
    assert "2 passed" in out

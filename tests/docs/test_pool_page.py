"""The page that shows everything a pool does."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import fail
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from kolus import Backend, ConnectFailed, LeaseTimeout, NoBackend, Pool
from kolus.sources import FileSource
from kolus.testing import FakeBackend
from tests.rigs.pages import ROOT, Block, Page

PAGE = Page(ROOT / "docs" / "how-to" / "pool.md")
FRAGMENTS = [block for block in PAGE.blocks if block.is_fragment]


@pytest_twisted.ensureDeferred
async def test_the_fragments_run_one_after_the_other(
    memcached_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    from twisted.internet import reactor

    names: dict[str, Any] = {"reactor": reactor}
    try:
        for block in FRAGMENTS:
            here = block.text.replace("10.0.0.7", "127.0.0.1").replace("10.0.0.8", "localhost")
            here = here.replace("11211", str(memcached_port))
            running = Block(block.page, block.line, block.language, here).run(names)
            if inspect.iscoroutine(running):
                await running
        assert names["color"] == b"blue"
        assert await names["asked"] == (0, b"blue")
        assert all(each.leased == 0 for each in names["pool"].status())
        assert capsys.readouterr().out.splitlines()[-1] == "1"
    finally:
        for pool in [each for each in names.values() if isinstance(each, Pool)]:
            await pool.close(0)


NOWHERE = Backend(FakeBackend(Clock()), name="nowhere")


@pytest.mark.parametrize(
    ("error", "printed"),
    [
        (NoBackend("none"), ["none"]),
        (
            LeaseTimeout(Pool(Clock(), Protocol).status([NOWHERE])[0], 0.2, None),
            ["nowhere (absent: limit 10,", "0.2 None"],
        ),
        (ConnectFailed(NOWHERE, OSError("no route"), 1.5), ["nowhere no route 1.5"]),
    ],
    ids=lambda case: type(case).__name__,
)
@pytest_twisted.ensureDeferred
async def test_the_fragment_on_errors_handles_each_of_them(
    error: Exception, printed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = [each for each in FRAGMENTS if "except Rejected" in each.text]
    await block.run({"pool": SimpleNamespace(connect=lambda *_, **__: fail(error))})
    output = capsys.readouterr().out
    assert all(each in output for each in printed)


def test_the_file_of_backends_that_it_shows_is_read(tmp_path: Path) -> None:
    (shown,) = [block for block in PAGE.blocks if block.language == "toml"]
    path = tmp_path / "backends.toml"
    path.write_text(shown.text, encoding="utf-8")
    told: list[Any] = []
    source = FileSource(Clock(), path)
    source.start(told.append)
    source.stop()
    ((one, other),) = told
    assert (one.endpoint, one.weight) == ("tcp:10.0.0.7:11211", 2.0)
    assert (other.endpoint, other.zone) == ("tcp:10.0.0.8:11211", "there")

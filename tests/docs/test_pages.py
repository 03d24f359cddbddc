"""The pages hold together: every code block is run, every link leads somewhere."""

from __future__ import annotations

import inspect
import re
import unittest
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock

from kolus import Backend, Pool
from kolus.testing import FakeBackend, result_of
from kolus.testing.results import failure_of
from tests.docs.running import BLOCKS, FRAGMENTS, PROGRAMS, TESTS
from tests.rigs.pages import ROOT, Block, Page, pages

RUN_ELSEWHERE = {"docs/how-to/pool.md"}
"""Pages whose fragments a test of their own runs."""


def test_every_block_is_of_a_kind_that_is_run_or_not_python() -> None:
    files = [block for block in BLOCKS if block.is_file]
    python = [block for block in BLOCKS if block.language == "python"]
    assert len(files) + len(PROGRAMS) + len(TESTS) + len(FRAGMENTS) == len(python)
    assert {block.language for block in BLOCKS} <= {"python", "sh", "console", "text", "toml"}


@pytest.mark.parametrize("page", pages(), ids=repr)
def test_every_link_leads_to_a_page_and_a_heading(page: Page) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.text, flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if target.startswith(("http:", "https:")):
            continue
        name, _, anchor = target.partition("#")
        path = page.path if not name else (page.path.parent / name).resolve()
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", each).strip().lower() for each in headings]
            assert anchor in [each.replace(" ", "-") for each in slugs], target


def test_the_site_shows_every_page() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    shown = set(re.findall(r"^ +- .*?([\w/-]+\.md)$", site, re.MULTILINE))
    assert shown == {str(each.relative_to(ROOT / "docs")) for each in (ROOT / "docs").rglob("*.md")}


@pytest.mark.parametrize(
    "page", [page for page in pages() if repr(page) not in RUN_ELSEWHERE], ids=repr
)
@pytest_twisted.ensureDeferred
async def test_the_fragments_of_a_page_run_one_after_the_other(
    page: Page, memcached_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    from twisted.internet import reactor

    names: dict[str, Any] = {"reactor": reactor}
    try:
        for block in (block for block in page.blocks if block.is_fragment):
            here = block.text.replace("10.0.0.7", "127.0.0.1").replace("10.0.0.8", "localhost")
            here = here.replace("11211", str(memcached_port))
            running = Block(block.page, block.line, block.language, here).run(names)
            if inspect.iscoroutine(running):
                await running
            printed = capsys.readouterr().out
            assert block.prints is None or printed == block.prints
    finally:
        for pool in [each for each in names.values() if isinstance(each, Pool)]:
            await pool.close(0)


@pytest.mark.parametrize("block", TESTS, ids=repr)
def test_the_tests_that_a_page_shows_pass(block: Block) -> None:
    names: dict[str, Any] = {"__name__": "shown"}
    block.run(names)
    ran = 0
    for name, each in list(names.items()):
        if inspect.isclass(each) and each.__module__ == "shown":
            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromTestCase(each).run(result)
            assert result.wasSuccessful(), result.failures + result.errors
            ran += result.testsRun
        elif name.startswith("test_"):
            each()
            ran += 1
    assert ran == block.text.count("def test_")


def test_the_client_that_contributing_shows_has_thirty_lines_and_asks_a_server() -> None:
    clock, names = Clock(), dict[str, Any]()
    (block,) = [each for each in FRAGMENTS if "class LinePool" in each.text]
    assert len(block.text.splitlines()) <= 30
    block.run(names)
    fake = FakeBackend(clock)
    lines = names["LinePool"](clock, [Backend(fake)])
    asked = [lines.ask(line) for line in (b"one", b"two", b"three")]
    (connection,) = fake.connections
    assert connection.received == b"one\r\ntwo\r\nthree\r\n"
    connection.speak(b"ONE\r\n")
    asked[1].cancel()
    failure_of(CancelledError, asked[1])
    connection.speak(b"TWO\r\nTHREE\r\n")
    assert [result_of(asked[each]) for each in (0, 2)] == [b"ONE", b"THREE"]
    lost = lines.ask(b"four")
    fake.connections[-1].close()
    clock.advance(0)
    failure_of(ConnectionDone, lost)
    assert [status.leased for status in lines.status()] == [0]
    closed = lines.close()
    clock.advance(0)
    assert result_of(closed) is None

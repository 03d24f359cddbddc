"""The README is true: each of its code blocks runs, and its tables say what the code says."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import signal
import sys
import unittest
from collections.abc import AsyncIterator
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import fail
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.utils import getProcessOutputAndValue
from twisted.protocols.basic import LineReceiver
from twisted.protocols.memcache import MemCacheProtocol

from kolus import Backend, ConnectFailed, Ejection, Lease, LeaseTimeout, NoBackend, Policy, Pool
from kolus.backoff import Backoff
from kolus.balance import NAMES, fill_first, pick_two
from kolus.daemon.tap import Options
from kolus.sources import FileSource
from kolus.testing import FakeBackend
from tests.net.asking import until
from tests.net.child import CHECKOUT, twistd

README = CHECKOUT / "README.md"


@dataclass(frozen=True)
class Block:
    """A code block, with the number of its first line."""

    line: int
    language: str
    text: str

    def run(self, names: dict[str, Any]) -> Any:
        """Execute it; a coroutine if it awaits anything itself."""
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        padded = "\n" * (self.line - 1) + self.text
        return eval(compile(padded, README, "exec", flags, dont_inherit=True), names)


def blocks() -> list[Block]:
    text = README.read_text(encoding="utf-8")
    found = re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE)
    return [Block(text.count("\n", 0, each.start(2)) + 1, each[1], each[2]) for each in found]


COMMANDS = [each for each in blocks() if each.language == "sh"]
PROGRAMS = [each for each in blocks() if "\nreact(" in each.text]
TESTS = [each for each in blocks() if "def test_" in each.text]
FILES = [each for each in blocks() if each.language == "toml"]
FRAGMENTS = [
    each
    for each in blocks()
    if each.language == "python" and each not in PROGRAMS and each not in TESTS
]


def table(heading: str) -> list[list[str]]:
    """The rows of the table whose first row begins so, without the code marks around a cell."""
    text = README.read_text(encoding="utf-8")
    rows = text[text.index(f"| {heading} |") :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


class Memcached(LineReceiver):
    """As much of a memcached as the README asks for."""

    _wanted: bytes | None = None

    def connectionMade(self) -> None:
        self.factory.connected.add(self)

    def lineReceived(self, line: bytes) -> None:
        store: dict[bytes, bytes] = self.factory.store
        if self._wanted is not None:
            store[self._wanted] = line
            self._wanted = None
            self.sendLine(b"STORED")
        elif line == b"version":
            self.sendLine(b"VERSION 1")
        else:
            command, key, *_ = line.split()
            if command == b"set":
                self._wanted = key
            elif key in store:
                self.sendLine(b"VALUE %b 0 %d\r\n%b\r\nEND" % (key, len(store[key]), store[key]))

    def connectionLost(self, reason: object) -> None:
        self.factory.connected.remove(self)


class Memcacheds(Factory):
    """A listening port of them."""

    noisy = False
    protocol = Memcached

    def __init__(self) -> None:
        self.store: dict[bytes, bytes] = {}
        self.connected: set[Memcached] = set()


@pytest_twisted.async_yield_fixture
async def memcached_port() -> AsyncIterator[int]:
    """The number of a port where a memcached listens."""
    from twisted.internet import reactor

    memcacheds = Memcacheds()
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(memcacheds)
    yield port.getHost().port
    await until(reactor, lambda: not memcacheds.connected)
    await port.stopListening()


# Code blocks


def test_the_first_two_blocks_are_the_commands_for_a_new_machine() -> None:
    in_venv = "python3 -m venv .venv && .venv/bin/pip install -q"
    assert [each.text for each in blocks()[:2]] == [
        f"{in_venv} . && .venv/bin/twistd -n --pidfile= kolus --demo 10\n",
        f"{in_venv} -e '.[test]' && .venv/bin/python -m pytest\n",
    ]


def test_every_block_is_of_a_kind_that_is_run_here_or_by_the_build() -> None:
    assert [len(each) for each in (COMMANDS, PROGRAMS)] == [3, 1]
    assert len(TESTS) == 3
    assert len(FILES) == 1
    assert len(COMMANDS + PROGRAMS + TESTS + FRAGMENTS + FILES) == len(blocks())


@pytest_twisted.ensureDeferred
async def test_the_first_program_prints_its_greeting(memcached_port: int, tmp_path: Path) -> None:
    (block,) = PROGRAMS
    program = tmp_path / "greeter.py"
    program.write_text(block.text.replace("11211", str(memcached_port)), encoding="utf-8")
    from twisted.internet import reactor

    output, errors, status = await getProcessOutputAndValue(
        sys.executable,
        [str(program)],
        env={"PYTHONPATH": str(CHECKOUT)},
        reactor=reactor,
    )
    assert (output, errors, status) == (b"(0, b'hello')\n", b"", 0)


def test_the_first_program_has_ten_lines() -> None:
    assert len([line for line in PROGRAMS[0].text.splitlines() if line]) == 10


@pytest_twisted.ensureDeferred
async def test_the_fragments_run_one_after_the_other(
    memcached_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    from twisted.internet import reactor

    names: dict[str, Any] = {"reactor": reactor}
    try:
        for block in FRAGMENTS:
            here = block.text.replace("10.0.0.7", "127.0.0.1").replace("10.0.0.8", "localhost")
            local = Block(block.line, block.language, here.replace("11211", str(memcached_port)))
            running = local.run(names)
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


@pytest.mark.parametrize("block", TESTS, ids=lambda block: f"line {block.line}")
def test_the_tests_that_it_shows_pass(block: Block) -> None:
    names: dict[str, Any] = {"__name__": "readme"}
    block.run(names)
    ran = 0
    for name, each in names.items():
        if inspect.isclass(each) and each.__module__ == "readme":
            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromTestCase(each).run(result)
            assert result.wasSuccessful(), result.failures + result.errors
            ran += result.testsRun
        elif name.startswith("test_"):
            each()
            ran += 1
    assert ran == 1


@pytest_twisted.ensureDeferred
async def test_the_front_that_it_starts_serves_a_client(memcached_port: int) -> None:
    from twisted.internet import reactor

    text = COMMANDS[2].text.replace("tcp:6380:", "tcp:0:")
    for theirs, ours in (("10.0.0.7", "127.0.0.1"), ("10.0.0.8", "localhost")):
        text = text.replace(f"{theirs}:6379", f"{ours}:{memcached_port}")
    command, *options = shlex.split(text)
    assert [command, *options[:3]] == [".venv/bin/twistd", "-n", "--pidfile=", "kolus"]
    async with twistd(reactor, *options[3:]) as child:
        clients = Pool(reactor, MemCacheProtocol)
        async with await clients.connect("client", ("127.0.0.1", await child.port())) as lease:
            assert await lease.protocol.version() == b"1"
        await clients.close()
        child.signal("TERM")
        assert await child.ended() == -signal.SIGTERM  # twistd ends by what it was told to end by


def test_the_file_of_backends_that_it_shows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "backends.toml"
    path.write_text(FILES[0].text, encoding="utf-8")
    told: list[Any] = []
    source = FileSource(Clock(), path)
    source.start(told.append)
    source.stop()
    ((one, other),) = told
    assert (one.endpoint, one.weight) == ("tcp:10.0.0.7:11211", 2.0)
    assert (other.endpoint, other.zone) == ("tcp:10.0.0.8:11211", "there")


# Tables


def test_the_defaults_are_those_of_the_policy() -> None:
    known = {
        "Backoff": Backoff,
        "Ejection": Ejection,
        "fill_first": fill_first,
        "pick_two": pick_two,
    }
    rows = table("setting")
    assert [row[0].strip("`") for row in rows] == [each.name for each in fields(Policy)]
    for name, default, erlang, _ in rows:
        for shown, policy in ((default, Policy()), (erlang, Policy.erlang())):
            says = eval(shown.strip("`"), known)
            does = getattr(policy, name.strip("`"))
            # Two balancers that pick_two made are the same but for where they came from.
            assert says == does or repr(says) == repr(does), f"{name} is {does!r}, not {shown}"


def test_every_call_of_the_original_has_one_that_exists() -> None:
    rows = table("kolus in Erlang")
    theirs = " ".join(row[0] for row in rows)
    for each in ("status", "connect", "select", "return", "finished", "get_socket", "get_manager"):
        assert f"`kolus:{each}(" in theirs
    ours = " ".join(cell for row in rows for cell in row[1:])
    calls = re.findall(r"\b(pool|lease|Policy)\.(\w+)", ours)
    assert len(calls) >= 13
    for owner, name in calls:
        assert hasattr({"pool": Pool, "lease": Lease, "Policy": Policy}[owner], name), name
    (row,) = [row for row in rows if "Policy(" in row[1]]
    assert isinstance(eval(row[1].strip("`"), {"Policy": Policy}), Policy)


def test_the_options_are_those_of_the_plugin_with_their_defaults() -> None:
    rows = {row[0].strip("`"): row[1] for row in table("option")}
    options = Options()
    ours = {"--" + each.rstrip("=") for each in options.longOpt} - {"--help", "--version"}
    assert set(rows) == ours
    usage = re.sub(r"\s+", " ", options.getUsage(width=10_000))
    for name, default in rows.items():
        (text,) = re.findall(rf"{name}= (.*?)(?= -\w, | --\w|$)", usage)
        shown = re.search(r"\[default: (.*?)\]", text)
        assert (shown[1] if shown else "") == default, name


def test_the_balancers_are_all_named() -> None:
    text = README.read_text(encoding="utf-8")
    (row,) = [row for row in table("option") if row[0] == "`--balance`"]
    assert sorted(re.findall(r"`(\w+)`", row[2])) == sorted(NAMES)
    assert all(f"`{name}" in text for name in NAMES)

"""Times clients of kolus beside other pools, in shuffled rounds, before real servers.

Needs nginx, redis-server and PostgreSQL, and the peers of the extra C{bench}; what is missing is
left out, and said.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date
from importlib.metadata import version
from os import cpu_count
from pathlib import Path
from platform import python_version
from statistics import median
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall, deferLater, react
from twisted.python.failure import Failure

from tests.bench.clients import asyncio_calls, twisted_calls
from tests.bench.clients.opened import Opened
from tests.bench.clients.plot import plot
from tests.bench.clients.worker import BEGUN
from tests.bench.core import insert, processor_name
from tests.clients.conftest import Nginx
from tests.clients.postgres_servers import Postgres, binary_folder, make_cluster
from tests.net import servers
from tests.net.servers import Server

LIMIT = 10
CALLERS = (1, 50, 500)
CLIENTS = (*twisted_calls.CALLS, *asyncio_calls.CALLS)

PACKAGES = (
    *("twisted", "txredisapi", "aiohttp", "httpx", "redis", "psycopg", "psycopg_pool"),
    *("asyncpg", "psycopg2-binary"),
)

_GRACE = 15.0
"""Seconds that a client may take beyond its time."""

_LONG_ENOUGH = 1.5
"""Seconds of a load whose server is killed, so that it is back before the end."""

Row = tuple[str, str, int]
"""A kind of server, a client, and the number of callers; 0: 50 of them, and the server is killed
and started again after a third of the time."""


async def run(row: Row, server: Any, seconds: float) -> dict[str, Any] | None:
    """One client in a process of its own; C{None} if it is not installed, or ended badly."""
    kind, client, callers = row
    if callers == 0:
        seconds = max(seconds, _LONG_ENOUGH)
    arguments = [kind, client, server.port, callers or 50, LIMIT, seconds]
    from twisted.internet import reactor

    opened = Opened(server.port)
    looking = LoopingCall(opened.look)
    worker = Worker(reactor, arguments, seconds + _GRACE)
    looking.start(0.05)
    if callers == 0 and await worker.begun:
        await deferLater(reactor, seconds / 3)
        await end(server)
        await deferLater(reactor, 0.2)
        await server.start()
    await worker.ended
    looking.stop()
    try:
        return json.loads(worker.out.splitlines()[-1]) | {"opened": opened.count()}  # type: ignore[no-any-return]
    except (IndexError, ValueError):
        print(f"{kind}, {client}: {worker.err.decode().strip().splitlines()[-1:]}", file=sys.stderr)
        return None


class Worker(ProcessProtocol):
    """A worker's process.

    @ivar begun: fires with whether its load has begun, at the latest when it has ended.
    @ivar ended: fires when it has ended.
    @ivar out: what it has printed.
    @ivar err: what it has complained of.
    """

    def __init__(self, reactor: Any, arguments: Sequence[object], seconds: float) -> None:
        """
        @param seconds: how long it may take. Some peers never end when their server is killed.
        """
        self.begun: Deferred[bool] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self.out = self.err = b""
        worker = [sys.executable, "-m", "tests.bench.clients.worker", *map(str, arguments)]
        command = ["timeout", str(seconds), *worker]
        reactor.spawnProcess(self, "/usr/bin/timeout", command, env=None)

    def outReceived(self, data: bytes) -> None:
        self.out += data
        if not self.begun.called and b"\n" in self.out:
            self.begun.callback(self.out.startswith(BEGUN.encode()))

    def errReceived(self, data: bytes) -> None:
        self.err += data

    def processEnded(self, reason: Failure) -> None:
        if not self.begun.called:
            self.begun.callback(False)
        self.ended.callback(None)


async def end(server: Any) -> None:
    """End a server and its clients' connections. Only redis may be killed: the others' children
    would outlive them."""
    if isinstance(server, Postgres):
        await server.stop()
    elif isinstance(server, Nginx):
        await server.terminate()
    else:
        await server.kill()


async def start_servers(reactor: Any, folder: Path) -> dict[str, Server]:
    binaries = binary_folder()
    assert binaries is not None, "needs Debian's postgresql"
    for name in ("nginx", "redis", "postgres"):
        (folder / name).mkdir()
    make_cluster(binaries, folder / "postgres")
    started: dict[str, Server] = {
        "http": Nginx(reactor, "/usr/sbin/nginx", folder / "nginx"),
        "redis": servers.redis(reactor, "/usr/bin/redis-server", folder / "redis"),
        "postgres": Postgres(reactor, binaries, folder / "postgres"),
    }
    for each in started.values():
        await each.start()
    return started


def machine(rounds: int) -> str:
    """Where and when the figures were taken."""
    names = ("twisted", "txredisapi", "aiohttp", "httpx", "redis", "psycopg", "psycopg_pool")
    versions = ", ".join(
        f"{name} {version(name)}" for name in (*names, "asyncpg", "psycopg2-binary")
    )
    return (
        f"Measured on {date.today()}: {processor_name()}, {cpu_count()} cores, Python "
        f"{python_version()}, {versions}. {rounds} rounds: calls/s and CPU are those of the best, "
        f"the others medians. Limit {LIMIT}."
    )


def best(rounds: list[dict[str, Any]]) -> tuple[float, float]:
    """The most calls per second and the least CPU for one: other load only makes both worse."""
    return max(each["rate"] for each in rounds), min(each["cpu"] for each in rounds)


def table(figures: dict[Row, list[dict[str, Any]]]) -> Iterator[str]:
    """The lines of the table, in Markdown."""
    for kind in ("http", "redis", "postgres"):
        yield f"\n| {kind} | callers | calls/s | CPU us/call | opened | longest ms | failures |"
        yield "| --- | --- | --- | --- | --- | --- | --- |"
        for callers in (*CALLERS, 0):
            for its, client in CLIENTS:
                rounds = figures.get((kind, client, callers), [])
                if its != kind or not rounds:
                    continue
                rate, cpu = best(rounds)
                opened, longest, failures = (
                    median([each[name] for each in rounds])
                    for name in ("opened", "longest", "failures")
                )
                who = str(callers) if callers else "50, server killed"
                yield (
                    f"| {client} | {who} | {rate:.0f} | {cpu:.0f} | {opened:.0f} | "
                    f"{1000 * longest:.0f} | {failures:.0f} |"
                )


async def main(reactor: Any, options: argparse.Namespace) -> None:
    figures: dict[Row, list[dict[str, Any]]] = defaultdict(list)
    rows = [
        (*each, callers)
        for each in CLIENTS
        for callers in (*CALLERS, 0)
        if callers or not each[1].startswith("no pool")
    ]
    if options.only:
        rows = [row for row in rows if row[0] == options.only]
    with tempfile.TemporaryDirectory(prefix="kolus") as name:
        folder = Path(name)
        folder.chmod(0o755)
        started = await start_servers(reactor, folder)
        try:
            for number in range(options.rounds):
                random.shuffle(rows)
                for place, row in enumerate(rows):
                    print(f"\rround {number + 1}, {place + 1} of {len(rows)}", end="", flush=True)
                    figure = await run(row, started[row[0]], options.seconds)
                    if figure is not None:
                        figures[row].append(figure)
        finally:
            for each in started.values():
                await end(each)
    print()
    lines = [machine(options.rounds), *table(figures)]
    print("\n".join(lines))
    if options.write:
        page = Path(options.write)
        page.write_text(insert(page.read_text(), "\n".join(lines)), encoding="utf-8")
    if options.plot:
        bars = {
            row: best(rounds)[0] if row[2] else median([each["failures"] for each in rounds])
            for row, rounds in figures.items()
        }
        Path(options.plot).write_text(plot(bars), encoding="utf-8")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.clients", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each (default: 3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each load (default: 2)")
    parser.add_argument("--only", choices=["http", "redis", "postgres"], help="one kind of server")
    parser.add_argument("--plot", metavar="FILE", help="write an SVG of the figures")
    parser.add_argument(
        "--write",
        metavar="PAGE",
        help="write the table into a page, between its marks",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    react(main, [parse(sys.argv[1:])])

"""Times clients of kolus beside other pools, by turns, before real servers.

Needs nginx, redis-server and PostgreSQL, and the peers of the extra C{bench}; what is missing is
left out, and said.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from tests.bench.core import insert
from tests.bench.peers import asyncio_calls, twisted_calls
from tests.bench.peers.figures import (
    CALLERS,
    LIMIT,
    Figures,
    Row,
    is_bare,
    machine,
    rate_and_cpu,
    table,
    verdicts,
)
from tests.bench.peers.plot import plot
from tests.bench.peers.process import Worker
from tests.clients.conftest import Nginx
from tests.clients.postgres_servers import Postgres, binary_folder, make_cluster
from tests.net import servers
from tests.net.servers import Server

CLIENTS = (*twisted_calls.CALLS, *asyncio_calls.CALLS)

_GRACE = 15.0
"""Seconds that a client may take beyond its time."""

_KILLED = 3.0
"""Seconds of a load whose server is killed, so that it is back before the end."""


def make_worker(reactor: Any, row: Row, server: Any, life: float) -> Worker:
    kind, client, callers = row
    # Held connections that a caller takes in turn would be colder than those of a pool.
    limit = min(LIMIT, callers) if is_bare(client) else LIMIT
    return Worker(reactor, [kind, client, server.port, callers or 50, limit], server.port, life)


async def by_turns(
    reactor: Any, rows: Sequence[Row], server: Any, options: argparse.Namespace
) -> Figures:
    """Clients with the same server and number of callers: each makes a short load in each turn, in
    an order that differs. So what else the machine does hits all of them alike."""
    figures: Figures = defaultdict(list)
    life = len(rows) * (_GRACE + options.turns * options.seconds)
    workers: dict[Row, Worker] = {}
    for row in rows:  # one after the other, to see which opens what
        worker = make_worker(reactor, row, server, life)
        if await worker.is_ready():
            workers[row] = worker
        else:
            print(f"{row[1]}: {worker.complaint()}", file=sys.stderr)
    try:
        for _ in range(options.turns):
            for row, worker in random.sample(sorted(workers.items()), len(workers)):
                told = await worker.load(options.seconds)
                if told is not None:
                    figures[row].append(told)
    finally:
        for worker in workers.values():
            await worker.end()
    return figures


async def with_a_kill(reactor: Any, row: Row, server: Any) -> dict[str, Any] | None:
    """A load in whose middle the server is killed; C{None} if it came to nothing."""
    worker = make_worker(reactor, row, server, _KILLED + _GRACE)
    if not await worker.is_ready():
        print(f"{row[1]}: {worker.complaint()}", file=sys.stderr)
        return None
    load = Deferred.fromCoroutine(worker.load(_KILLED))
    await deferLater(reactor, _KILLED / 3)
    await end(server)
    await deferLater(reactor, 0.2)
    await server.start()
    in_time = not load.called
    told = await load
    await worker.end()
    return told if in_time else None


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


async def main(reactor: Any, options: argparse.Namespace) -> None:
    figures: Figures = {}
    kinds = [options.only] if options.only else list(CALLERS)
    with tempfile.TemporaryDirectory(prefix="kolus") as name:
        folder = Path(name)
        folder.chmod(0o755)
        started = await start_servers(reactor, folder)
        try:
            for kind, callers in [(its, each) for its in kinds for each in CALLERS[its]]:
                print(f"{kind}, {callers} callers", file=sys.stderr)
                rows = [(*each, callers) for each in CLIENTS if each[0] == kind]
                figures |= await by_turns(reactor, rows, started[kind], options)
            pools = [(*each, 0) for each in CLIENTS if each[0] in kinds and not is_bare(each[1])]
            for row in random.sample(pools * options.kills, len(pools) * options.kills):
                print(f"{row[0]}, {row[1]}, server killed", file=sys.stderr)
                told = await with_a_kill(reactor, row, started[row[0]])
                figures.setdefault(row, []).extend([told] if told else [])
        finally:
            for each in started.values():
                await end(each)
    lines = [machine(options.turns), *table(figures, CLIENTS), *verdicts(figures)]
    print("\n".join(lines))
    if options.write:
        page = Path(options.write)
        page.write_text(insert(page.read_text(), "\n".join(lines)), encoding="utf-8")
    if options.plot:
        bars = {
            row: rate_and_cpu(row[2], turns)[0]
            if row[2]
            else median([each["failures"] for each in turns])
            for row, turns in figures.items()
            if turns
        }
        Path(options.plot).write_text(plot(bars), encoding="utf-8")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.peers", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--turns", type=int, default=12, help="how often each (default: 12)")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each load (default: 0.3)")
    parser.add_argument("--kills", type=int, default=3, help="how often each (default: 3)")
    parser.add_argument("--only", choices=list(CALLERS), help="one kind of server")
    parser.add_argument("--plot", metavar="FILE", help="write an SVG of the figures")
    parser.add_argument(
        "--write",
        metavar="PAGE",
        help="write the table into a page, between its marks",
    )
    options = parser.parse_args(arguments)
    if options.write:
        try:
            insert(Path(options.write).read_text(encoding="utf-8"), "")
        except (OSError, ValueError) as error:
            parser.error(f"--write {options.write}: {error}")
    return options


if __name__ == "__main__":
    react(main, [parse(sys.argv[1:])])

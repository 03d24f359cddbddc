"""Shared connections: what a slot costs, and one Redis for many: C{python -m tests.bench.sharing}.

Without Redis only the figures without a network are told.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import react

if not __package__:  # run by its path
    sys.path[0] = str(Path(__file__).parents[2])

from kolus import Backend, IKolusManager, Policy, Pool
from kolus.testing import FakeBackend, result_of
from tests.bench.idle import StillClock, awaited, fake_pool, kolus, tried
from tests.bench.measure import Case, Figures, Meter, Reading, Spread, measure

SLOTS = 32
SIZES = (10, 1_000, 10_000)
CALLERS = 50
COMMANDS = 5000
OPERATIONS = 500
_in_use: list[object] = []
"""Leases that are kept for as long as the program runs."""


class Pipelining(Protocol):
    """Just enough of Redis: a GET whose answer is short, and others may be sent meanwhile."""

    def __init__(self) -> None:
        self._asked: deque[Deferred[bytes]] = deque()
        self._rest = b""

    def get(self, key: bytes) -> Deferred[bytes]:
        asked: Deferred[bytes] = Deferred()
        self._asked.append(asked)
        transport: Any = self.transport
        transport.write(b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key))
        return asked

    def dataReceived(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\r\n")
        self._rest = lines.pop()
        for line in lines:
            if not line.startswith(b"$") or line == b"$-1":
                self._asked.popleft().callback(line)


@contextmanager
def running_redis() -> Iterator[str | None]:
    """Run a redis-server on a socket in a folder of its own.

    @return: its endpoint; C{None} if it is not installed.
    """
    binary = shutil.which("redis-server")
    if binary is None:
        yield None
        return
    with TemporaryDirectory() as folder:
        where = f"{folder}/redis.sock"
        settings = ["--port", "0", "--unixsocket", where, "--save", "", "--dir", folder]
        with subprocess.Popen([binary, *settings], stdout=subprocess.PIPE) as server:
            try:
                assert server.stdout is not None
                while b"ready to accept" not in (line := server.stdout.readline()):
                    assert line, "redis-server has ended"
                yield f"unix:{where}"
            finally:
                server.terminate()


# One lessee


def lease_cases() -> list[Case]:
    """Lease a slot and give it back, of an idle connection and of one that another uses."""
    alone = manager_of(fake_pool(10, slots=SLOTS))
    beside = manager_of(fake_pool(10, slots=SLOTS))
    _in_use.append(beside.try_connect("us"))
    return [
        tried("shared, tried, idle", alone),
        tried("shared, tried, in use", beside),
        awaited("shared, awaited, idle", kolus(alone)),
        awaited("shared, awaited, in use", kolus(beside)),
    ]


def manager_of(made: tuple[Pool[Protocol], Backend]) -> IKolusManager:
    """The manager of a pool, with one idle connection."""
    pool, backend = made
    result_of(pool.connect("us", backend)).release()
    manager = pool.manager(backend)
    assert manager is not None
    return manager


# Many connections


class Full:
    """All connections of a manager are full, and one more is being made for ever."""

    def __init__(self, connections: int) -> None:
        clock = StillClock()
        self._fake = FakeBackend(clock)
        policy = Policy(
            limit=connections + 2, slots=SLOTS, connect_timeout=None, acquire_timeout=None
        )
        self._pool: Pool[Protocol] = Pool(clock, Protocol, policy=policy)
        self._ask = partial(self._pool.connect, "us", Backend(self._fake))
        self._held = deque(result_of(self._ask()) for _ in range(connections * SLOTS))
        self._fake.never_answer()
        self._ask().addCallback(self._held.append)

    def hand_on(self, reading: Reading) -> None:
        """The oldest of two requests gets what is released."""
        self._ask().addCallback(self._held.append)
        with reading:
            self._held.popleft().release()

    def wait(self, reading: Reading) -> None:
        with reading:
            asked = self._ask()
        asked.addErrback(lambda _: None)
        asked.cancel()

    def cancel(self, reading: Reading) -> None:
        asked = self._ask()
        asked.addErrback(lambda _: None)
        with reading:
            asked.cancel()


def full_cases(connections: int, operations: int) -> Iterator[Case]:
    full = Full(connections)

    def case(what: str, act: Callable[[Reading], None]) -> Case:
        async def sample(meter: Meter) -> Mapping[str, float]:
            with meter.parts(operations) as reading:
                for _ in range(operations):
                    act(reading)
            return {f"{what}, {connections} connections": reading.in_f}

        return Case("kolus", sample)

    yield case("hand-off", full.hand_on)
    yield case("wait", full.wait)
    yield case("cancel", full.cancel)


# Redis


async def redis_case(reactor: Any, endpoint: str) -> Case:
    """GETs of so many callers, on one connection without a pool, and leased for each."""
    bare = await connectProtocol(clientFromString(reactor, endpoint), Pipelining())
    pool = Pool(reactor, Pipelining, policy=Policy(slots=SLOTS))

    async def get_bare(number: int) -> None:
        for _ in range(number):
            await bare.get(b"key")

    async def get_leased(number: int) -> None:
        for _ in range(number):
            lease = await pool.connect("us", endpoint)
            await lease.protocol.get(b"key")
            lease.release()

    async def sample(meter: Meter) -> Mapping[str, float]:
        figures = {}
        for what, get in (("bare", get_bare), ("shared", get_leased)):
            with meter.whole(COMMANDS) as reading:
                each = COMMANDS // CALLERS
                await gatherResults([Deferred.fromCoroutine(get(each)) for _ in range(CALLERS)])
            figures[f"Redis GET, {CALLERS} callers, {what}"] = reading.in_f
        bare_f, shared_f = figures.values()
        return figures | {f"Redis GET, {CALLERS} callers, above bare": shared_f - bare_f}

    return Case("kolus", sample)


# All of it


def lines(figures: Figures, names: Iterable[str]) -> Iterator[str]:
    yield "| what | F: median (quartiles) |"
    yield "| --- | --- |"
    for name in names:
        spread = Spread.of(figures.of(name, "kolus"))
        yield f"| {name} | {spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f}) |"


async def run(reactor: Any, options: Namespace) -> None:
    cases = lease_cases()
    for connections in options.connections:
        cases += full_cases(connections, options.operations)
    with running_redis() as endpoint:
        if endpoint is not None:
            cases.append(await redis_case(reactor, endpoint))
        told: dict[str, None] = {}
        figures = await measure(cases, options.rounds, Meter(), Random())
        for case in cases:
            told |= dict.fromkeys(await case.sample(Meter()))
    print("\n".join(lines(figures, told)))


def parse(arguments: list[str]) -> Namespace:
    parser = ArgumentParser(prog="python -m tests.bench.sharing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="default: %(default)s")
    parser.add_argument(
        "--connections", type=int, nargs="*", default=SIZES, help="default: %(default)s"
    )
    parser.add_argument(
        "--operations", type=int, default=OPERATIONS, help="of a sample (default: %(default)s)"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    react(run, [parse(sys.argv[1:])])

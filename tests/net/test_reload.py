"""SIGHUP to C{twistd kolus}: it reads its file again, and drops no client."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.net.child import twistd
from tests.net.tunnel_peers import Peer, backend, connected

pytestmark = pytest.mark.long

FILE = """
grace = {grace}
[groups.main]
backends = [{backends}]
limit = {limit}
connect_timeout = {connect_timeout}
[listeners.main]
listen = [{listen}]
queue_timeout = {queue_timeout}
client_timeout = {client_timeout}
"""
USUAL = {
    "grace": 30,
    "limit": 50,
    "connect_timeout": 5,
    "listen": '"tcp:0:interface=127.0.0.1"',
    "queue_timeout": 30,
    "client_timeout": 600,
}
RELOADED = "the configuration is reloaded"


def write(path: Path, *endpoints: str, **values: object) -> None:
    """Write a configuration, in one step, so that nobody reads half of it."""
    listed = ", ".join(f'"{each}"' for each in endpoints)
    beside = path.with_suffix(".new")
    beside.write_text(FILE.format(backends=listed, **(USUAL | values)))
    beside.rename(path)


async def ask(peer: Peer, question: bytes) -> bool:
    """Whether the bytes come back on an open connection."""
    before = len(peer.got)
    peer.send(question)
    await peer.has(before + len(question))
    return bytes(peer.got[before:]) == question


@pytest_twisted.ensureDeferred
async def test_a_hangup_reads_the_file_again_and_a_broken_file_is_told_with_its_lines(
    tmp_path: Path,
) -> None:
    path = tmp_path / "kolus.toml"
    async with backend(reactor) as one, backend(reactor) as two:
        write(path, one.endpoint)
        async with twistd(reactor, "--config", path) as child:
            port = await child.port()
            async with connected(reactor, port) as first:
                assert await ask(first, b"before")
                write(path, two.endpoint)
                child.signal("HUP")
                await child.seen(RELOADED)
                async with connected(reactor, port) as second:
                    assert await ask(second, b"after")
                assert (len(one.peers), len(two.peers)) == (1, 1)
                assert await ask(first, b"the backend has left, and its client stays")
                write(path, two.endpoint, limit=0, queue_timeout='"soon"')
                child.signal("HUP")
                await child.seen("the configuration stays as it was")
                await child.seen(r"kolus\.toml, line 5: groups\.main\.limit")
                await child.seen(r"kolus\.toml, line 9: listeners\.main\.queue_timeout")
                assert await ask(first, b"still")
                async with connected(reactor, port) as third:
                    assert await ask(third, b"new")


@pytest_twisted.ensureDeferred
async def test_a_hangup_every_fifth_of_a_second_under_load_drops_no_client(tmp_path: Path) -> None:
    path = tmp_path / "kolus.toml"
    rng = random.Random(12)
    is_over = False
    exchanges = 0

    async def stays(port: int) -> None:
        async with connected(reactor, port) as peer:
            while not is_over:
                assert await ask(peer, rng.randbytes(rng.randrange(1, 30_000)))

    async def comes_and_goes(port: int) -> None:
        nonlocal exchanges
        while not is_over:
            question = rng.randbytes(rng.randrange(1, 30_000))
            async with connected(reactor, port) as peer:
                peer.send(question, end=True)
                await peer.ended()
                assert bytes(peer.got) == question
            exchanges += 1

    async with backend(reactor) as one, backend(reactor) as two:
        both = (one.endpoint, two.endpoint)
        write(path, *both)
        async with twistd(reactor, "--config", path) as child:
            port = await child.port()
            clients = [Deferred.fromCoroutine(stays(port)) for _ in range(10)]
            clients += [Deferred.fromCoroutine(comes_and_goes(port)) for _ in range(10)]
            served = gatherResults(clients, consumeErrors=True)
            for turn in range(20):
                write(
                    path,
                    *both[: 1 + turn % 2],
                    limit=30 + turn,
                    connect_timeout=5 + turn % 3,
                    client_timeout=600 + turn,
                    listen=", ".join([USUAL["listen"], '"tcp:0"'][: 1 + turn % 2]),  # type: ignore[list-item]
                )
                child.signal("HUP")
                await deferLater(reactor, 0.2)
            is_over = True
            await served
            assert exchanges > 20
            assert child.output.count(RELOADED) >= 10
            assert "stays as it was" not in child.output
            child.signal()
            await child.ended()
            assert "Traceback" not in child.output
            assert "0 refused" in child.output

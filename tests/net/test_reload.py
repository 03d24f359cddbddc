"""SIGHUP to C{twistd kolus}: it reads its file again, and drops no client."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from tests.net.child import Child, twistd
from tests.net.servers import free_port
from tests.net.tunnel_peers import Echo, Peer, backend, connected, until

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


class Greeter(Echo):
    """An echo that first says which backend it is."""

    name: bytes

    @classmethod
    def of(cls, name: bytes) -> Callable[[], Peer]:
        return type("Named", (cls,), {"name": name})

    def connectionMade(self) -> None:
        super().connectionMade()
        self.transport.write(self.name)


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


MOVED = """
[groups.one]
backends = ["{one}"]
[groups.two]
backends = ["{two}"]
[listeners.{names[0]}]
listen = ["{addresses[0]}"]
group = "one"
[listeners.{names[1]}]
listen = ["{addresses[1]}"]
group = "two"
"""


@pytest_twisted.ensureDeferred
async def test_addresses_move_between_listeners_and_no_client_is_refused(tmp_path: Path) -> None:
    path, is_over, served = tmp_path / "kolus.toml", False, Counter[bytes]()
    addresses = [f"tcp:{free_port()}:interface=127.0.0.1", f"unix:{tmp_path / 'socket'}"]
    ends = [f"tcp:127.0.0.1:{addresses[0].split(':')[1]}", f"unix:{tmp_path / 'socket'}"]

    def rewrite(names: str, *, exchanged: bool = False) -> None:
        its = addresses[::-1] if exchanged else addresses
        told = MOVED.format(one=one.endpoint, two=two.endpoint, names=names, addresses=its)
        beside = path.with_suffix(".new")
        beside.write_text(told)
        beside.rename(path)

    async def greeting(end: str) -> bytes:
        async with connected(reactor, end) as peer:
            await peer.has(3)
            return bytes(peer.got)

    async def come_and_go(end: str) -> None:
        while not is_over:
            served[await greeting(end)] += 1

    async def become(child: Child, names: str, *, exchanged: bool = False) -> None:
        before, came = child.output.count(RELOADED), served.total()
        rewrite(names, exchanged=exchanged)
        child.signal("HUP")
        await until(reactor, lambda: child.output.count(RELOADED) > before)
        await until(reactor, lambda: served.total() >= came + 2)

    async with (
        backend(reactor, Greeter.of(b"one")) as one,
        backend(reactor, Greeter.of(b"two")) as two,
    ):
        rewrite("ab")
        async with twistd(reactor, "--config", path) as child:
            await child.seen("kolus listens on .*socket")
            async with connected(reactor, ends[0]) as first:
                await first.has(3)
                clients = [Deferred.fromCoroutine(come_and_go(each)) for each in ends * 4]
                served_all = gatherResults(clients, consumeErrors=True)
                for _ in range(10):
                    await become(child, "ab", exchanged=True)
                    assert [await greeting(each) for each in ends] == [b"two", b"one"]
                    await become(child, "ac")
                    assert [await greeting(each) for each in ends] == [b"one", b"two"]
                    await become(child, "bc")
                    await become(child, "ab")
                    assert [await greeting(each) for each in ends] == [b"one", b"two"]
                is_over = True
                await served_all
                assert min(served.values()) >= 10
                first.send(b", still")
                await first.has(10)
                assert bytes(first.got) == b"one, still"
            child.signal()
            await child.ended()
            assert "Traceback" not in child.output
            assert "stays as it was" not in child.output
            assert not (tmp_path / "socket").exists()


@pytest_twisted.ensureDeferred
async def test_a_hangup_after_each_few_clients_under_load_drops_no_client(tmp_path: Path) -> None:
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
                before, enough = child.output.count(RELOADED), exchanges + 2
                child.signal("HUP")
                await until(
                    reactor,
                    lambda before=before, enough=enough: (  # type: ignore[misc]
                        child.output.count(RELOADED) > before and exchanges >= enough
                    ),
                )
            is_over = True
            await served
            assert child.output.count(RELOADED) == 20
            assert "stays as it was" not in child.output
            child.signal()
            await child.ended()
            assert "Traceback" not in child.output
            assert "0 refused" in child.output

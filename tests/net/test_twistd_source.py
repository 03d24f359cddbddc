"""C{twistd kolus --source}: a child process whose backends come and go while it runs."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from tests.net.child import LISTEN, Child, twistd
from tests.net.tunnel_peers import Backend, Peer, backend, connected, until

pytestmark = pytest.mark.long

TERMINATED = -signal.SIGTERM
WAIT = "--wait=30"
ANYWAY = "--wait-for-source=yes"
_DAEMON = "import sys; sys.argv[1:3] = {options!r}; from twisted.scripts.twistd import run; run()"


def listing(*backends: Backend) -> str:
    return "".join(f'[[backend]]\nendpoint = "{each.endpoint}"\n' for each in backends)


def replace(path: Path, text: str) -> None:
    """Write a file as careful programs do: it is never there by half."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "backends.toml"


def following(path: Path, *options: str) -> Child:
    return twistd(reactor, "--source", f"file:{path}", *LISTEN, *options)


async def is_served(port: int, data: bytes = b"hello") -> bool:
    """Whether a client gets back from an echoing backend what it sends."""
    async with connected(reactor, port) as client:
        client.send(data, end=True)
        await client.ended()
        return bytes(client.got) == data


async def clients_reach(port: int, where: Backend) -> None:
    """Let clients come, each of whom is served, until one of them reaches that backend."""
    before = len(where.peers)
    for _ in range(1000):
        assert await is_served(port)
        if len(where.peers) > before:
            return
    raise AssertionError("a thousand clients were served elsewhere")


@asynccontextmanager
async def echoes(count: int) -> AsyncIterator[list[Backend]]:
    """So many backends that send back what comes."""
    if count == 0:
        yield []
        return
    async with backend(reactor) as one, echoes(count - 1) as more:
        yield [one, *more]


@pytest_twisted.ensureDeferred
async def test_clients_move_to_the_backends_that_the_changed_file_lists(path: Path) -> None:
    async with echoes(2) as (old, new):
        replace(path, listing(old))
        async with following(path) as child:
            port = await child.port()
            assert await is_served(port)
            replace(path, listing(new))
            await clients_reach(port, new)
            served = len(old.peers)
            assert (
                await gatherResults([Deferred.fromCoroutine(is_served(port)) for _ in range(20)])
                == [True] * 20
            )
            assert len(old.peers) == served


@pytest_twisted.ensureDeferred
async def test_both_backends_of_a_file_serve(path: Path) -> None:
    async with echoes(2) as both:
        replace(path, listing(*both))
        async with following(path, "--balance=round_robin") as child:
            port = await child.port()
            assert [await is_served(port) for _ in range(6)] == [True] * 6
            assert [len(each.peers) for each in both] == [3, 3]


@pytest_twisted.ensureDeferred
async def test_a_broken_file_keeps_the_old_list_and_the_log_tells_where(path: Path) -> None:
    async with echoes(2) as (old, new):
        replace(path, listing(old))
        async with following(path) as child:
            port = await child.port()
            assert await is_served(port)
            replace(path, listing(new) + "[[backend]]\nendpont = 5\n")
            await child.seen(rf"{path}, line 4: unknown key 'endpont'.*; the last good list stays")
            assert [await is_served(port) for _ in range(5)] == [True] * 5
            assert new.peers == []
            replace(path, listing(new))
            await child.seen(rf"{path} is usable again")
            await clients_reach(port, new)


@pytest_twisted.ensureDeferred
async def test_a_file_that_goes_away_keeps_the_old_list(path: Path) -> None:
    async with echoes(1) as (only,):
        replace(path, listing(only))
        async with following(path) as child:
            port = await child.port()
            assert await is_served(port)
            path.unlink()
            await child.seen(rf"{path} cannot be read: .*; the last good list stays")
            assert await is_served(port)


@pytest_twisted.ensureDeferred
async def test_clients_that_come_before_the_first_list_wait_for_it(path: Path) -> None:
    async with echoes(1) as (only,), following(path, WAIT, ANYWAY) as child:
        await child.seen(rf"{path} cannot be read: .*; there is no list yet")
        port = await child.port()
        async with connected(reactor, port) as early:
            early.send(b"I am early", end=True)
            replace(path, listing(only))
            await early.ended()
            assert early.got == b"I am early"


@pytest_twisted.ensureDeferred
async def test_a_client_that_no_list_comes_for_is_closed_and_the_log_names_the_source(
    path: Path,
) -> None:
    async with following(path, "--wait=0.2", ANYWAY) as child:
        async with connected(reactor, await child.port()) as client:
            await client.ended()
        await child.seen(rf"{path} cannot be read: No such file.*; there is no list yet")
        await child.seen("a client got no lease .*NoBackend: <Group 'default' of 0 backends>")


@pytest_twisted.ensureDeferred
async def test_a_client_keeps_its_backend_when_that_leaves_the_file(path: Path) -> None:
    async with echoes(2) as (old, new):
        replace(path, listing(old))
        async with following(path) as child:
            port = await child.port()
            async with connected(reactor, port) as client:
                client.send(b"before")
                await client.has(6)
                replace(path, listing(new))
                await clients_reach(port, new)
                client.send(b", after", end=True)
                await client.ended()
                assert client.got == b"before, after"
            await until(reactor, lambda: not old.connected)


@pytest_twisted.ensureDeferred
async def test_sigterm_lets_the_clients_of_old_and_new_backends_finish(path: Path) -> None:
    async with echoes(2) as (old, new):
        replace(path, listing(old))
        async with following(path, "--limit=1", WAIT) as child:
            port = await child.port()
            async with connected(reactor, port) as first:
                await _begin(first)
                replace(path, listing(new))
                await clients_reach(port, new)
                async with connected(reactor, port) as second, connected(reactor, port) as queued:
                    await _begin(second)
                    queued.send(b"queued", end=True)
                    child.signal()
                    await child.seen("waiting up to 30 s for 3 clients to finish")
                    for each in (first, second):
                        each.send(b", finished", end=True)
                    await gatherResults([each.ended() for each in (first, second, queued)])
                    assert first.got == second.got == b"begun, finished"
                    assert queued.got == b"queued"
            assert await child.ended() == TERMINATED
            assert old.connected == new.connected == []


async def _begin(client: Peer) -> None:
    client.send(b"begun")
    await client.has(5)


@pytest_twisted.ensureDeferred
async def test_a_client_without_a_list_does_not_hold_up_sigterm_beyond_the_grace(
    path: Path,
) -> None:
    async with following(path, WAIT, ANYWAY, "--grace=0.2") as child:
        port = await child.port()
        async with connected(reactor, port) as client:
            await child.seen("there is no list yet")  # from now on only if it is running
            replace(path, "backend = []")
            await child.seen(rf"{path}, line 1: it lists no backend; there is no list yet")
            child.signal()
            await child.seen("the grace is over: 1 clients are aborted")
            await client.lost()
        assert await child.ended() == TERMINATED


@pytest_twisted.ensureDeferred
async def test_connections_are_ready_at_a_backend_as_soon_as_the_file_lists_it(path: Path) -> None:
    async with echoes(2) as (old, new):
        replace(path, listing(old))
        async with following(path, "--connect-ahead=3") as child:
            await until(reactor, lambda: len(old.connected) == 3)
            replace(path, listing(old, new))
            await until(reactor, lambda: len(new.connected) == 3)
            assert len(old.connected) == 3
            replace(path, listing(new))
            await until(reactor, lambda: not old.connected)
            ready = list(new.connected)
            assert await is_served(await child.port())
            assert any(each.has_read for each in ready)


@pytest_twisted.ensureDeferred
async def test_a_daemon_follows_its_file(path: Path) -> None:
    options = ["--logfile=log", f"--pidfile={path.parent / 'pid'}"]
    async with echoes(2) as (old, new):
        replace(path, listing(old))
        parent = twistd(
            reactor,
            *("--source", f"file:{path.name}", *LISTEN, "--connect-ahead=1"),
            cwd=path.parent,
            run=_DAEMON.format(options=options),
        )
        async with parent, _daemon(parent, path.parent) as log:
            await until(reactor, lambda: "kolus listens on" in log.read_text())
            port = int(log.read_text().partition("kolus listens on 127.0.0.1:")[2].split()[0])
            assert await is_served(port)
            replace(path, listing(new))
            await clients_reach(port, new)
        assert "inotify cannot be used" not in log.read_text()
        await until(reactor, lambda: "Server Shut Down" in log.read_text())  # after its pid


@asynccontextmanager
async def _daemon(parent: Child, folder: Path) -> AsyncIterator[Path]:
    """The daemon that a child has left behind, which is ended at the end of the block.

    @return: the path of its log.
    """
    assert await parent.ended() == 0
    pid = int((folder / "pid").read_text())
    try:
        yield folder / "log"
        os.kill(pid, signal.SIGTERM)
        await until(reactor, lambda: not (folder / "pid").exists())
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise


@pytest_twisted.ensureDeferred
async def test_the_addresses_of_a_name_are_followed() -> None:
    async with echoes(1) as (only,):
        host: Any = only.port.getHost()
        async with twistd(
            reactor, "--source", f"dns:localhost:{host.port}", *LISTEN, WAIT
        ) as child:
            assert await is_served(await child.port())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--source", "file:a.toml", "--backend", "tcp:127.0.0.1:1"], "are both given: expected"),
        (["--source", "file:a.toml", "--source", "dns:a.example:1"], "--source is given twice"),
        (["--source", "backends.toml"], "not a source: 'backends.toml'; expected dns:NAME:PORT"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_wrong_source_ends_it_before_anything_listens(
    arguments: list[str], expected: str
) -> None:
    async with twistd(reactor, *arguments, *LISTEN) as child:
        assert await child.ended() == 1
        assert any(expected in line for line in child.lines)
        assert "starting up" not in child.output

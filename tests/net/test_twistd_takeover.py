"""C{twistd kolus --takeover}: a new process takes the place of one that serves.

With more clients, by hand: C{KOLUS_RESTART_CLIENTS=10000 python -m pytest -m '' -o
faulthandler_timeout=0 tests/net/test_twistd_takeover.py -k five_restarts}
"""

from __future__ import annotations

import os
import random
import socket
import stat
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from tests.net.child import Child, twistd
from tests.net.tunnel_peers import Backend, backend, connected, until
from tests.rigs.patience import PATIENCE

pytestmark = pytest.mark.long

CLIENTS = int(os.environ.get("KOLUS_RESTART_CLIENTS", "1000"))
RESTARTS = 5
AT_ONCE = 20


def start(
    echoes: Backend, path: Path, listen: str = "tcp:0:interface=127.0.0.1", *more: str
) -> Child:
    options = ("--backend", echoes.endpoint, "--limit=100", "--wait=30", "--grace=900")
    options += ("--listen", listen)
    return twistd(reactor, *options, f"--takeover={path}", *more)


async def ready(child: Child, path: Path) -> None:
    """Wait until it serves, and the next process can ask it."""
    await child.seen("kolus listens on")
    await until(reactor, path.exists)


@pytest.mark.time_limit(2 * PATIENCE + CLIENTS / 10)
@pytest_twisted.ensureDeferred
async def test_clients_over_five_restarts_none_refused_and_no_byte_lost(tmp_path: Path) -> None:
    path = tmp_path / "takeover"
    rng = random.Random(5)
    done = 0

    async def one_client(port: int) -> None:
        nonlocal done
        data = rng.randbytes(rng.randrange(1, 20_000))
        async with connected(reactor, port) as client:
            client.send(data, end=True)
            await client.ended()
            assert bytes(client.got) == data
        done += 1

    async def clients(port: int) -> None:
        for _ in range(CLIENTS // AT_ONCE):
            await one_client(port)

    async with backend(reactor) as echoes, AsyncExitStack() as stack:
        child = await stack.enter_async_context(start(echoes, path))
        port = await child.port()
        await ready(child, path)
        staying = await stack.enter_async_context(connected(reactor, port))
        staying.send(b"from the first ")
        coming = gatherResults(
            [Deferred.fromCoroutine(clients(port)) for _ in range(AT_ONCE)], consumeErrors=True
        )
        processes = [child]
        for at in range(1, RESTARTS + 1):
            enough = CLIENTS * at // (RESTARTS + 2)
            await until(
                reactor,
                lambda enough=enough: done >= enough or coming.called,
                PATIENCE + CLIENTS / 10,
            )
            child = await stack.enter_async_context(start(echoes, path))
            processes.append(child)
            await processes[-2].seen("a new process has taken over")
            await ready(child, path)
        await coming
        assert done == CLIENTS // AT_ONCE * AT_ONCE
        staying.send(b"to the last", end=True)
        await staying.ended()
        assert bytes(staying.got) == b"from the first to the last"
        for each in processes[:-1]:
            assert await each.ended() == 0


@pytest_twisted.ensureDeferred
async def test_unix_sockets_with_their_modes_and_the_admin_server_are_taken_over(
    tmp_path: Path,
) -> None:
    path, address = tmp_path / "takeover", tmp_path / "front"
    listen = f"unix:{address}:mode=600"

    def ask(address: Path) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(address))
            client.sendall(b"GET /api/v1/status HTTP/1.0\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            return client.recv(100)

    admin = tmp_path / "admin"
    more = f"--admin-listen=unix:{admin}"
    async with backend(reactor) as echoes, start(echoes, path, listen, more) as old:
        await ready(old, path)
        async with start(echoes, path, listen, more) as new:
            assert await old.ended() == 0
            await ready(new, path)
            assert stat.S_IMODE(address.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert (await deferToThread(ask, address)).startswith(b"GET")
            assert (await deferToThread(ask, admin)).startswith(b"HTTP/1.0 200")


@pytest_twisted.ensureDeferred
async def test_a_new_process_that_cannot_serve_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "takeover"
    async with backend(reactor) as echoes, start(echoes, path) as old:
        port = await old.port()
        await ready(old, path)
        async with start(echoes, path, "tcp:0:interface=192.0.2.1") as new:
            assert await new.ended() == 1
            assert "no such address" in new.lines[-1]
        await old.seen("a new process came to take over, and has ended")
        async with connected(reactor, port) as client:
            client.send(b"hello", end=True)
            await client.ended()
            assert bytes(client.got) == b"hello"
        async with start(echoes, path) as next_one:
            assert await old.ended() == 0
            await next_one.seen("kolus listens on")


@pytest_twisted.ensureDeferred
async def test_a_path_at_which_somebody_else_listens_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "takeover"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(1)
        async with backend(reactor) as echoes, start(echoes, path) as child:
            await until(reactor, lambda: _hung_up(other))
            assert await child.ended() == 1
            assert f"the process that listens on {path} gives no sockets" in child.lines[-1]
            assert "Traceback" not in child.output


def _hung_up(other: socket.socket) -> bool:
    other.setblocking(False)
    try:
        other.accept()[0].close()
    except BlockingIOError:
        return False
    return True

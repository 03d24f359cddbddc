"""C{twistd kolus} as an operator runs it: a child process, with real clients and backends."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectError
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.net.child import LISTEN, Child, twistd
from tests.net.servers import free_port
from tests.net.tunnel_peers import Peer, backend, connected, until

MIB = 1024 * 1024
TERMINATED = -signal.SIGTERM


def backends(*peers: Any) -> list[str]:
    return [argument for each in peers for argument in ("--backend", each.endpoint)]


async def exchange(port: int, data: bytes) -> bool:
    """Send, half-close, and read to the end.

    @return: whether the same bytes have come back.
    """
    async with connected(reactor, port) as client:
        client.send(data, end=True)
        await client.ended()
        return bytes(client.got) == data


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_two_hundred_clients_over_two_backends_of_limit_five_get_every_byte() -> None:
    rng = random.Random(2)
    questions = [rng.randbytes(rng.randrange(1, 60_000)) for _ in range(200)]
    async with (
        backend(reactor) as one,
        backend(reactor) as two,
        twistd(reactor, *backends(one, two), *LISTEN, "--limit=5", "--wait=30") as child,
    ):
        port = await child.port()
        answers = await gatherResults(
            [Deferred.fromCoroutine(exchange(port, each)) for each in questions]
        )
        assert answers == [True] * 200
        assert 2 <= one.most <= 5
        assert 2 <= two.most <= 5
        # One each, and perhaps some that were begun beside a slow one, and kept.
        assert 200 <= len(one.peers) + len(two.peers) <= 210
        child.signal()
        total = sum(map(len, questions))
        await child.seen(
            rf"200 clients were served, 0 refused; {total} bytes went to backends, {total} to"
        )
        assert await child.ended() == TERMINATED


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_sigterm_in_the_middle_of_transfers_loses_none_of_them() -> None:
    rng = random.Random(3)
    questions = [rng.randbytes(300_000) for _ in range(12)]
    async with (
        backend(reactor) as echoes,
        twistd(reactor, *backends(echoes), *LISTEN, "--limit=5", "--wait=30") as child,
    ):
        port = await child.port()
        held: Deferred[None] = Deferred()
        under_way: list[Peer] = []

        async def transfer(data: bytes) -> bool:
            async with connected(reactor, port) as client:
                client.send(data[:1000])
                under_way.append(client)
                await _fired(held)
                client.send(data[1000:], end=True)
                await client.ended()
                return bytes(client.got) == data

        transfers = [Deferred.fromCoroutine(transfer(each)) for each in questions]
        await until(reactor, lambda: sum(len(each.got) == 1000 for each in under_way) == 5)
        await until(reactor, lambda: len(under_way) == len(questions))
        child.signal()
        await child.seen("waiting up to 30 s for 12 clients to finish")
        with pytest.raises(ConnectError):
            await exchange(port, b"too late")
        held.callback(None)
        assert await gatherResults(transfers) == [True] * 12
        await child.seen("12 clients were served")
        assert await child.ended() == TERMINATED


def _fired(event: Deferred[None]) -> Deferred[None]:
    """Wait for an event that others wait for too."""
    waiting: Deferred[None] = Deferred()
    event.chainDeferred(waiting) if event.called else event.addCallback(
        lambda _: waiting.callback(None)
    )
    return waiting


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_clients_that_were_not_accepted_yet_when_sigterm_came_are_served() -> None:
    async with (
        backend(reactor) as echoes,
        twistd(reactor, *backends(echoes), *LISTEN, "--max-waiters=1000", "--wait=30") as child,
    ):
        port = await child.port()
        assert await exchange(port, b"it runs")
        child.signal("STOP")
        exchanges = [Deferred.fromCoroutine(exchange(port, b"x" * 1000)) for _ in range(300)]
        await until(reactor, lambda: _connections_to(port) >= 300)
        child.signal()
        child.signal("CONT")
        assert await gatherResults(exchanges) == [True] * 300
        assert await child.ended() == TERMINATED


def _connections_to(port: int) -> int:
    """How many clients the kernel has connected to a port of this machine."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    remote = f"0100007F:{port:04X}"
    established, fin_sent, fin_acknowledged = "01", "04", "05"
    states = (established, fin_sent, fin_acknowledged)
    return sum(row[2] == remote and row[3] in states for row in rows)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_clients_that_outstay_the_grace_are_aborted_and_counted() -> None:
    async with (
        backend(reactor) as echoes,
        twistd(
            reactor, *backends(echoes), *LISTEN, "--limit=1", "--wait=60", "--grace=0.2"
        ) as child,
    ):
        port = await child.port()
        async with connected(reactor, port) as served, connected(reactor, port) as queued:
            served.send(b"x")
            await served.has(1)
            child.signal()
            await child.seen("the grace is over: 2 clients are aborted")
            assert await child.ended() == TERMINATED
            await gatherResults([served.lost(), queued.lost()])
            assert served.was_reset
            assert queued.was_reset
            assert echoes.connected == []


@pytest.mark.long
@pytest.mark.parametrize("slow", ["client", "backend"])
@pytest_twisted.ensureDeferred
async def test_a_gibibyte_through_a_slow_reader_needs_little_memory(slow: str) -> None:
    far = socket.create_server(("127.0.0.1", 0))
    with far:
        address = f"tcp:127.0.0.1:{far.getsockname()[1]}"
        async with twistd(reactor, "--backend", address, *LISTEN) as child:
            near = socket.create_connection(("127.0.0.1", await child.port()))
            there: Any = await deferToThread(far.accept)
            sink, source = (near, there[0]) if slow == "client" else (there[0], near)
            with sink, source:
                before = child.memory("VmRSS")
                await _send_and_receive(source, sink, 1024)
                assert child.memory("VmHWM") - before < 32 * MIB


async def _send_and_receive(source: socket.socket, sink: socket.socket, blocks: int) -> None:
    """Send so many MiB; receive nothing before the sender is stuck; compare the checksums."""
    block = random.Random(4).randbytes(MIB)
    sent = 0

    def send(some: Callable[[], bool]) -> int:
        checksum = 0
        nonlocal sent
        while sent < blocks and some():
            source.sendall(block)
            checksum = zlib.crc32(block, checksum)
            sent += 1
        return checksum

    def receive() -> int:
        checksum = 0
        buffer = bytearray(MIB)
        while size := sink.recv_into(buffer):
            checksum = zlib.crc32(memoryview(buffer)[:size], checksum)
        return checksum

    def send_all() -> int:
        checksum = send(lambda: True)
        source.shutdown(socket.SHUT_WR)
        return checksum

    sending = deferToThread(send_all)
    await _stuck(lambda: sent)
    assert sent < 64
    received = await deferToThread(receive)
    assert received == await sending


async def _stuck(progress: Callable[[], int]) -> None:
    """Wait until a number that grows has not grown for half a second."""
    last, since = -1, reactor.seconds()

    def still() -> bool:
        nonlocal last, since
        if progress() != last:
            last, since = progress(), reactor.seconds()
        return reactor.seconds() - since > 0.5

    await until(reactor, still)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_connections_are_ready_before_a_client_comes_and_after_it_went() -> None:
    async with (
        backend(reactor) as echoes,
        twistd(reactor, *backends(echoes), *LISTEN, "--connect-ahead=3") as child,
    ):
        port = await child.port()
        await until(reactor, lambda: len(echoes.connected) == 3)
        ready = list(echoes.peers)
        async with connected(reactor, port) as client:
            client.send(b"hello", end=True)
            await client.ended()
            assert bytes(client.got) == b"hello"
        assert any(each.has_read for each in ready)
        await until(reactor, lambda: len(echoes.connected) == 3)
        assert echoes.most <= 4


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_backend_that_is_away_at_the_start_gets_its_connections_when_it_comes() -> None:
    port = free_port()
    endpoint = f"tcp:127.0.0.1:{port}"
    async with twistd(reactor, "--backend", endpoint, *LISTEN, "--connect-ahead=2") as child:
        await child.seen(rf"cannot connect to {endpoint}")
        await child.port()
        async with backend(reactor, listen=f"tcp:{port}:interface=127.0.0.1") as back:
            await until(reactor, lambda: len(back.connected) == 2)


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_refused_client_is_closed_and_the_log_says_so_once_a_second() -> None:
    endpoint = f"tcp:127.0.0.1:{free_port()}"
    async with twistd(reactor, "--backend", endpoint, *LISTEN) as child:
        port = await child.port()
        began = reactor.seconds()
        for _ in range(3):
            await gatherResults([Deferred.fromCoroutine(_refused(port)) for _ in range(10)])
        await until(reactor, lambda: sum(_told(child)) == 30)
        assert len(_told(child)) <= 1 + reactor.seconds() - began
        child.signal()
        await child.seen("0 clients were served, 30 refused")
        said = [line for line in child.lines if "a client got no lease" in line]
        assert len(said) == len(_told(child))
        assert all("ConnectFailed" in line and endpoint in line for line in said)


def _told(child: Child) -> list[int]:
    """How many clients each line tells of that got no lease."""
    told = re.findall(r"a client got no lease .*\((\d+) more since", child.output)
    return [1 + int(more) for more in told]


async def _refused(port: int) -> None:
    async with connected(reactor, port) as client:
        await client.ended()
        assert client.got == b""


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_client_for_whom_there_is_no_room_is_closed() -> None:
    async with (
        backend(reactor) as echoes,
        twistd(
            reactor, *backends(echoes), *LISTEN, "--limit=1", "--max-waiters=0", "--wait=30"
        ) as child,
    ):
        port = await child.port()
        async with connected(reactor, port) as served:
            served.send(b"x")
            await served.has(1)
            await _refused(port)
            await child.seen("a client got no lease .*PoolFull")


@pytest.mark.long
@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize("fast", ["yes", "no"])
@pytest_twisted.ensureDeferred
async def test_clients_wait_for_a_backend_that_restarts_if_they_are_not_to_fail_fast(
    ahead: int, fast: str
) -> None:
    place = f"tcp:{free_port()}:interface=127.0.0.1"
    options = [f"--connect-ahead={ahead}", f"--fail-fast={fast}", "--wait=20"]
    async with AsyncExitStack() as stack:
        async with backend(reactor, listen=place) as echoes:
            given = backends(echoes)
            child = await stack.enter_async_context(twistd(reactor, *given, *LISTEN, *options))
            port = await child.port()
            assert await exchange(port, b"before")
        clients = []
        for _ in range(5):
            clients.append(await stack.enter_async_context(connected(reactor, port)))
            clients[-1].send(b"x")
            await deferLater(reactor, 0.1)
        if fast == "yes":
            await gatherResults([each.ended() for each in clients])
            return
        assert not any(each.has_read or each.reason for each in clients)
        async with backend(reactor, listen=place):
            await gatherResults([each.has(1) for each in clients])


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_client_waits_no_longer_than_it_is_told() -> None:
    async with (
        backend(reactor) as echoes,
        twistd(reactor, *backends(echoes), *LISTEN, "--limit=1", "--wait=0.2") as child,
    ):
        port = await child.port()
        async with connected(reactor, port) as served:
            served.send(b"x")
            await served.has(1)
            await _refused(port)
            await child.seen("a client got no lease .*LeaseTimeout")


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_a_port_in_use_ends_it_with_a_clear_last_line() -> None:
    async with backend(reactor) as echoes, backend(reactor) as other:
        listen = f"tcp:{other.port.getHost().port}:interface=127.0.0.1"
        async with twistd(reactor, *backends(echoes), "--listen", listen) as child:
            assert await child.ended() == 1
            assert (
                f"cannot listen on {listen}: the address is in use by process {os.getpid()}, "
                in (child.lines[-1])
            )


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "no --backend"),
        (["--backend", "tcp:127.0.0.1:1"], "no --listen"),
        (["--backend", "tcp:127.0.0.1:1", *LISTEN, "--limit", "none"], "'none'"),
        (["--backend", "nowhere", *LISTEN], "'nowhere'"),
        (["--backend", "tcp:127.0.0.1:1", *LISTEN, "--balance", "fair"], "'fair'"),
        (["--demo", "3", *LISTEN], "leave out --listen"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_wrong_option_ends_it_before_anything_listens(
    arguments: list[str], expected: str
) -> None:
    async with twistd(reactor, *arguments) as child:
        assert await child.ended() == 1
        assert expected in child.lines[-1]
        assert "starting up" not in child.output


@pytest.mark.long
@pytest_twisted.ensureDeferred
async def test_help_tells_the_options_and_succeeds() -> None:
    async with twistd(reactor, "--help") as child:
        assert await child.ended() == 0
        assert "--connect-ahead=" in child.output


@pytest.mark.long
def test_what_is_not_asked_for_is_not_imported() -> None:
    code = "import sys, kolus.daemon.tap; print(*sys.modules)"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    unused = {"kolus.admin", "kolus.daemon.demo.demo", "prometheus_client", "twisted.web.server"}
    assert not unused & set(made.stdout.split())

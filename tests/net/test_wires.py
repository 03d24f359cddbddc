"""What the front's own sockets promise beyond what every data path does (see test_tunnel)."""

from __future__ import annotations

import gc
import os
import socket
import struct
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent
from twisted.python.failure import Failure

from kolus.lease import Lease
from kolus.tunnel import Front, Loop, loop_of
from kolus.tunnel.wires.descriptors import Descriptors, _in_use
from kolus.tunnel.wires.epoll_events import IN
from kolus.tunnel.wires.flow import Flow
from kolus.tunnel.wires.pipes import PIPE, Pipes
from kolus.tunnel.wires.raw_port import RawPort
from tests.net.servers import free_port
from tests.net.test_tunnel import Pki, front, port_of
from tests.net.tunnel_peers import Echo, Peer, backend, connected, until

MIB = 1 << 20
RESET = struct.pack("ii", 1, 0)


@pytest_twisted.ensureDeferred
async def test_plain_sockets_are_wires() -> None:
    async with backend(reactor, Echo) as echoes, front(echoes.endpoint) as service:
        (port,) = service.ports
        assert isinstance(port, RawPort)
        async with connected(reactor, port_of(service)) as client:
            client.send(b"x")
            await client.has(1)
            watched = list(loop_of(reactor)._owners.values())
            assert len(watched) == 3


@pytest_twisted.ensureDeferred
async def test_bulk_goes_both_ways_whole_and_in_order() -> None:
    question = os.urandom(MIB) * 24
    async with (
        backend(reactor, Echo) as echoes,
        front(echoes.endpoint) as service,
        connected(reactor, port_of(service)) as client,
    ):
        client.transport.write(question)
        client.transport.loseWriteConnection()
        await client.ended()
        assert client.got == question


@pytest_twisted.ensureDeferred
async def test_a_session_that_is_over_leaves_no_garbage_to_be_collected() -> None:
    async with backend(reactor, Echo) as echoes, front(echoes.endpoint) as service:
        async with connected(reactor, port_of(service)) as client:
            client.send(b"x")
            await client.has(1)
            pairs = {each.pair for each in loop_of(reactor)._owners.values() if type(each) is Flow}
            over = [weakref.ref(each) for each in pairs]
            assert len(over) == 1
            gc.disable()
            del pairs
        try:
            await until(reactor, lambda: over[0]() is None)
        finally:
            gc.enable()


REASON = b"-ERR max number of clients reached\r\n"


def _refuse(listening: socket.socket) -> None:
    """Answer and close, although what the client sent is not read."""
    raw, _ = listening.accept()
    raw.recv(1, socket.MSG_PEEK)
    raw.sendall(REASON)
    raw.close()


@pytest_twisted.ensureDeferred
async def test_what_a_backend_said_before_its_reset_reaches_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        number = listening.getsockname()[1]
        async with (
            front(f"tcp:127.0.0.1:{number}") as service,
            connected(reactor, port_of(service)) as client,
        ):
            refused = deferToThread(_refuse, listening)
            client.send(b"hello there")
            await refused
            await client.lost()
            assert client.got == REASON


@pytest_twisted.ensureDeferred
async def test_what_a_client_said_before_its_reset_reaches_the_backend() -> None:
    async with backend(reactor, Peer) as far, front(far.endpoint) as service:
        port = port_of(service)
        said = os.urandom(50_000)
        await deferToThread(_say_and_reset, port, said)
        await until(reactor, lambda: far.peers and far.peers[0].reason is not None)
        assert far.peers[0].got == said
        assert far.peers[0].was_reset


def _say_and_reset(port: int, said: bytes) -> None:
    raw = socket.create_connection(("127.0.0.1", port))
    raw.sendall(said)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    raw.close()


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_costs_no_memory_and_gets_it_all() -> None:
    class Talker(Peer):
        def connectionMade(self) -> None:
            self.transport.write(b"x" * (32 * MIB))
            self.transport.loseConnection()

    async with (
        backend(reactor, Talker) as far,
        front(far.endpoint) as service,
        connected(reactor, port_of(service)) as client,
    ):
        client.transport.pauseProducing()
        await until(reactor, lambda: far.peers)
        for _ in range(20):
            await _pause(0.01)
        client.transport.resumeProducing()
        await client.ended()
        assert len(client.got) == 32 * MIB


def _pause(seconds: float) -> Deferred[None]:
    waited: Deferred[None] = Deferred()
    reactor.callLater(seconds, waited.callback, None)  # type: ignore[attr-defined]
    return waited


class Queue:
    """A front whose clients all wait."""

    def __init__(self, **settings: Any) -> None:
        self.asked: list[Deferred[Lease[Any]]] = []
        self.cancelled = 0
        self.front = Front(reactor, self._ask, loop=loop_of(reactor), **settings)  # type: ignore[arg-type]

    def _ask(self, ident: object) -> Deferred[Lease[Any]]:
        self.asked.append(Deferred(self._cancel))
        return self.asked[-1]

    def _cancel(self, _: object) -> None:
        self.cancelled += 1


@pytest_twisted.ensureDeferred
async def test_a_client_that_closed_without_a_word_leaves_the_queue_and_one_that_asked_stays() -> (
    None
):
    queue = Queue()
    listening: Any = reactor.listenTCP(0, queue.front, interface="127.0.0.1")  # type: ignore[attr-defined]
    port = queue.front.listens(listening, queue.front)
    number = port.getHost().port  # type: ignore[attr-defined]
    silent = socket.create_connection(("127.0.0.1", number))
    asking = socket.create_connection(("127.0.0.1", number))
    asking.sendall(b"question")
    asking.shutdown(socket.SHUT_WR)
    await until(reactor, lambda: len(queue.asked) == 2)
    silent.close()
    await until(reactor, lambda: queue.cancelled == 1)
    await _pause(0.05)
    assert (queue.cancelled, len(queue.front.clients)) == (1, 1)
    await port.stopListening()  # type: ignore[misc]
    drained = queue.front.drain(0.0)
    await drained
    asking.close()


IN_USE = "kolus.tunnel.wires.descriptors._in_use"
"""Others in this process open and close descriptors meanwhile."""


def test_the_descriptors_in_use_are_counted() -> None:
    with socket.socket(), socket.socket():
        assert 5 <= (_in_use() or 0) <= 1 << 20


def test_clients_are_accepted_while_their_backends_have_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = 0
    monkeypatch.setattr(IN_USE, lambda: 100 + opened)
    descriptors = Descriptors(lambda: 100 + 8 + 2 * 5)
    while descriptors.take():
        opened += 2
    assert opened == 2 * 5
    opened = 0
    descriptors.look()
    assert descriptors.take()
    descriptors.waiting = 100
    descriptors.look()
    assert not descriptors.take()


@pytest_twisted.ensureDeferred
async def test_without_descriptors_clients_wait_and_it_is_said_once(
    log_events: list[LogEvent],
) -> None:
    limit = 10
    async with backend(reactor, Echo) as echoes, front(echoes.endpoint, limit=50) as service:
        (port,) = service.ports
        assert isinstance(port, RawPort)
        port._descriptors = Descriptors(lambda: limit)
        async with connected(reactor, port_of(service)) as client:
            client.send(b"x")
            await _pause(0.3)
            assert not client.got
            limit = 10_000
            await client.has(1)
        said = [each for each in log_events if "no more clients" in str(each.get("log_format"))]
        assert len(said) == 1


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL")  # Twisted's own
@pytest_twisted.ensureDeferred
async def test_behind_tls_no_more_are_accepted_than_have_descriptors_for_backends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log_events: list[LogEvent]
) -> None:
    loop = loop_of(reactor)  # of which nobody else may have a reference yet
    limit, descriptors = 0, loop.descriptors
    pki = Pki(tmp_path)
    async with front(pki.endpoint(1), listen=pki.listen) as service:
        silent = [socket.create_connection(("127.0.0.1", port_of(service))) for _ in range(5)]
        limit = 100 + 8 + 2 * 3
        monkeypatch.setattr(IN_USE, lambda: 100 + service.front.limits.clients)
        monkeypatch.setattr(descriptors, "_limit", lambda: limit)
        descriptors.look()
        await until(reactor, lambda: service.front.limits.clients == 3)
        await _pause(0.4)
        assert service.front.limits.clients == 3
        limit = 10_000
        await until(reactor, lambda: service.front.limits.clients == 5)
        assert descriptors.waiting == 5
        for each in silent:
            each.close()
        await until(reactor, lambda: not service.front.limits.clients)
        assert not descriptors.waiting
    said = [each for each in log_events if "no more clients" in str(each.get("log_format"))]
    assert len(said) == 1


def test_pipes_are_few_and_one_with_bytes_is_not_used_again() -> None:
    pipes = Pipes()
    first = pipes.take()
    assert first is not None
    pipes.give_back(first)
    assert pipes.take() is first
    first.held = 5
    pipes.give_back(first)
    second = pipes.take()
    assert second is not first
    taken = [pipes.take() for _ in range(60)]
    assert None in taken
    for each in (second, *taken):
        if each is not None:
            pipes.give_back(each)
    assert PIPE == MIB


def test_all_that_is_closed_in_a_turn_is_closed_at_its_end() -> None:
    loop, told = Loop(reactor), []
    near, far = socket.socketpair()

    class Closer:
        """Has a socket closed each time that it is ready, which it always is."""

        def ready(self, events: int) -> None:
            told.append(socket.socket())
            loop.soon(partial(loop.close, told[-1]))

        def crashed(self, failure: Failure) -> None:
            failure.raiseException()

    with near, far:
        far.send(b"x")
        loop.add(near.fileno(), IN, Closer())
        loop.doRead()
        assert len(told) > 1
        assert {each.fileno() for each in told} == {-1}
        loop.remove(near.fileno())


@pytest_twisted.ensureDeferred
async def test_a_backend_that_refuses_is_an_error_of_the_usual_kind() -> None:
    endpoint = f"tcp:127.0.0.1:{free_port()}"
    async with front(endpoint) as service, connected(reactor, port_of(service)) as client:
        await client.ended()
        assert service.front.refused == 1  # type: ignore[attr-defined]

"""Backends that speak, or close, before a new connection has its first lessee, on real sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.protocol import Protocol

from kolus import Pool
from kolus.errors import ConnectFailed
from tests.net.asking import until
from tests.rigs.patience import PATIENCE

MakePool = Callable[..., Pool[Any]]


class Server:
    """Accepts when it is told to. So what it sends is there before the reactor looks again.

    @ivar accepted: how many connections it has accepted.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.backend = self._listener.getsockname()
        self.accepted = 0
        self._peers: list[socket.socket] = []

    def greet(self, *, close: bool) -> None:
        peer, _ = self._listener.accept()
        self.accepted += 1
        peer.sendall(b"hello")
        if close:
            peer.close()
        else:
            self._peers.append(peer)

    def stop(self) -> None:
        for each in (self._listener, *self._peers):
            each.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()


class Hears(Protocol):
    """Has its server accept it, and greet it, before anything else happens."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.heard = b""

    def connectionMade(self) -> None:
        self._server.greet(close=False)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data


@pytest.mark.parametrize("slots", [None, 5])
@pytest_twisted.ensureDeferred
async def test_the_first_words_of_a_backend_are_its_first_lessees(
    server: Server, make_pool: MakePool, slots: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine can have something else to do between the connect and the lease.
    monkeypatch.setattr("kolus.connection.hooks.FIRST_WORDS", PATIENCE)
    pool = make_pool(lambda: Hears(server), slots=slots)
    lease = await pool.connect("x", server.backend)
    await until(reactor, lambda: lease.protocol.heard == b"hello")
    assert server.accepted == 1
    lease.finished()


@pytest.mark.parametrize("slots", [None, 5])
@pytest_twisted.ensureDeferred
async def test_a_backend_that_ends_each_connection_when_it_is_ready_is_not_asked_without_a_pause(
    server: Server, make_pool: MakePool, slots: int | None
) -> None:
    """It says, for example, that it has too many clients, and C{prepare} is content with that."""
    pool = make_pool(Protocol, slots=slots, prepare=lambda _: server.greet(close=True))
    with pytest.raises(ConnectFailed, match="it was of no use: ConnectionAbortedError: "):
        await pool.connect("x", server.backend)
    assert server.accepted <= 2

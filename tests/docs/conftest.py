"""The servers that the pages of the documentation ask."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_twisted
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.clients.conftest import cluster, folder_for_all, postgres, postgres_binaries
from tests.net.asking import until
from tests.net.conftest import redis, redis_binary

__all__ = ["cluster", "folder_for_all", "postgres", "postgres_binaries", "redis", "redis_binary"]


class Memcached(LineReceiver):
    """As much of a memcached as the pages ask for."""

    _wanted: bytes | None = None

    def connectionMade(self) -> None:
        self.factory.connected.add(self)

    def lineReceived(self, line: bytes) -> None:
        store: dict[bytes, bytes] = self.factory.store
        if self._wanted is not None:
            store[self._wanted] = line
            self._wanted = None
            self.sendLine(b"STORED")
        elif line == b"version":
            self.sendLine(b"VERSION 1")
        else:
            command, key, *_ = line.split()
            if command == b"set":
                self._wanted = key
            elif key in store:
                self.sendLine(b"VALUE %b 0 %d\r\n%b\r\nEND" % (key, len(store[key]), store[key]))
            else:
                self.sendLine(b"END")

    def connectionLost(self, reason: object) -> None:
        self.factory.connected.remove(self)


class Memcacheds(Factory):
    """A listening port of them."""

    noisy = False
    protocol = Memcached

    def __init__(self) -> None:
        self.store: dict[bytes, bytes] = {}
        self.connected: set[Memcached] = set()


@pytest_twisted.async_yield_fixture
async def memcached_port() -> AsyncIterator[int]:
    """The number of a port where a memcached listens."""
    from twisted.internet import reactor

    memcacheds = Memcacheds()
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(memcacheds)
    yield port.getHost().port
    await until(reactor, lambda: not memcacheds.connected)
    await port.stopListening()


class APage(Resource):
    isLeaf = True

    def render_GET(self, request: object) -> bytes:
        return b"a page"


@pytest_twisted.async_yield_fixture
async def website() -> AsyncIterator[str]:
    """The URL of a page."""
    from twisted.internet import reactor

    connected: set[object] = set()

    class Watched(Site):
        noisy = False

        def buildProtocol(self, addr: object) -> object:
            made = super().buildProtocol(addr)
            connected.add(made)
            lost = made.connectionLost

            def gone(reason: object) -> None:
                connected.discard(made)
                lost(reason)

            made.connectionLost = gone
            return made

    endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1", backlog=200)
    port = await endpoint.listen(Watched(APage()))
    yield f"http://127.0.0.1:{port.getHost().port}/"
    await until(reactor, lambda: not connected)
    await port.stopListening()

"""When commands are sent to Redis, with real sockets."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.protocol import Factory, Protocol

from kolus import Policy
from kolus.clients.redis import RedisPool
from tests.net.asking import until

PING = b"*1\r\n$4\r\nPING\r\n"


class Server(Protocol):
    """Answers each PING."""

    made: ClassVar[list[Server]] = []
    is_open = True

    def connectionMade(self) -> None:
        self.made.append(self)

    def connectionLost(self, reason: object = None) -> None:
        self.is_open = False

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"+PONG\r\n" * data.count(PING))

    def unread(self) -> bytes:
        """What lies in the socket until the reactor reads it."""
        transport: Any = self.transport
        transport.socket.settimeout(5.0)
        data: bytes = transport.socket.recv(1000, socket.MSG_PEEK)
        transport.socket.setblocking(False)
        return data


@pytest_twisted.async_yield_fixture
async def redis() -> AsyncIterator[RedisPool]:
    Server.made.clear()
    port = reactor.listenTCP(0, Factory.forProtocol(Server), interface="127.0.0.1")
    redis = RedisPool(reactor, ("127.0.0.1", port.getHost().port), policy=Policy(limit=1, slots=9))
    await redis.ping()
    yield redis
    await redis.close(0)
    await port.stopListening()
    await until(reactor, lambda: not any(each.is_open for each in Server.made))


@pytest_twisted.ensureDeferred
async def test_a_command_that_is_alone_is_sent_at_once_and_others_together(
    redis: RedisPool,
) -> None:
    asked = [redis.ping() for _ in range(5)]
    assert Server.made[0].unread() == PING
    assert await gatherResults(asked) == ["PONG"] * 5
    assert len(Server.made) == 1

"""Counts connections, as the server sees them and as the kernel does."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import deferLater
from txredisapi import RedisProtocol
from zope.interface import implementer

from tests.net.servers import Server
from tests.rigs.patience import PATIENCE

__all__ = ["Client", "CountingEndpoint", "Watch"]


@dataclass(frozen=True, slots=True)
class Client:
    """A connection that the server knows."""

    number: int
    """The server's, never used again in the same run."""
    port: int
    """The client's."""


class Watch:
    """Counts connections from outside of the pool, over one of its own for each question.

    What can be asserted. The pool holds a slot until C{connectionLost}, which Twisted calls when
    the socket is closed; so the sockets that this process has open to the server, those that are
    connecting included, are never more than the limit: that is asserted of every count, and at
    the beginning of every connect. The server learns of a close later: it reads 16 KiB of a
    connection in each round, so it may accept the successor before it has come to the end of the
    old one's commands; and after SIGCONT it finds connections in its backlog that ended while it
    stood still. It may therefore list more than the limit. But then all beyond the limit are
    closed on this side already, which follows from the first assertion, and it reads so by itself:
    that is asserted of every such count. When the callers are gone and C{limit} connections are
    leased, it lists these and no other.

    @ivar limit: most connections that there may be.
    @ivar counts: how often it counted.
    @ivar most_open: the most sockets that were open at once.
    @ivar most_seen: the most connections that the server listed at once.
    @ivar over: how many times it listed more than the limit.
    @ivar seen: how many it listed last.
    """

    def __init__(
        self, reactor: Any, server: Server, limit: int, violated: Callable[[str], object]
    ) -> None:
        """
        @param violated: called with a line about each violation.
        """
        self.counts = self.most_open = self.most_seen = self.over = self.seen = 0
        self._reactor = reactor
        self._server = server
        self.limit = limit
        self._violated = violated
        self._asking = False
        self._others = 0

    async def ask(self, *command: object) -> Any:
        """Ask the server."""
        return (await self._ask(*command))[0]

    async def clients(self) -> list[Client]:
        """Whom it knows, but the one that asks."""
        return (await self._look())[0]

    async def count(self) -> None:
        """Count once, and see that no limit is violated."""
        clients, open_ports = await self._look()
        self._judge(len(open_ports))
        self.counts += 1
        self.seen = len(clients)
        self.most_seen = max(self.most_seen, len(clients))
        if len(clients) > self.limit:
            self.over += 1
            ended = {each for each in clients if each.port not in open_ports}
            left = await self._look_until(lambda now, _: ended.isdisjoint(now))
            if left is not None:
                self._violated(f"the server keeps what the pool has closed: {ended}")

    def count_sockets(self) -> None:
        """Count once without the server, whatever state it is in."""
        self._judge(len(open_client_ports(self._server.port)))

    def begin(self) -> None:
        """Whatever sockets are open now are none to the server."""
        self._others = sockets()

    def connect_begins(self) -> None:
        """Count once, so fast that it can be done for every connect."""
        # Of an own question it is not known whether its socket is open yet, or still.
        if not self._asking:
            self._judge(sockets() - self._others)

    def _judge(self, open_sockets: int) -> None:
        self.most_open = max(self.most_open, open_sockets)
        if open_sockets > self.limit:
            self._violated(f"{open_sockets} sockets are open")

    async def sees_exactly(self, ports: set[int]) -> None:
        """See that the server, and the kernel, come to know these connections and no other."""

        def exactly(clients: list[Client], open_ports: set[int]) -> bool:
            return open_ports == ports == {each.port for each in clients}

        left = await self._look_until(exactly)
        if left is not None:
            self._violated(f"expected {sorted(ports)}, but server and kernel have {left}")

    async def _look_until(
        self, condition: Callable[[list[Client], set[int]], bool]
    ) -> tuple[list[Client], set[int]] | None:
        """Look until C{condition(clients, open_ports)}; what was seen last if it never came."""
        give_up_at = self._reactor.seconds() + PATIENCE
        while not condition(*(seen := await self._look())):
            if self._reactor.seconds() > give_up_at:
                return seen
            await deferLater(self._reactor, 0.02)
        return None

    async def _look(self) -> tuple[list[Client], set[int]]:
        """Whom the server knows, and a moment later the client ports that are open here."""
        text, open_ports, own = await self._ask("CLIENT", "LIST")
        found = re.findall(r"^id=(\d+) addr=[^ ]*:(\d+) ", text, re.MULTILINE)
        clients = [Client(int(number), int(port)) for number, port in found]
        return [each for each in clients if each.port != own], open_ports

    async def _ask(self, *command: object) -> tuple[Any, set[int], int]:
        """Ask over a connection of its own.

        @return: the answer, the client ports open then, and the connection's own.
        """
        endpoint = clientFromString(self._reactor, self._server.endpoint)
        self._asking = True
        try:
            return await self._ask_over(await connectProtocol(endpoint, RedisProtocol()), command)
        finally:
            self._asking = False

    async def _ask_over(
        self, protocol: Any, command: tuple[object, ...]
    ) -> tuple[Any, set[int], int]:
        own = protocol.transport.getHost().port
        gone = protocol.whenDisconnected()
        try:
            asked = protocol.execute_command(*command)
            answer = await asked.addTimeout(PATIENCE, self._reactor)
            return answer, open_client_ports(self._server.port) - {own}, own
        finally:
            protocol.transport.loseConnection()
            await gone


def open_client_ports(server_port: int) -> set[int]:
    """The ports of all sockets to that server, on the client's side, that a process has open."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, *rest = line.split()
        inode = rest[6]
        if int(remote.partition(":")[2], 16) == server_port and inode != "0":
            found.add(int(local.partition(":")[2], 16))
    return found


def sockets() -> int:
    """How many sockets this process has open."""
    folder = "/proc/self/fd"
    count = 0
    for each in os.listdir(folder):
        with suppress(FileNotFoundError):  # the folder itself was one of them
            count += os.readlink(f"{folder}/{each}").startswith("socket:")
    return count


@implementer(IStreamClientEndpoint)
class CountingEndpoint:
    """An endpoint that tells whenever a connect has begun: then most sockets are open."""

    def __init__(self, inner: IStreamClientEndpoint, begun: Callable[[], object]) -> None:
        self._inner = inner
        self._begun = begun

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        attempt = self._inner.connect(factory)
        self._begun()
        return attempt

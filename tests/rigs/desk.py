"""An admin server without a network: requests go in as bytes, and answers come out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from kolus import Backend, Lease, Policy, Pool
from kolus.admin import AdminService
from kolus.admin.guard import Guard
from kolus.admin.resource import AdminResource
from kolus.admin.web import AdminSite
from kolus.balance import fill_first
from kolus.config import AdminSettings
from kolus.testing import FakeBackend, result_of
from kolus.tunnel import client
from kolus.tunnel.clients import Clients
from kolus.tunnel.refusals import Refusals

__all__ = ["Answered", "Desk", "Line"]


class Transport(StringTransport):
    """A transport that closes when it is told to."""

    protocol: Any = None
    is_closed = False

    def loseConnection(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.protocol.connectionLost(Failure(connectionDone.value))

    abortConnection = loseConnection

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing to do."""


@dataclass
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        return json.loads(self.body)


class Line:
    """One connection to the server."""

    def __init__(self, site: AdminSite) -> None:
        self.transport = Transport(peerAddress=IPv4Address("TCP", "127.0.0.1", 50000))
        self.channel: Any = site.buildProtocol(None)
        self.transport.protocol = self.channel
        self.channel.makeConnection(self.transport)

    @property
    def got(self) -> bytes:
        return self.transport.value()

    @property
    def is_closed(self) -> bool:
        return self.transport.is_closed

    def send(self, data: bytes) -> None:
        if not self.is_closed:
            self.channel.dataReceived(data)

    def close(self) -> None:
        self.transport.loseConnection()

    def answered(self) -> Answered:
        head, _, body = self.got.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(each.lower().split(": ", 1) for each in lines)
        return Answered(int(first.split()[1]), headers, body)


class Client(client.Client):
    """A client of a listener, without a connection."""

    def __init__(self, info: Any) -> None:
        super().__init__(None, None, info)


class FrontStub:
    """What the server uses of a front."""

    def __init__(self, clock: Clock) -> None:
        self.clients = Clients(clock)
        self.refusals = Refusals(clock)
        self.times_out: Counter[str] = Counter()
        self.served = self.refused = self.sent = self.received = 0
        self.closed: list[int] = []

    def close_client(self, number: int) -> bool:
        self.closed.append(number)
        return self.clients.find(number) is not None


@dataclass
class StubListener:
    front: Any
    group: str = "main"
    addresses: tuple[str, ...] = ("127.0.0.1:6380",)


class StubGroup:
    def __init__(self, pool: Any, group: Any) -> None:
        self.pool = pool
        self.group = group
        self.weights: dict[Backend, float] = {}

    def set_weight(self, backend: Backend, weight: float) -> None:
        Backend(backend.endpoint, weight=weight)  # as the real one, it refuses what is out of range
        self.weights[backend] = weight


@dataclass
class Running:
    groups: dict[str, Any] = field(default_factory=dict)
    listeners: dict[str, Any] = field(default_factory=dict)
    certificates: list[Any] = field(default_factory=list)


class Desk:
    """A server for one group, C{main}, of two fake backends, C{a} and C{b}, and one listener,
    C{clients}.

    @ivar private: the site of a UNIX socket; C{public}: that of a TCP port.
    """

    def __init__(self, limit: int = 2, **settings: Any) -> None:
        self.clock = Clock()
        self.fakes = [FakeBackend(self.clock) for _ in range(2)]
        self.backends = [
            Backend(fake, name=name) for fake, name in zip(self.fakes, "ab", strict=True)
        ]
        self.pool: Pool[Any] = Pool(self.clock, Protocol, policy=Policy(limit=limit))
        self.group = self.pool.group(self.backends, fill_first, name="main")
        self.front = FrontStub(self.clock)
        self.leases: list[Lease[Any]] = []
        self.main = StubGroup(self.pool, self.group)
        self.running = Running({"main": self.main}, {"clients": StubListener(self.front)})
        self.settings = AdminSettings(listen=("unix:never",), **settings)
        self.service = AdminService(
            *(self.clock, self.running, self.settings), partial(serverFromString, None)
        )
        self.service.endpoints.clear()
        self.service.startService()
        self.private, self.public = self._site(is_private=True), self._site(is_private=False)

    def _site(self, *, is_private: bool) -> AdminSite:
        settings = self.settings
        guard = Guard(is_private=is_private, hosts=settings.hosts, token_file=settings.token_file)
        resource = AdminResource(self.service.routes, guard, self.service.streams)
        return AdminSite(self.clock, resource)

    def lease(self, ident: Hashable = "us") -> Lease[Any]:
        self.leases.append(result_of(self.group.connect(ident)))
        return self.leases[-1]

    def ask(
        self,
        method: str,
        path: str,
        value: object = None,
        *,
        public: bool = False,
        body: bytes | None = None,
        **headers: str | None,
    ) -> Answered:
        """Send a request, and read the answer.

        @param value: the body, as JSON.
        @param headers: more headers, with underscores; C{None} leaves one out.
        """
        if body is None:
            body = b"" if value is None else json.dumps(value).encode()
        sent: dict[str, str | None] = {"host": "localhost"}
        if method == "POST":
            sent |= {"content_type": "application/json", "content_length": str(len(body))}
        sent |= headers
        lines = [f"{method} {path} HTTP/1.1"]
        lines += [f"{k.replace('_', '-')}: {v}" for k, v in sent.items() if v is not None]
        line = Line(self.public if public else self.private)
        line.send("\r\n".join([*lines, "", ""]).encode() + body)
        self.clock.pump([0.0] * 5)  # a long answer is made in several turns
        answered = line.answered()
        line.close()
        return answered

    def end(self) -> None:
        """Stop the server, and check that nothing is left."""
        self.service.stopService()
        closed = self.pool.close(0)
        self.clock.pump([0, 0, 20, 60])
        result_of(closed)
        assert not self.clock.getDelayedCalls()

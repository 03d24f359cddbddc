"""C{PostgresEndpoint}: connects to one PostgreSQL server, by its name or its address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psycopg.conninfo import make_conninfo
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory

from kolus.clients.postgres.connection import Connection
from kolus.clients.postgres.stepper import run_once
from kolus.clients.postgres.transport import PostgresTransport
from kolus.endpoints import NamedEndpoint

__all__ = ["PostgresEndpoint"]


class PostgresEndpoint(NamedEndpoint):
    """A server. Its name is resolved, and its addresses are tried, as C{NamedEndpoint} does.

    @ivar is_standby: whether it said so when it was last connected to; C{None} if it was not yet.
    """

    is_standby: bool | None = None

    def __init__(
        self, reactor: Any, host: str, port: int, get: Callable[[], Any], address: str = ""
    ) -> None:
        """
        @param host: its name, its address, or the folder of its UNIX socket; empty for libpq's own.
        @param address: its address, if that is known; C{host} is then only compared with its
            certificate.
        @param get: called for each connection; gives the parameters of libpq, or a Deferred or a
            coroutine of these.
        """
        super().__init__(reactor, host, port)
        self._get = get
        self._address = address or (host if _needs_no_name(host) else None)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        if self._address is not None:
            return self.connect_to(self._address, protocolFactory)
        return super().connect(protocolFactory)

    def connect_to(self, host: str, factory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(host, factory))

    async def _connect(self, host: str, factory: IProtocolFactory) -> IProtocol:
        parameters = await self._get()
        where: dict[str, Any] = {"port": self._port} | ({"host": self._host} if self._host else {})
        if not _is_local(host):
            where["hostaddr"] = host
        steps = Connection._connect_gen(make_conninfo("", **{**parameters, **where}))
        connection = await run_once(self._reactor, steps)
        self.is_standby = connection.pgconn.parameter_status(b"in_hot_standby") == b"on"
        transport = PostgresTransport(self._reactor, connection)
        connection.attach(transport, self._reactor)
        protocol = factory.buildProtocol(transport.getPeer())
        if protocol is None:
            transport.loseConnection()
            raise ConnectionAbortedError("the attempt was given up")
        transport.start(protocol)
        return protocol


def _is_local(host: str) -> bool:
    return not host or host.startswith(("/", "@"))


def _needs_no_name(host: str) -> bool:
    return _is_local(host) or isIPAddress(host) or isIPv6Address(host)

"""C{ProxyTunnels}: connections to hosts through an HTTP proxy, by its C{CONNECT}."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IAddress, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, BrowserLikePolicyForHTTPS
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from kolus.clients.http.endpoints import secured
from kolus.support import abort

__all__ = ["ProxyTunnels", "TunnelRefused"]

_LONGEST_ANSWER = 16384


class TunnelRefused(ConnectError):
    """A proxy did not open a tunnel to the host."""


@implementer(IAgentEndpointFactory)
class ProxyTunnels:
    """Reaches each host by a tunnel: for C{Agent.usingEndpointFactory(reactor, tunnels, pool)}.

    TLS is spoken with the host itself, so the proxy learns its name and port, and nothing else.
    """

    def __init__(
        self,
        reactor: Any,
        proxy: str | IStreamClientEndpoint,
        *,
        credentials: tuple[str, str] | None = None,
        contextFactory: IPolicyForHTTPS | None = None,
    ) -> None:
        """
        @param proxy: where the proxy is, as an endpoint or its string.
        @param credentials: the user and the password for the proxy.
        @param contextFactory: decides about trust in the hosts, as that of C{Agent} does.
        @raise ValueError: C{proxy} is an invalid string.
        """
        self._proxy = clientFromString(reactor, proxy) if isinstance(proxy, str) else proxy
        self._contexts = contextFactory or BrowserLikePolicyForHTTPS()
        self._headers = b""
        if credentials is not None:
            told = b64encode(":".join(credentials).encode())
            self._headers = b"Proxy-Authorization: Basic %b\r\n" % told

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """See C{IAgentEndpointFactory}."""
        host = b"[%b]" % uri.host if b":" in uri.host else uri.host
        tunnel = _TunnelEndpoint(self._proxy, b"%b:%d" % (host, uri.port), self._headers)
        return secured(uri, tunnel, self._contexts)


@implementer(IStreamClientEndpoint)
class _TunnelEndpoint:
    """The far end of a tunnel through a proxy."""

    def __init__(self, proxy: IStreamClientEndpoint, there: bytes, headers: bytes) -> None:
        self._proxy = proxy
        self._there = there
        self._asks = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (there, there, headers)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """See C{IStreamClientEndpoint}."""
        tunnel = _Tunnel(self._there.decode(), self._asks, protocolFactory)
        connecting: Deferred[Any] = self._proxy.connect(_just(tunnel))
        return connecting.addCallback(lambda _: tunnel.begin())

    def __repr__(self) -> str:
        return f"<tunnel to {self._there.decode()} by {self._proxy!r}>"


class _Tunnel(Protocol):
    """Asks the proxy for a tunnel, and then passes everything on to a protocol."""

    def __init__(self, there: str, asks: bytes, factory: IProtocolFactory) -> None:
        self._there = there
        self._asks = asks
        self._factory = factory
        self._answer = b""
        self._opened: Deferred[Any] = Deferred(lambda _: self._abort())
        self._inner: Any = None

    def begin(self) -> Deferred[Any]:
        """
        @return: fires with the protocol when the tunnel is open; fails with C{TunnelRefused}.
        """
        transport: Any = self.transport
        transport.write(self._asks)
        return self._opened

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        self._answer += data
        head, end, rest = self._answer.partition(b"\r\n\r\n")
        status = head.partition(b"\r\n")[0]
        if (not end and len(head) <= _LONGEST_ANSWER) or self._opened.called:
            return
        version, _, code = status.partition(b" ")
        if end and version.startswith(b"HTTP/1.") and code.startswith(b"2"):
            self._open(rest)
        else:
            self._refuse(f"the proxy answered {status[:100]!r}")

    def _open(self, rest: bytes) -> None:
        transport: Any = self.transport
        address: IAddress = transport.getPeer()
        self._inner = inner = self._factory.buildProtocol(address)
        if inner is None:
            self._refuse("the connection was given up")
            return
        inner.makeConnection(transport)
        self._opened.callback(inner)
        if rest:
            inner.dataReceived(rest)

    def _refuse(self, why: str) -> None:
        self._abort()
        refused: Any = TunnelRefused
        self._opened.errback(refused(string=f"no tunnel to {self._there}: {why}"))

    def _abort(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            abort(transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self._opened.called:
            self._refuse(f"the proxy ended the connection: {reason.getErrorMessage()}")


def _just(protocol: Protocol) -> IProtocolFactory:
    factory: Any = Factory.forProtocol(lambda: protocol)
    factory.noisy = False
    return factory  # type: ignore[no-any-return]

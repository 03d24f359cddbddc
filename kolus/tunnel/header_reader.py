"""C{HeaderReader}: reads the PROXY header of a connection, before TLS and before it is a client.

Its state: the bytes of the header so far, and the timer. When it is done the transport belongs to
the client: no wrapper is left that could change what an end of the stream means.
"""

from __future__ import annotations

from typing import Any
from typing import Protocol as Structure

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.proxy_protocol import ProxyHeaderError, decode
from kolus.support import abort, steady
from kolus.tunnel.client_info import ClientInfo
from kolus.tunnel.end import End

__all__ = ["HeaderReader", "begin_tls"]


class Receiver(Structure):
    """Is told what becomes of a connection: the C{Acceptor}."""

    def connected(self, reader: HeaderReader) -> None:
        """A connection is made."""

    def refused(self, reader: HeaderReader, reason: str, why: str) -> None:
        """It is closed, or gone; see C{Refusals}."""

    def passed(self, reader: HeaderReader, info: ClientInfo) -> Any:
        """It has sent its header, or has none to send.

        @return: the protocol of the client, or C{None}: it is not welcome.
        """


@implementer(IHalfCloseableProtocol)
class HeaderReader(Protocol):
    """Reads the PROXY header of a connection, and makes it a client."""

    transport: Any

    def __init__(
        self, receiver: Receiver, clock: IReactorTime, header_timeout: float | None
    ) -> None:
        """
        @param header_timeout: seconds that the PROXY header may take; C{None}: there is none.
        """
        self._receiver = receiver
        self._clock = steady(clock)
        self._header_timeout = header_timeout
        self._timer: IDelayedCall | None = None
        self._bytes = b""

    def connectionMade(self) -> None:
        self._receiver.connected(self)
        if self._header_timeout is None:
            self._go_on(ClientInfo(self.transport), b"")
        else:
            self._timer = self._clock.callLater(self._header_timeout, self._is_late)

    def dataReceived(self, data: bytes) -> None:
        if self._timer is None:
            return  # it is refused already
        self._bytes += data
        try:
            decoded = decode(self._bytes)
        except ProxyHeaderError as error:
            self._refuse(f"has sent a wrong PROXY header: {error}")
            return
        if decoded is not None:
            header, size = decoded
            self._stop_timer()
            self._go_on(ClientInfo(self.transport, header), self._bytes[size:])

    def readConnectionLost(self) -> None:
        self._refuse("has sent no complete PROXY header")

    def writeConnectionLost(self) -> None:
        """Nothing is written here."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._refuse("left before its PROXY header was complete")

    def abort(self) -> None:
        """Close the connection: the front ends."""
        self._stop_timer()
        abort(self.transport)

    def _is_late(self) -> None:
        self._timer = None
        name, timeout = "proxy_header_timeout", self._header_timeout
        self._receiver.refused(self, name, f"has sent no PROXY header in {name} = {timeout:g} s")
        abort(self.transport)

    def _refuse(self, why: str) -> None:
        if self._stop_timer():
            self._receiver.refused(self, "proxy_header", why)
            abort(self.transport)

    def _go_on(self, info: ClientInfo, rest: bytes) -> None:
        client = self._receiver.passed(self, info)
        if client is None:
            abort(self.transport)
            return
        if rest and isinstance(client, End):
            client.hold(rest)  # it may be joined as soon as it is connected
            rest = b""
        take_over(self.transport, client)
        if rest and not getattr(self.transport, "disconnecting", False):
            client.dataReceived(rest)

    def _stop_timer(self) -> bool:
        """Whether the header was still waited for."""
        timer, self._timer = self._timer, None
        if timer is None:
            return False
        timer.cancel()
        return True


def begin_tls(certificates: Any, client: Protocol, clock: IReactorTime) -> Protocol:
    """Put TLS around a client.

    @param certificates: an C{IOpenSSLServerConnectionCreator}.
    @param client: provides C{IHandshakeListener}.
    """
    from twisted.protocols.tls import TLSMemoryBIOFactory

    factory = TLSMemoryBIOFactory(certificates, False, _quiet, clock)
    made: Protocol = factory.protocol(factory, client)
    return made


def take_over(transport: Any, protocol: Any) -> None:
    """Connect another protocol to a transport, in the place of the one that it has."""
    if isinstance(transport, ProtocolWrapper):
        transport.wrappedProtocol = protocol
    else:
        transport.protocol = protocol
    protocol.makeConnection(transport)


class _Quiet(Factory):
    noisy = False


_quiet = _Quiet()

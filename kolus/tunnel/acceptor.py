"""C{Acceptor}: takes each accepted connection to where it is a client, or refuses it.

On the way are the limits and networks of the listener, a PROXY header, and the TLS handshake.

Its state: the connections that are on the way; the listener's settings; and whether it is closed.
The numbers of clients are those of C{limits}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, Protocol

from kolus.support import steady
from kolus.tunnel.client import Client
from kolus.tunnel.client_info import ClientInfo
from kolus.tunnel.client_limits import ClientLimits
from kolus.tunnel.gate import Gate
from kolus.tunnel.header_reader import HeaderReader, begin_tls
from kolus.tunnel.networks import Networks
from kolus.tunnel.refusals import Refusals
from kolus.tunnel.settings import ListenerSettings
from kolus.tunnel.wires.descriptors import Descriptors

__all__ = ["Acceptor", "MakeClient"]

MakeClient = Callable[[str | None, ClientInfo | None], Client]
"""Makes the protocol of a client: from its address as it was counted, and from who it is."""


class Acceptor:
    """Accepts the clients of one listener.

    @ivar limits: which clients are accepted, and how many.
    @ivar gate: holds the listening ports back while the limits are reached.
    @ivar refusals: the connections that were closed on the way, counted by reason.
    """

    def __init__(
        self,
        clock: IReactorTime,
        settings: ListenerSettings,
        certificates: Any,
        make_client: MakeClient,
        gone: Callable[[], object],
        descriptors: Descriptors | None = None,
    ) -> None:
        """
        @param gone: called when one on the way is refused.
        @param certificates: the C{ListenerCertificates} of a listener with TLS; C{None}: no TLS.
        @param descriptors: are kept for those on the way, too; C{None}: for nobody.
        """
        self._clock = steady(clock)
        self._descriptors = descriptors
        self._make_client = make_client
        self._gone = gone
        self._follow(settings, certificates)
        self.limits = ClientLimits(clock, settings)
        self.refusals = Refusals(clock)
        self.gate = Gate(clock, self.limits)
        self._arriving: set[HeaderReader | Client] = set()
        self._is_closed = False

    def _follow(self, settings: ListenerSettings, certificates: Any) -> None:
        self._settings = settings
        self._certificates = certificates
        self._balancers = Networks(settings.accept_proxy_from)
        self._has_balancers = bool(self._balancers)

    def change(self, settings: ListenerSettings, certificates: Any) -> None:
        """Apply other settings to new connections."""
        self._follow(settings, certificates)
        self.limits.change(settings)

    def close(self) -> None:
        """Accept nobody any more. Connections that are no clients yet go on."""
        self._is_closed = True
        self.gate.close()

    def abort(self) -> None:
        """Abort the connections that are no clients yet."""
        for each in tuple(self._arriving):
            self._has_arrived(each)
            each.abort()
        self._gone()

    @property
    def on_the_way(self) -> int:
        """Number of the connections that are no clients yet."""
        return len(self._arriving)

    def behind_balancers(self) -> Factory:
        """A factory for a listener of which every client sends a PROXY header."""
        return _BehindBalancers(self)

    # Connections

    def accept(self, host: str | None, has_header: bool = False) -> Protocol | None:
        """
        @param host: the address of the peer; C{None}: it came by a UNIX socket.
        @param has_header: whether it has to send a PROXY header, also if its address is not that of
            a balancer.
        @return: the protocol of the connection; C{None}: it is to be closed.
        """
        if self._is_closed:
            return None
        self.limits.arrived()
        if has_header or (self._has_balancers and host in self._balancers):
            return HeaderReader(self, self._clock, self._settings.proxy_header_timeout)
        if self._certificates is not None:
            return HeaderReader(self, self._clock, None)
        if not self._is_welcome(host, host):
            return None
        return self._make_client(host, None)

    def _is_welcome(self, host: str | None, who: object) -> bool:
        reason, why = self.limits.refusal(host)
        if reason:
            self.limits.left()
            self.refusals.add(who, reason, why)
            return False
        self.limits.admitted(host)
        return True

    def _sets_out(self, each: HeaderReader | Client) -> None:
        self._arriving.add(each)
        if self._descriptors is not None:
            self._descriptors.waiting += 1

    def _has_arrived(self, each: HeaderReader | Client) -> None:
        if each in self._arriving:
            self._arriving.remove(each)
            if self._descriptors is not None:
                self._descriptors.waiting -= 1

    # Called by header readers

    def connected(self, reader: HeaderReader) -> None:
        self._sets_out(reader)

    def refused(self, reader: HeaderReader, reason: str, why: str) -> None:
        self._has_arrived(reader)
        self.limits.left()
        self.refusals.add(ClientInfo(reader.transport), reason, why)
        self._gone()

    def passed(self, reader: HeaderReader, info: ClientInfo) -> Protocol | None:
        self._has_arrived(reader)
        if not self._is_welcome(info.host, info):
            self._gone()
            return None
        client = self._make_client(info.host, info)
        if self._certificates is None:
            return client
        return begin_tls(self._certificates, client, self._clock)

    # Clients

    def shakes_hands(self, client: Client) -> None:
        """The TLS handshake of a client begins."""
        self._sets_out(client)
        client.timer = self._clock.callLater(self._settings.handshake_timeout, self._late, client)

    def _late(self, client: Client) -> None:
        client.timer = None
        self._has_arrived(client)
        name, timeout = "handshake_timeout", self._settings.handshake_timeout
        why = f"has not completed its TLS handshake in {name} = {timeout:g} s"
        self.refusals.add(client.info, name, why)
        client.abort()

    def end_handshake(self, client: Client) -> None:
        """The TLS handshake of a client, which is under way, is over."""
        assert client.timer is not None
        client.timer.cancel()
        client.timer = None
        self._has_arrived(client)

    def left(self, client: Client, reason: BaseException) -> None:
        """A client's connection is lost."""
        self.limits.left()
        self.limits.departed(client.host)
        if client.timer is not None:
            is_aborted = client not in self._arriving
            self.end_handshake(client)
            if not is_aborted:
                said = "".join([f": {each}" for each in _of_openssl(reason)])
                why = f"has left in its TLS handshake{said}"
                self.refusals.add(client.info, "handshake", why)


def _of_openssl(error: BaseException) -> list[str]:
    """Why OpenSSL ended a handshake; empty if it was the connection that ended."""
    entries = error.args[0] if error.args else ()
    return [each[-1] for each in entries] if isinstance(entries, list) else []


class _BehindBalancers(Factory):
    noisy = False

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor

    def buildProtocol(self, addr: object) -> Protocol | None:
        return self.protocol_for(getattr(addr, "host", None))

    def protocol_for(self, host: str | None) -> Protocol | None:
        """As that of C{Front}."""
        return self._acceptor.accept(host, True)

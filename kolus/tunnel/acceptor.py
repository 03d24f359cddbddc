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
from kolus.tunnel.client_limits import ClientLimits
from kolus.tunnel.doorway import Doorway, begin_tls
from kolus.tunnel.gate import Gate
from kolus.tunnel.networks import Networks
from kolus.tunnel.refusals import Refusals
from kolus.tunnel.settings import ListenerSettings
from kolus.tunnel.visitor import Visitor
from kolus.tunnel.wires.descriptors import Descriptors

__all__ = ["Acceptor", "MakeClient"]

MakeClient = Callable[[str | None, Visitor | None], Client]
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
        descriptors: Descriptors | None = None,
    ) -> None:
        """
        @param certificates: the C{ListenerCertificates} of a listener with TLS; C{None}: no TLS.
        @param descriptors: are kept for those on the way, too; C{None}: for nobody.
        """
        self._clock = steady(clock)
        self._descriptors = descriptors
        self._make_client = make_client
        self._follow(settings, certificates)
        self.limits = ClientLimits(clock, settings)
        self.refusals = Refusals(clock)
        self.gate = Gate(clock, self.limits)
        self._arriving: set[Doorway | Client] = set()
        self._is_closed = False

    def _follow(self, settings: ListenerSettings, certificates: Any) -> None:
        self._settings = settings
        self._certificates = certificates
        self._balancers = Networks(settings.accept_proxy_from)
        self._has_balancers = bool(self._balancers)

    def change(self, settings: ListenerSettings, certificates: Any) -> None:
        """Apply other settings to those who come from now on."""
        self._follow(settings, certificates)
        self.limits.change(settings)

    def close(self) -> None:
        """Accept nobody any more, and abort who is on the way."""
        self._is_closed = True
        self.gate.close()
        for each in tuple(self._arriving):
            each.abort()

    @property
    def is_empty(self) -> bool:
        """Whether nobody is on the way."""
        return not self._arriving

    def behind_balancers(self) -> Factory:
        """A factory for a listener of which every client sends a PROXY header."""
        return _BehindBalancers(self)

    # Connections

    def accept(self, host: str | None) -> Protocol | None:
        """
        @param host: the address of who is accepted; C{None}: it came by a UNIX socket.
        @return: the protocol of the connection; C{None}: it is to be closed.
        """
        return self.accept_from(host, self._has_balancers and host in self._balancers)

    def accept_from(self, host: str | None, has_header: bool) -> Protocol | None:
        """As C{accept}.

        @param has_header: whether it has to send a PROXY header.
        """
        if self._is_closed:
            return None
        self.limits.arrived()
        if has_header:
            return Doorway(self, self._clock, self._settings.proxy_header_timeout)
        if self._certificates is not None:
            return Doorway(self, self._clock, None)
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

    def _sets_out(self, each: Doorway | Client) -> None:
        self._arriving.add(each)
        if self._descriptors is not None:
            self._descriptors.waiting += 1

    def _has_arrived(self, each: Doorway | Client) -> None:
        if each in self._arriving:
            self._arriving.remove(each)
            if self._descriptors is not None:
                self._descriptors.waiting -= 1

    # Called by doorways

    def came(self, doorway: Doorway) -> None:
        self._sets_out(doorway)

    def turned_away(self, doorway: Doorway, reason: str, why: str) -> None:
        self._has_arrived(doorway)
        self.limits.left()
        self.refusals.add(Visitor(doorway.transport), reason, why)

    def enter(self, doorway: Doorway, visitor: Visitor) -> Protocol | None:
        self._has_arrived(doorway)
        if not self._is_welcome(visitor.host, visitor):
            return None
        client = self._make_client(visitor.host, visitor)
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
        self.refusals.add(client.visitor, name, why)
        client.abort()

    def end_handshake(self, client: Client) -> bool:
        """
        @return: whether its handshake was under way.
        """
        if client.timer is None:
            return False
        client.timer.cancel()
        client.timer = None
        self._has_arrived(client)
        return True

    def left(self, client: Client) -> None:
        """A client's connection is lost."""
        self.limits.left()
        self.limits.departed(client.host)
        if self.end_handshake(client) and not self._is_closed:
            self.refusals.add(client.visitor, "handshake", "has left in its TLS handshake")


class _BehindBalancers(Factory):
    noisy = False

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor

    def buildProtocol(self, addr: object) -> Protocol | None:
        return self.protocol_for(getattr(addr, "host", None))

    def protocol_for(self, host: str | None) -> Protocol | None:
        """As that of C{Front}."""
        return self._acceptor.accept_from(host, True)

"""C{OwnResolver}: Twisted's resolver, with a C{close} that ends its timers and connections.

C{twisted.names} would leave delayed calls and TCP connections in the reactor. They are the state
here: they are added as the resolver makes them, and C{close} ends them.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any
from weakref import WeakSet

from twisted.internet.interfaces import IDelayedCall, IResolver
from twisted.names import client, dns, hosts
from twisted.names.resolve import ResolverChain

from kolus.support import check_whole, steady

__all__ = ["OwnResolver", "check_servers"]

_HOSTS, _SERVERS = b"/etc/hosts", b"/etc/resolv.conf"
_HOSTS_TTL = 10


def check_servers(servers: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Name servers, with each address in the kernel's spelling.

    Twisted compares it with the source of a reply, and ignores the reply if the spelling differs.

    @raise ValueError: there are none, or one is not a pair of an address and a port.
    """
    found = []
    for each in servers:
        try:
            host, port = each
            address = str(ip_address(host))
        except (TypeError, ValueError):
            raise ValueError(f"a name server must be (address, port), not {each!r}") from None
        check_whole("a name server's port", port, 1, 65535)
        found.append((address, port))
    if not found:
        raise ValueError("no name servers are given")
    return found


class OwnResolver:
    """Asks the given name servers; by default C{/etc/hosts}, then C{/etc/resolv.conf}'s servers.

    It caches nothing and uses no search domains: names must be full names.

    @ivar resolver: makes the lookups. Cancel those in flight before C{close}.
    """

    def __init__(self, reactor: Any, servers: Sequence[tuple[str, int]] | None) -> None:
        """
        @param reactor: must support UDP and TCP.
        @param servers: the result of C{check_servers}; C{None} for the machine's name servers.
        """
        self._tracked = _TrackedReactor(reactor)
        asked: Any = client.Resolver(
            None if servers else _SERVERS,
            list(servers) if servers else None,
            reactor=self._tracked,
        )
        asked.factory = _OverTCP(asked, self._tracked)
        self.resolver: IResolver = asked
        if not servers:
            # client.createResolver does the same, but with the global reactor.
            self.resolver = ResolverChain([hosts.Resolver(_HOSTS, _HOSTS_TTL), asked])

    def close(self) -> None:
        """End the resolver's timers and TCP connections."""
        self._tracked.end()


class _OverTCP(client.DNSClientFactory):
    """Asks over TCP if an answer fits no datagram. Twisted's factory uses the global reactor."""

    noisy = False

    def __init__(self, resolver: Any, reactor: Any) -> None:
        super().__init__(resolver)  # type: ignore[no-untyped-call]
        self._reactor = reactor

    def buildProtocol(self, addr: object) -> Any:
        made: Any = dns.DNSProtocol(self.controller, self._reactor)
        made.factory = self
        return made


class _TrackedReactor:
    """The part of a reactor that a resolver uses. It remembers delayed calls and connectors.

    It does not remember datagram ports: a resolver closes each port with its query, even a
    cancelled one, and closing a port twice is an error.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        # Weak: an entry goes when the reactor forgets the call or the connector.
        self._calls: WeakSet[Any] = WeakSet()
        self._connectors: WeakSet[Any] = WeakSet()

    def callLater(self, delay: float, what: Any, *args: Any, **kwargs: Any) -> IDelayedCall:
        call: IDelayedCall = steady(self._reactor).callLater(delay, what, *args, **kwargs)
        self._calls.add(call)
        return call

    def listenUDP(self, port: int, protocol: Any, **kwargs: Any) -> Any:
        protocol.noisy = False  # spares two of the four log lines that Twisted writes per query
        return self._reactor.listenUDP(port, protocol, **kwargs)

    def connectTCP(self, *args: Any, **kwargs: Any) -> Any:
        connector = self._reactor.connectTCP(*args, **kwargs)
        self._connectors.add(connector)
        return connector

    def end(self) -> None:
        for call in tuple(self._calls):
            if call.active():
                call.cancel()
        for connector in tuple(self._connectors):
            if connector.state == "connected":
                connector.transport.abortConnection()
            elif connector.state == "connecting":
                connector.stopConnecting()

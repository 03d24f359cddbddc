"""C{OwnResolver}: Twisted's resolver, of which nothing is left once it is closed.

What it keeps is what C{twisted.names} would leave in the reactor: the delayed calls and the TCP
connections that the resolver made. They come to it as the resolver makes them, and are ended in
C{close}.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any
from weakref import WeakSet

from twisted.internet.interfaces import IDelayedCall, IResolver
from twisted.names import client, dns, hosts
from twisted.names.resolve import ResolverChain

__all__ = ["OwnResolver", "check_servers"]

_HOSTS, _SERVERS = b"/etc/hosts", b"/etc/resolv.conf"
_HOSTS_TTL = 10


def check_servers(servers: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Name servers, their addresses written as the kernel writes those that replies come from:
    others would not be recognized.

    @raise ValueError: there is none, or one is not an address with a port.
    """
    found = []
    for each in servers:
        try:
            host, port = each
            address = str(ip_address(host))
        except (TypeError, ValueError):
            raise ValueError(f"a name server is (address, port), not {each!r}") from None
        if type(port) is not int or not 0 < port < 65536:
            raise ValueError(f"a name server's port is from 1 to 65535, not {port!r}")
        found.append((address, port))
    if not found:
        raise ValueError("no name servers are given")
    return found


class OwnResolver:
    """Asks the given name servers, or those of this machine after its file of hosts.

    It caches nothing, and leaves the search domains out: a name is a full one.

    @ivar resolver: for the lookups. Those that still run must be cancelled before C{close}.
    """

    def __init__(self, reactor: Any, servers: Sequence[tuple[str, int]] | None) -> None:
        """
        @param reactor: with UDP and TCP.
        @param servers: checked ones; C{None} for this machine's.
        """
        self._borrowed = _Borrowed(reactor)
        asked: Any = client.Resolver(
            None if servers else _SERVERS,
            list(servers) if servers else None,
            reactor=self._borrowed,
        )
        asked.factory = _OverTCP(asked, self._borrowed)
        self.resolver: IResolver = asked
        if not servers:
            # As client.createResolver does it, which would take the global reactor.
            self.resolver = ResolverChain([hosts.Resolver(_HOSTS, _HOSTS_TTL), asked])

    def close(self) -> None:
        """End what the resolver has left in the reactor."""
        self._borrowed.end()


class _OverTCP(client.DNSClientFactory):
    """Asks over TCP what fits no datagram; Twisted's own takes time from the global reactor."""

    noisy = False

    def __init__(self, resolver: Any, reactor: Any) -> None:
        super().__init__(resolver)  # type: ignore[no-untyped-call]
        self._reactor = reactor

    def buildProtocol(self, addr: object) -> Any:
        made: Any = dns.DNSProtocol(self.controller, self._reactor)
        made.factory = self
        return made


class _Borrowed:
    """What a resolver uses of a reactor, and remembers of it what would stay.

    Not the datagram ports: a resolver closes each with its query, even one that is cancelled, and a
    port that is told to close twice breaks.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        # What is over is forgotten by the reactor, and so here.
        self._calls: WeakSet[Any] = WeakSet()
        self._connectors: WeakSet[Any] = WeakSet()

    def callLater(self, delay: float, what: Any, *args: Any, **kwargs: Any) -> IDelayedCall:
        call: IDelayedCall = self._reactor.callLater(delay, what, *args, **kwargs)
        self._calls.add(call)
        return call

    def listenUDP(self, port: int, protocol: Any, **kwargs: Any) -> Any:
        protocol.noisy = False  # of Twisted's four lines in the log for each question, two less
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

"""C{HostResolver}: resolves host names at chosen name servers.

It has no state. A resolution's state is the queries in flight and their resolver, then the
resolution by the fallback resolver, if there is one. C{ask}, C{_answered} and C{cancel} change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
)
from zope.interface import implementer

from kolus.sources import records
from kolus.sources.resolver import OwnResolver, check_servers
from kolus.support import steady

__all__ = ["HostResolver"]

_TIMEOUTS = (1, 2)
"""Time-outs in seconds of the two attempts at a query, for each name server."""

_DEADLINE = 4.0
"""Seconds after which the fallback resolver is used, even if name servers may still answer."""

_LOOKUPS = {IPv4Address: "lookupAddress", IPv6Address: "lookupIPV6Address"}


@implementer(IHostnameResolver)
class HostResolver:
    """Resolves host names at the given name servers, and asks a fallback resolver if they fail.

    Install it, and the reactor uses it for every connect::

        resolver = HostResolver(reactor, [("10.0.0.2", 53)], reactor.nameResolver)
        reactor.installNameResolver(resolver)

    It caches nothing. A resolution that has ended leaves no timer or socket behind.
    """

    def __init__(
        self,
        reactor: Any,
        servers: Sequence[tuple[str, int]],
        otherwise: IHostnameResolver,
    ) -> None:
        """
        @param reactor: must support UDP and TCP.
        @param servers: name servers, as pairs (address, port). Each is asked if those before it do
            not answer.
        @param otherwise: the fallback resolver. It resolves names for which C{servers} return no
            address, such as those in C{/etc/hosts}, and names that are addresses already.
        @raise ValueError: there are no servers, or one is not such a pair.
        """
        self.reactor = reactor
        self.servers = check_servers(servers)
        self.otherwise = otherwise

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        details = (hostName, portNumber, addressTypes, transportSemantics)
        if isIPAddress(hostName) or isIPv6Address(hostName):
            return self.otherwise.resolveHostName(resolutionReceiver, *details)
        resolution = _Resolution(self, resolutionReceiver, *details)
        resolutionReceiver.resolutionBegan(resolution)
        resolution.ask()
        return resolution


@implementer(IHostResolution, IResolutionReceiver)
class _Resolution:
    """The resolution of one name. It also passes on what the fallback resolver finds."""

    def __init__(
        self,
        resolver: HostResolver,
        receiver: IResolutionReceiver,
        name: str,
        port: int,
        kinds: Sequence[type[IAddress]] | None,
        transport: str,
    ) -> None:
        self.name = name
        self._details = (name, port, kinds, transport)
        self._resolver = resolver
        self._receiver = receiver
        self._lookups = [_LOOKUPS[each] for each in _LOOKUPS if kinds is None or each in kinds]
        self._own = OwnResolver(resolver.reactor, resolver.servers)
        self._queries: Deferred[Any] | None = None
        self._fallback: IHostResolution | None = None

    def ask(self) -> None:
        questions = [
            maybeDeferred(getattr(self._own.resolver, each), self.name, _TIMEOUTS)
            .addTimeout(_DEADLINE, steady(self._resolver.reactor))
            .addCallback(records.of_answer)
            for each in self._lookups
        ]
        self._queries = DeferredList(questions, consumeErrors=True)
        self._queries.addCallback(self._answered)

    def cancel(self) -> None:
        asked, self._queries = self._queries, None
        if asked is not None:
            asked.cancel()
            self._own.close()
        elif self._fallback is not None:
            self._fallback.cancel()

    def _answered(self, results: list[tuple[bool, Any]]) -> None:
        if self._queries is None:
            return  # cancelled meanwhile
        self._queries = None
        self._own.close()
        hosts = records.hosts([each for ok, answer in results if ok for each in answer])
        if not hosts:
            self._resolver.otherwise.resolveHostName(self, *self._details)
            return
        _, port, _, transport = self._details
        for host in hosts:
            kind: Any = IPv6Address if ":" in host else IPv4Address
            self._receiver.addressResolved(kind(transport, host, port))
        self._receiver.resolutionComplete()

    # IResolutionReceiver: called by the fallback resolver

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self._fallback = resolutionInProgress

    def addressResolved(self, address: IAddress) -> None:
        self._receiver.addressResolved(address)

    def resolutionComplete(self) -> None:
        self._receiver.resolutionComplete()

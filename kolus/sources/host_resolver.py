"""C{HostResolver}: where hosts are, by name servers of one's choice.

It has no state. That of a resolution is the questions that are out, with the resolver that they are
asked by; then the resolution elsewhere, if there is one. C{ask}, C{_answered} and C{cancel} change
it.
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

__all__ = ["HostResolver"]

_PATIENCE = (1, 2)
"""Seconds to wait for each of two attempts at a question; at each of several name servers."""

_DEADLINE = 4.0
"""Seconds after which a host is looked for elsewhere, whatever the name servers still do."""

_LOOKUPS = {IPv4Address: "lookupAddress", IPv6Address: "lookupIPV6Address"}


@implementer(IHostnameResolver)
class HostResolver:
    """Resolves names of hosts at the given name servers; another resolver does if they know none.

    For a reactor, which then resolves by it whatever it connects to::

        its = HostResolver(reactor, [("10.0.0.2", 53)], reactor.nameResolver)
        reactor.installNameResolver(its)

    Nothing is cached, and nothing of a resolution that has ended is left.
    """

    def __init__(
        self,
        reactor: Any,
        servers: Sequence[tuple[str, int]],
        otherwise: IHostnameResolver,
    ) -> None:
        """
        @param reactor: to ask with.
        @param servers: name servers, as pairs (address, port); each is asked when those before it
            do not answer.
        @param otherwise: resolves what these tell no address of, such as the names in this
            machine's file of hosts; addresses too.
        @raise ValueError: there are no servers, or one is no such pair.
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
    """One of a name: it receives, and passes on, what is found elsewhere."""

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
        self._asked: Deferred[Any] | None = None
        self._elsewhere: IHostResolution | None = None

    def ask(self) -> None:
        questions = [
            maybeDeferred(getattr(self._own.resolver, each), self.name, _PATIENCE)
            .addTimeout(_DEADLINE, self._resolver.reactor)
            .addCallback(records.of_answer)
            for each in self._lookups
        ]
        self._asked = DeferredList(questions, consumeErrors=True)
        self._asked.addCallback(self._answered)

    def cancel(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.cancel()
            self._own.close()
        elif self._elsewhere is not None:
            self._elsewhere.cancel()

    def _answered(self, results: list[tuple[bool, Any]]) -> None:
        if self._asked is None:
            return  # it was cancelled
        self._asked = None
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

    # Elsewhere

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self._elsewhere = resolutionInProgress

    def addressResolved(self, address: IAddress) -> None:
        self._receiver.addressResolved(address)

    def resolutionComplete(self) -> None:
        self._receiver.resolutionComplete()

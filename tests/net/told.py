"""A resolver for a reactor, which knows one name."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver
from zope.interface import implementer

__all__ = ["Told"]


@implementer(IHostnameResolver)
class Told:
    """A resolver that knows one name, C{told.test}.

    @ivar hosts: its addresses.
    @ivar asked: how often it was asked.
    """

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.asked = 0

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        self.asked += 1
        resolutionReceiver.resolutionBegan(self)
        for host in self.hosts if hostName == "told.test" else ():
            kind: Any = IPv4Address if ip_address(host).version == 4 else IPv6Address
            resolutionReceiver.addressResolved(kind("TCP", host, portNumber))
        resolutionReceiver.resolutionComplete()
        return self

"""C{ClientInfo}: who a client of the front is, as far as it is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kolus.proxy_protocol import Address, ProxyHeader, ProxyVersion, TLVType, encode
from kolus.support import host_and_port

__all__ = ["ClientInfo"]


@dataclass(slots=True)
class ClientInfo:
    """What a client's connection, its PROXY header and its TLS handshake tell.

    @ivar transport: its connection.
    @ivar header: the PROXY header with which that began; C{None}: there was none.
    @ivar server_name: the server name that it told in its TLS handshake; empty: none.
    """

    transport: Any
    header: ProxyHeader | None = None
    server_name: str = ""

    @property
    def address(self) -> Address:
        """The client's address: that of the PROXY header, or that of the connection."""
        told = None if self.header is None else self.header.source
        return _address_of(self.transport.getPeer()) if told is None else told

    @property
    def host(self) -> str | None:
        """The text of its IP address; C{None} if it came by a UNIX socket."""
        address = self.address
        return address[0] if isinstance(address, tuple) else None

    def header_for_backend(self, version: ProxyVersion) -> bytes:
        """The PROXY header that tells a backend of this client. What the client's own header said
        besides addresses is passed on, and so is the server name."""
        told = self.header or ProxyHeader()
        source, destination = told.source, told.destination
        if source is None or destination is None:
            source = _without_zone(_address_of(self.transport.getPeer()))
            destination = _without_zone(_address_of(self.transport.getHost()))
        if type(source) is not type(destination):
            return encode(ProxyHeader(), version)
        tlvs = told.tlvs
        if self.server_name:
            others = tuple(each for each in tlvs if each[0] != TLVType.AUTHORITY)
            tlvs = (*others, (TLVType.AUTHORITY.value, self.server_name.encode("ascii", "replace")))
        return encode(ProxyHeader(source, destination, tlvs), version)

    def __str__(self) -> str:
        address = self.address
        if isinstance(address, bytes):
            return "a client of a UNIX socket"
        return host_and_port(*address)


def _address_of(address: Any) -> Address:
    """An address of Twisted's."""
    host = getattr(address, "host", None)
    if isinstance(host, str) and host:
        return host, address.port
    name = getattr(address, "name", None)
    return name if isinstance(name, bytes) else b""


def _without_zone(address: Address) -> Address:
    return address if isinstance(address, bytes) else (address[0].partition("%")[0], address[1])

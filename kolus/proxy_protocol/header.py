"""C{ProxyHeader}: what a header of the PROXY protocol says, a frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address, ip_address

__all__ = [
    "LOCAL",
    "MOST_IN_TLV",
    "MOST_IN_UNIX",
    "Address",
    "ProxyHeader",
    "ProxyHeaderError",
    "TLVType",
]

Address = tuple[str, int] | bytes
"""An IP address and its port, or the path of a UNIX socket."""

MOST_IN_TLV = 0xFFFF
MOST_IN_UNIX = 108
_MOST_OF_TYPE = 0xFF


class ProxyHeaderError(ValueError):
    """The bytes are not a header of the PROXY protocol, or a header that is not allowed."""


class TLVType(IntEnum):
    """The registered types of what version 2 can tell besides addresses."""

    ALPN = 0x01
    AUTHORITY = 0x02
    """The server name that the client told in its TLS handshake."""
    CRC32C = 0x03
    NOOP = 0x04
    UNIQUE_ID = 0x05
    SSL = 0x20
    NETNS = 0x30


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """Who the client is, and what it connected to.

    @ivar source: the client's address; C{None}: the sender does not tell, or the connection is its
        own, such as a health check (the command LOCAL). Then the addresses of the connection
        itself count.
    @ivar destination: the address that the client connected to; C{None} together with C{source}.
    @ivar tlvs: pairs of a type and a value, in their order, also of types that are unknown. The
        checksum and the padding are not among them. Version 1 has none.
    @ivar is_datagram: whether the client speaks UDP, or a UNIX socket of datagrams.
    """

    source: Address | None = None
    destination: Address | None = None
    tlvs: tuple[tuple[int, bytes], ...] = ()
    is_datagram: bool = False

    def __post_init__(self) -> None:
        """
        @raise ValueError: one of the addresses is missing or invalid, the two are of different
            kinds, or a TLV is invalid.
        """
        addresses = (self.source, self.destination)
        if len({None if each is None else type(each) for each in addresses}) > 1:
            raise ValueError(f"not two addresses of one kind: {addresses!r}")
        for each in addresses:
            if each is not None:
                _check_address(each)
        for kind, value in self.tlvs:
            if not 0 <= kind <= _MOST_OF_TYPE or len(value) > MOST_IN_TLV:
                raise ValueError(f"not a TLV: type {kind!r} with {len(value)} bytes")


LOCAL = ProxyHeader()
"""The header of a connection that the sender makes for itself."""


def _check_address(address: Address) -> None:
    if isinstance(address, bytes):
        if len(address) > MOST_IN_UNIX:
            raise ValueError(f"the path of a UNIX socket has {len(address)} bytes, not at most 108")
        return
    host, port = address
    parsed = ip_address(host)
    if isinstance(parsed, IPv6Address) and parsed.scope_id is not None:
        raise ValueError(f"the address {host!r} has a zone, which a header cannot tell")
    if type(port) is not int or not 0 <= port <= 0xFFFF:
        raise ValueError(f"not a port: {port!r}")

"""The PROXY protocol, versions 1 and 2: a balancer's first bytes, which tell who its client is.

C{decode} reads a header from the first bytes of a connection, C{encode} writes one, and
C{ProxyHeader} is what it says. This package knows only bytes and addresses: no socket and no
transport.
"""

from kolus.proxy_protocol.codec import ProxyVersion, decode, encode
from kolus.proxy_protocol.header import Address, ProxyHeader, ProxyHeaderError, TLVType
from kolus.proxy_protocol.v2 import MOST_BYTES

__all__ = [
    "MOST_BYTES",
    "Address",
    "ProxyHeader",
    "ProxyHeaderError",
    "ProxyVersion",
    "TLVType",
    "decode",
    "encode",
]

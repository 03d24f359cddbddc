"""Version 1 of the PROXY protocol: a line of text, such as C{PROXY TCP4 10.0.0.7 10.0.0.1 5555 80}.

Two functions; nothing is kept between calls.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

from kolus.proxy_protocol.header import LOCAL, ProxyHeader, ProxyHeaderError

__all__ = ["SIGNATURE", "decode_v1", "encode_v1"]

SIGNATURE = b"PROXY "
_MOST = 107
_END = b"\r\n"
_LINE = re.compile(
    rb"PROXY (TCP4|TCP6) ([0-9a-fA-F.:]+) ([0-9a-fA-F.:]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})"
)
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?")


def decode_v1(data: bytes) -> tuple[ProxyHeader, int] | None:
    """As C{kolus.proxy_protocol.decode}, of bytes that begin as the signature does."""
    size = data.find(_END, 0, _MOST)
    if size < 0:
        if len(data) >= _MOST:
            raise ProxyHeaderError(f"a PROXY header of version 1 has no end in {_MOST} bytes")
        return None
    line = bytes(data[:size])
    if _UNKNOWN.fullmatch(line):
        return LOCAL, size + len(_END)
    found = _LINE.fullmatch(line)
    if found is None:
        raise ProxyHeaderError(f"not a PROXY header of version 1: {line!r}")
    kind, *hosts = [each.decode("ascii") for each in found.group(1, 2, 3)]
    parse = IPv4Address if kind == "TCP4" else IPv6Address
    try:
        source, destination = (str(parse(each)) for each in hosts)
        header = ProxyHeader((source, int(found[4])), (destination, int(found[5])))
        return header, size + len(_END)
    except ValueError as error:
        raise ProxyHeaderError(f"not a PROXY header of version 1: {line!r} ({error})") from None


def encode_v1(header: ProxyHeader) -> bytes:
    """A header as a line. It has no TLVs; an address of a UNIX socket, or a client that speaks no
    TCP, is C{UNKNOWN}."""
    source, destination = header.source, header.destination
    if not isinstance(source, tuple) or not isinstance(destination, tuple) or header.is_datagram:
        return b"PROXY UNKNOWN\r\n"
    hosts = [ip_address(each[0]) for each in (source, destination)]
    kind = "TCP4"
    if {each.version for each in hosts} != {4}:
        kind, hosts = "TCP6", [_as_ipv6(each) for each in hosts]
    line = f"PROXY {kind} {hosts[0]} {hosts[1]} {source[1]} {destination[1]}\r\n"
    return line.encode("ascii")


def _as_ipv6(address: IPv4Address | IPv6Address) -> IPv6Address:
    return IPv6Address(f"::ffff:{address}") if address.version == 4 else IPv6Address(int(address))

"""Version 2 of the PROXY protocol: a binary header with addresses and TLVs.

Two functions; nothing is kept between calls.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct

from kolus.proxy_protocol.checksum import crc32c
from kolus.proxy_protocol.header import (
    LOCAL,
    MOST_IN_UNIX,
    Address,
    ProxyHeader,
    ProxyHeaderError,
    TLVType,
)

__all__ = ["MOST_BYTES", "SIGNATURE", "decode_v2", "encode_v2"]

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

MOST_BYTES = 4096
"""The longest header that is read. A sender's certificate details and names take some hundred
bytes; the length of a header is a promise of its sender, and this bounds what it can claim."""

_FIXED = Struct("!12sBBH")
_TLV = Struct("!BH")
_VERSION, _LOCAL_COMMAND, _PROXY_COMMAND = 2, 0, 1
_UNSPECIFIED, _INET, _INET6, _UNIX = range(4)
_BLOCKS = {_INET: Struct("!4s4sHH"), _INET6: Struct("!16s16sHH"), _UNIX: Struct("!108s108s")}
_STREAM, _DATAGRAM = 1, 2
_CRC_SIZE = 4


def decode_v2(data: bytes) -> tuple[ProxyHeader, int] | None:
    """As C{kolus.proxy_protocol.decode}, of bytes that begin as the signature does."""
    if len(data) < _FIXED.size:
        return None
    _, version_and_command, family_and_transport, length = _FIXED.unpack_from(data)
    version, command = divmod(version_and_command, 16)
    size = _FIXED.size + length
    if version != _VERSION or command not in (_LOCAL_COMMAND, _PROXY_COMMAND):
        raise ProxyHeaderError(f"a PROXY header has version {version} and command {command}")
    if size > MOST_BYTES:
        raise ProxyHeaderError(f"a PROXY header has {size} bytes; {MOST_BYTES} are read at most")
    if len(data) < size:
        return None
    header = bytes(data[:size])
    if command == _LOCAL_COMMAND:
        return LOCAL, size  # the specification: whatever follows is to be discarded
    family, transport = divmod(family_and_transport, 16)
    if family not in (_UNSPECIFIED, *_BLOCKS) or transport not in (0, _STREAM, _DATAGRAM):
        raise ProxyHeaderError(f"a PROXY header has family {family} and transport {transport}")
    at = _FIXED.size + (_BLOCKS[family].size if family else 0)
    if at > size:
        raise ProxyHeaderError(f"a PROXY header of family {family} has only {length} bytes")
    tlvs = tuple(_tlvs(header, at))
    source, destination = _addresses(family, header) if transport else (None, None)
    return ProxyHeader(source, destination, tlvs, transport == _DATAGRAM), size


def encode_v2(header: ProxyHeader, checksum: bool = False) -> bytes:
    """A header in binary form. Without addresses and TLVs its command is C{LOCAL}.

    @param checksum: whether it carries a CRC-32C of itself.
    @raise ValueError: the TLVs are longer than a header can be.
    """
    family, block = _block(header.source, header.destination)
    command = _PROXY_COMMAND if header.source is not None or header.tlvs else _LOCAL_COMMAND
    transport = (_DATAGRAM if header.is_datagram else _STREAM) if family else 0
    body = bytearray(block)
    for kind, value in header.tlvs:
        body += _TLV.pack(kind, len(value)) + value
    if checksum:
        body += _TLV.pack(TLVType.CRC32C, _CRC_SIZE) + bytes(_CRC_SIZE)
    if len(body) > 0xFFFF:
        raise ValueError(f"a PROXY header of {len(body)} bytes is too long")
    version_and_command = 16 * _VERSION + command
    made = _FIXED.pack(SIGNATURE, version_and_command, 16 * family + transport, len(body)) + body
    if checksum:
        made = made[:-_CRC_SIZE] + crc32c(made).to_bytes(_CRC_SIZE, "big")
    return bytes(made)


def _tlvs(header: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """The TLVs that begin at C{at}; the checksum is verified and left out, as is padding."""
    while at < len(header):
        if at + _TLV.size > len(header):
            raise ProxyHeaderError("a PROXY header ends within a TLV")
        kind, length = _TLV.unpack_from(header, at)
        at += _TLV.size
        value = header[at : at + length]
        if len(value) < length:
            raise ProxyHeaderError(f"a PROXY header ends within its TLV of type {kind}")
        if kind == TLVType.CRC32C:
            without = header[:at] + bytes(length) + header[at + length :]
            if length != _CRC_SIZE or crc32c(without) != int.from_bytes(value, "big"):
                raise ProxyHeaderError("the checksum of a PROXY header is wrong")
        elif kind != TLVType.NOOP:
            yield kind, value
        at += length


def _addresses(family: int, header: bytes) -> tuple[Address | None, Address | None]:
    if family == _UNSPECIFIED:
        return None, None
    fields = _BLOCKS[family].unpack_from(header, _FIXED.size)
    if family == _UNIX:
        return fields[0].rstrip(b"\0"), fields[1].rstrip(b"\0")
    kind = socket.AF_INET if family == _INET else socket.AF_INET6
    parse = IPv4Address if kind == socket.AF_INET else IPv6Address
    source, destination = (str(parse(each)) for each in fields[:2])
    return (source, fields[2]), (destination, fields[3])


def _block(source: Address | None, destination: Address | None) -> tuple[int, bytes]:
    """The family and the block of addresses."""
    if source is None or destination is None:
        return _UNSPECIFIED, b""
    if isinstance(source, bytes) and isinstance(destination, bytes):
        paths = (each.ljust(MOST_IN_UNIX, b"\0") for each in (source, destination))
        return _UNIX, b"".join(paths)
    assert isinstance(source, tuple)
    assert isinstance(destination, tuple)
    hosts = [ip_address(each[0]) for each in (source, destination)]
    family = _INET if {each.version for each in hosts} == {4} else _INET6
    if family == _INET6:
        hosts = [IPv6Address(f"::ffff:{each}") if each.version == 4 else each for each in hosts]
    packed = [each.packed for each in hosts]
    return family, _BLOCKS[family].pack(*packed, source[1], destination[1])

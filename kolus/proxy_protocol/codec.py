"""Reads and writes headers of both versions of the PROXY protocol."""

from __future__ import annotations

from typing import Literal

from kolus.proxy_protocol.header import ProxyHeader, ProxyHeaderError
from kolus.proxy_protocol.v1 import SIGNATURE as V1
from kolus.proxy_protocol.v1 import decode_v1, encode_v1
from kolus.proxy_protocol.v2 import SIGNATURE as V2
from kolus.proxy_protocol.v2 import decode_v2, encode_v2

__all__ = ["ProxyVersion", "decode", "encode"]

ProxyVersion = Literal["v1", "v2"]

_SHOWN = 20


def decode(data: bytes) -> tuple[ProxyHeader, int] | None:
    """Read the header at the beginning of a connection's bytes.

    @param data: all bytes that have come so far.
    @return: the header, and how many bytes it takes: what follows is the client's. C{None} if the
        bytes are the beginning of a header; call it again with more. That is so for 4096 bytes at
        most.
    @raise ProxyHeaderError: the bytes are not a header, whatever follows.
    """
    for signature, decode_version in ((V1, decode_v1), (V2, decode_v2)):
        begin = data[: len(signature)]
        if begin == signature:
            return decode_version(data)
        if signature.startswith(begin):
            return None
    raise ProxyHeaderError(f"not a PROXY header: {bytes(data[:_SHOWN])!r}")


def encode(header: ProxyHeader, version: ProxyVersion, *, checksum: bool = False) -> bytes:
    """Write a header.

    @param version: C{"v1"} has no TLVs, and addresses of TCP clients only.
    @param checksum: for C{"v2"}: whether the header carries a checksum of itself.
    @raise ValueError: the TLVs are longer than a header can be.
    """
    return encode_v1(header) if version == "v1" else encode_v2(header, checksum)

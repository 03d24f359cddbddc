"""The addresses of sockets, as Twisted has them."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

__all__ = ["address_of", "name_of"]


def name_of(ask: Any) -> Any:
    """What a socket's method tells; C{None} if the socket is reset already."""
    try:
        return ask()
    except OSError:
        return None


def address_of(family: int, name: Any) -> IAddress:
    """The address that a socket names, as Twisted has it."""
    if family == socket.AF_UNIX:
        return UNIXAddress(name if isinstance(name, bytes | None) else name.encode() or None)
    kind = IPv6Address if family == socket.AF_INET6 else IPv4Address
    host, port = ("", 0) if name is None else name[:2]
    return kind("TCP", host, port)

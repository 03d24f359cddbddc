"""The addresses of sockets: as Twisted has them, and as text."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

__all__ = ["host_and_port", "socket_address"]


def host_and_port(host: str, port: int) -> str:
    """An IP address and a port, for messages: C{10.0.0.7:6379} or C{[2001:db8::7]:6379}."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def socket_address(family: int, name: Any) -> IAddress:
    """The address of a socket as Twisted has it.

    @param name: the address as the socket module has it; C{None}: it is not known.
    """
    if family == socket.AF_UNIX:
        return UNIXAddress(name if isinstance(name, bytes | None) else name.encode() or None)
    kind = IPv6Address if family == socket.AF_INET6 else IPv4Address
    host, port = ("", 0) if name is None else name[:2]
    return kind("TCP", host, port)

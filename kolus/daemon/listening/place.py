"""C{place_of}: where an endpoint listens or connects, however its string is written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from twisted.internet.address import UNIXAddress

__all__ = ["Place", "address_place", "place_of", "socket_place"]

_LOCAL = {"localhost": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where something listens or connects; equal places are one.

    @ivar host: an address, or a name; empty: all IPv4 addresses of this machine; for a UNIX socket
        its absolute path, and for one of systemd its number.
    @ivar port: the port; C{None}: it is a UNIX socket, or one of systemd.
    """

    host: str
    port: int | None = None

    def meets(self, other: Place) -> bool:
        """Whether only one of the two can be listened on, or a client of one reaches the other."""
        if self.port != other.port or self.port == 0:  # the system chooses another for each
            return False
        if self.port is not None and "" in (self.host, other.host):
            return ":" not in self.host + other.host
        return self.host == other.host


def socket_place(path: str) -> Place:
    """The place of a UNIX socket."""
    return Place(os.path.abspath(path))


def address_place(address: Any) -> Place:
    """The place of a port that listens, by its address as Twisted tells it."""
    if isinstance(address, UNIXAddress):
        return socket_place(os.fsdecode(address.name or b""))
    return Place("" if address.host == "0.0.0.0" else address.host, address.port)


def place_of(endpoint: Any) -> Place | None:
    """The place of an endpoint of Twisted's or of this package; C{None}: it does not tell."""
    path = getattr(endpoint, "path", None) or getattr(endpoint, "_path", None)
    if path:
        return socket_place(os.fsdecode(path))
    fileno = getattr(endpoint, "fileno", None)
    if fileno is not None:
        return Place(f"descriptor {fileno}")
    host = getattr(endpoint, "_interface", getattr(endpoint, "_host", None))
    port = getattr(endpoint, "_port", None)
    if host is None or port is None:
        return None
    host = os.fsdecode(host)
    return Place("" if host == "0.0.0.0" else _LOCAL.get(host, host), port)

"""The TCP front: takes one lease for each TCP client and copies bytes both ways.

C{Front} accepts the clients, C{End} is one connection of a tunnel, and C{join} copies the bytes
between two ends. This package knows leases and errors. It knows no pool: the caller gives C{Front}
a callable that asks for a lease.
"""

from kolus.tunnel.end import End
from kolus.tunnel.front import Front
from kolus.tunnel.pump import Traffic, join

__all__ = ["End", "Front", "Traffic", "join"]

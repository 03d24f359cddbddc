"""The TCP front: one lease for each client, bytes carried both ways.

C{Front} accepts the clients, C{End} is one connection of a tunnel, C{join} carries the bytes
between two of them.
"""

from kolus.tunnel.end import End
from kolus.tunnel.front import Front
from kolus.tunnel.pump import Traffic, join

__all__ = ["End", "Front", "Traffic", "join"]

"""The TCP front: takes one lease for each TCP client and copies bytes both ways.

C{Front} accepts the clients, C{End} is one connection of a tunnel, and C{join} copies the bytes
between two ends. C{ListenerSettings} is what a listener allows its clients. This package knows
leases and errors. It knows no pool: the caller gives C{Front} a callable that asks for a lease.
"""

from kolus.tunnel.end import End
from kolus.tunnel.front import Front
from kolus.tunnel.listening_socket import set_silence_limits
from kolus.tunnel.networks import Networks
from kolus.tunnel.pump import Traffic, join
from kolus.tunnel.settings import Ident, ListenerSettings

__all__ = [
    "End",
    "Front",
    "Ident",
    "ListenerSettings",
    "Networks",
    "Traffic",
    "join",
    "set_silence_limits",
]

"""The TCP front: takes one lease for each TCP client and copies bytes both ways.

C{Front} accepts the clients; C{Front.listens} takes over a listening port. What comes before a
client is joined is read by a C{HeaderReader} (the PROXY header) and by an C{End} (while it waits
for a lease). There are two data paths. With a C{Loop} plain sockets are C{Wire}s, watched by an
epoll of their own, and two joined wires are a C{Pair}, which copies and splices; C{in_place_of}
makes endpoints of a pool connect with wires. Everything else goes over Twisted's transports, by a
C{Tunnel}. A C{Framing} decides what becomes of a connection to a backend whose client has left.
C{ListenerSettings} is what a listener allows its clients. This package knows leases and errors. It
knows no pool: the caller gives C{Front} a callable that asks for a lease.
"""

from kolus.tunnel.end import End
from kolus.tunnel.framing import Framing
from kolus.tunnel.front import Front
from kolus.tunnel.networks import Networks
from kolus.tunnel.settings import Ident, ListenerSettings
from kolus.tunnel.silence_limits import set_silence_limits
from kolus.tunnel.tunnel import Tunnel
from kolus.tunnel.wires.loop import Loop, loop_of
from kolus.tunnel.wires.wire_endpoint import in_place_of

__all__ = [
    "End",
    "Framing",
    "Front",
    "Ident",
    "ListenerSettings",
    "Loop",
    "Networks",
    "Tunnel",
    "in_place_of",
    "loop_of",
    "set_silence_limits",
]

"""C{pump}: joins the two ends of a session over the faster of two data paths.

Two plain sockets of the front's own (C{Wire}) become a C{Pair}. Whatever has a transport of
Twisted's, or TLS, becomes a C{Tunnel}. Both keep the same promises, see C{Tunnel}.
"""

from __future__ import annotations

from kolus.tunnel.end import End
from kolus.tunnel.session import Session, Tell
from kolus.tunnel.tunnel import Tunnel
from kolus.tunnel.wires.pair import Pair
from kolus.tunnel.wires.wire import Wire

__all__ = ["pump"]


def pump(client: End, backend: End, ended: Tell, half_closed: Tell) -> Session:
    """See C{Pump}."""
    near, far = client.transport, backend.transport
    are_wires = isinstance(near, Wire) and isinstance(far, Wire)
    if are_wires and near.connected and far.connected and not backend.has_early:
        return Pair(near, far, client.take_early(), ended, half_closed)
    return Tunnel(client, backend, ended, half_closed)

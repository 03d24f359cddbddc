"""C{Framing}: what happens to a connection to a backend when its client has left.

The front asks it and nobody else. A tunnel copies bytes and does not know where an exchange ends,
so its framing, C{finish}, closes the connection. A front that understands the protocol can supply
one that releases the lease when nothing is under way, so that the next client gets the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kolus.lease import Lease

__all__ = ["Framing", "finish"]

Framing = Callable[[Lease[Any]], object]
"""Is called once with each lease, when its session has ended, and settles it. The front finishes a
lease that it leaves held."""


def finish(lease: Lease[Any]) -> None:
    """Close the connection: nobody knows in which state its client left it."""
    lease.finished()

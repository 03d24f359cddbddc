"""What can be told about a transport before it tells itself."""

from __future__ import annotations

from typing import Any

__all__ = ["is_ending", "is_sound"]


def is_sound(transport: Any, producing: bool = False) -> bool:
    """Whether it is open, nobody has told it to close, and nobody has left a producer with it.

    A protocol may do that at any time, on a timer of its own for example. Of an abort, and of
    closing one half, nothing public tells before the transport does so itself, a turn of the
    reactor later at the earliest.

    @param transport: C{None} if it is gone.
    @param producing: whether it may have a producer, since somebody else still uses it.
    """
    try:
        return not (
            transport.disconnecting
            or transport._aborting
            or transport._writeDisconnecting
            or (transport.producer is not None and not producing)
            or (transport.TLS and transport.protocol.disconnecting)
        )
    except AttributeError:
        return transport is not None and not getattr(transport, "disconnecting", False)


def is_ending(transport: Any) -> bool:
    """Whether it is gone, C{None} then, or will be soon without anybody's doing."""
    return transport is None or any(
        getattr(transport, each, False) for each in ("disconnecting", "_aborting")
    )

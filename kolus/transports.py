"""What can be told about a transport before it tells itself."""

from __future__ import annotations

from typing import Any

__all__ = ["is_closing", "is_sound"]


def is_sound(transport: Any) -> bool:
    """Whether nobody has told an open transport to close, nor left a producer with it."""
    return not is_closing(transport) and getattr(transport, "producer", None) is None


def is_closing(transport: Any) -> bool:
    """Whether somebody has told an open transport to close, all of it or its half.

    A protocol may do that at any time, on a timer of its own for example. Of an abort, and of
    closing one half, nothing public tells before the transport does so itself, a turn of the
    reactor later at the earliest.
    """
    try:
        return bool(
            transport.disconnecting
            or transport._aborting
            or transport._writeDisconnecting
            or (transport.TLS and transport.protocol.disconnecting)
        )
    except AttributeError:
        return bool(getattr(transport, "disconnecting", False))

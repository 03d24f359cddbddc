"""What a connection can be doing, and what may come after what."""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "BUSY",
    "CLOSED",
    "CLOSING",
    "CONNECTING",
    "IDLE",
    "LEASED",
    "NEXT",
    "ConnectionState",
]


class ConnectionState(IntEnum):
    """What a connection is doing."""

    CONNECTING = 0
    """Being made and prepared."""
    IDLE = 1
    """Ready to be leased."""
    LEASED = 2
    """With a lessee."""
    BUSY = 3
    """In a check before a lease, or in a reset after one."""
    CLOSING = 4
    """Told to close, not gone yet."""
    CLOSED = 5


CONNECTING, IDLE, LEASED, BUSY, CLOSING, CLOSED = ConnectionState

NEXT = (
    frozenset({IDLE, CLOSING, CLOSED}),  # CONNECTING
    frozenset({LEASED, BUSY, CLOSING, CLOSED}),  # IDLE
    frozenset({IDLE, LEASED, BUSY, CLOSING, CLOSED}),  # LEASED, perhaps once more
    frozenset({IDLE, LEASED, CLOSING, CLOSED}),  # BUSY
    frozenset({CLOSED}),  # CLOSING
    frozenset[ConnectionState](),  # CLOSED
)
"""The states that may follow each state."""

"""The states of a connection, and the allowed transitions."""

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
    """The state of a connection."""

    CONNECTING = 0
    """Being made and prepared."""
    IDLE = 1
    """Ready to be leased."""
    LEASED = 2
    """Leased, by one lessee or several."""
    BUSY = 3
    """In a check before a lease, or in a reset after one."""
    CLOSING = 4
    """Told to close, but not gone yet."""
    CLOSED = 5


CONNECTING, IDLE, LEASED, BUSY, CLOSING, CLOSED = ConnectionState

NEXT = (
    frozenset({IDLE, CLOSING, CLOSED}),  # CONNECTING
    frozenset({LEASED, BUSY, CLOSING, CLOSED}),  # IDLE
    frozenset({IDLE, LEASED, BUSY, CLOSING, CLOSED}),  # LEASED, also to the next lessee
    frozenset({IDLE, LEASED, CLOSING, CLOSED}),  # BUSY
    frozenset({CLOSED}),  # CLOSING
    frozenset[ConnectionState](),  # CLOSED
)
"""The states that may follow each state."""

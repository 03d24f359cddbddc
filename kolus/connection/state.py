"""The states of a connection, and the allowed transitions."""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "BUSY",
    "CLOSED",
    "CLOSING",
    "CONNECTING",
    "DETACHED",
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
    DETACHED = 4
    """Out of the pool: its last lessee has it for good."""
    CLOSING = 5
    """Told to close, but not gone yet."""
    CLOSED = 6


CONNECTING, IDLE, LEASED, BUSY, DETACHED, CLOSING, CLOSED = ConnectionState

NEXT = (
    frozenset({IDLE, CLOSING, CLOSED}),  # CONNECTING
    frozenset({LEASED, BUSY, CLOSING, CLOSED}),  # IDLE
    frozenset({IDLE, LEASED, BUSY, DETACHED, CLOSING, CLOSED}),  # LEASED, also to the next lessee
    frozenset({IDLE, LEASED, CLOSING, CLOSED}),  # BUSY
    frozenset({CLOSED}),  # DETACHED
    frozenset({CLOSED}),  # CLOSING
    frozenset[ConnectionState](),  # CLOSED
)
"""The states that may follow each state."""

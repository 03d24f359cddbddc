"""One connection to a backend: its states, its socket, its hooks, and how it is opened.

This package knows leases, events and policies. It knows nothing of managers: a connection tells
its C{Maker} what happens to it.
"""

from kolus.connection.connection import Connection
from kolus.connection.hearing import Hearing
from kolus.connection.hooks import Hooks, why_refused
from kolus.connection.maker import Maker
from kolus.connection.opening import Endpoint, Opening
from kolus.connection.slot import Slot
from kolus.connection.state import (
    BUSY,
    CLOSED,
    CLOSING,
    CONNECTING,
    IDLE,
    LEASED,
    ConnectionState,
)
from kolus.connection.transports import is_ending, is_sound, telling

__all__ = [
    "BUSY",
    "CLOSED",
    "CLOSING",
    "CONNECTING",
    "IDLE",
    "LEASED",
    "Connection",
    "ConnectionState",
    "Endpoint",
    "Hearing",
    "Hooks",
    "Maker",
    "Opening",
    "Slot",
    "is_ending",
    "is_sound",
    "telling",
    "why_refused",
]

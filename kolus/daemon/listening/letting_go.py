"""C{let_go}: closes a listening port whose socket another process has, too."""

from __future__ import annotations

from typing import Any

__all__ = ["let_go"]


def let_go(port: Any) -> None:
    """Accept no more, and close this process's descriptor.

    C{stopListening} would shut the socket down for the other process, and remove its path.
    """
    port.stopReading()
    port.socket.close()

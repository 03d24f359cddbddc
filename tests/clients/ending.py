"""A server that is ending."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Protocol

__all__ = ["Ending"]


class Ending(Protocol):
    """Accepts, as such a server does, and answers nothing."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

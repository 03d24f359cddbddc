"""C{OneProtocol}: the factory of one attempt to connect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import Factory

if TYPE_CHECKING:
    from kolus.manager.connection import Connection

__all__ = ["OneProtocol"]


class OneProtocol(Factory):
    """Builds the protocol of one attempt to connect."""

    noisy = False

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection

    def buildProtocol(self, addr: object) -> Connection[Any] | None:  # type: ignore[override]
        return self._connection.build()

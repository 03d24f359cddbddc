"""C{Maker}: what a connection knows of who made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from kolus.connection.connection import Connection
    from kolus.support import SteadyClock

__all__ = ["Maker"]


class Maker(Protocol):
    """What makes connections, and is told how they end.

    @ivar manager: the manager of the connections.
    @ivar clock: the manager's clock.
    """

    manager: Any
    clock: SteadyClock

    def now(self) -> float:
        """Seconds on the clock."""

    def connection_closed(self, connection: Connection[Any], reason: Failure) -> None:
        """A connection is gone, and its slot is free."""

    def connection_out_of_step(self, connection: Connection[Any], why: str, abort: bool) -> None:
        """A connection has data or an end that belong to no request: it is unusable."""

"""C{Keeper}: what a connection reports to: the connector that made it for a manager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

__all__ = ["Keeper"]


class Keeper(Protocol):
    """Keeps connections until they are gone."""

    @property
    def manager(self) -> Any:
        """The manager whose slot it holds."""

    @property
    def clock(self) -> IReactorTime: ...

    @property
    def build(self) -> Callable[[], Any]:
        """Makes the user's protocol."""

    def connection_closed(self, connection: Any, reason: Failure) -> None:
        """A connection is gone, and its slot is free."""

    def connection_out_of_step(self, connection: Any, why: str) -> None:
        """The peer of an idle connection did something that belongs to no request."""

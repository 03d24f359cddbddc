"""C{Keeper}: whom a connection reports to, which is what made it, for its manager."""

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
        """Whose slot it holds."""

    @property
    def clock(self) -> IReactorTime: ...

    @property
    def build(self) -> Callable[[], Any]:
        """Makes the user's protocol."""

    def connection_closed(self, connection: Any, reason: Failure) -> None:
        """It is gone and holds its slot no more."""

    def connection_out_of_step(self, connection: Any, why: str) -> None:
        """It is idle, and its peer did what cannot belong to any request."""

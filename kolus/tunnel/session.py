"""C{Session}: a client that is joined to a backend; C{Pump} makes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from kolus.tunnel.end import End

__all__ = ["Pump", "Session", "Tell"]


class Session(Protocol):
    """Copies bytes between two ends until both directions have ended.

    @ivar sent: bytes from the client so far.
    @ivar received: bytes from the backend so far.
    @ivar is_backends_turn: whether the last bytes came from the client.
    """

    @property
    def sent(self) -> int: ...
    @property
    def received(self) -> int: ...
    @property
    def is_backends_turn(self) -> bool: ...

    def begin(self) -> None:
        """Copy from now on, first what came before. It may end at once."""

    def stop(self) -> None:
        """End it because of the time. An end that still takes bytes is closed, not reset."""

    def abort(self) -> None:
        """End it now, with a reset of both connections."""


Tell = Callable[[Any], object]
"""Is told of a session."""

Pump = Callable[["End", "End", Tell, Tell], Session]
"""Makes the session of a client's end and a backend's end; C{begin} is due.

The first C{Tell} is called once, when it has ended. The client's connection is closed by then, or
about to be; the backend's is for the caller to close. The second is called when one side has ended
its direction."""

"""The step that is under way on a connection while it is made ready: connect, prepare, a hook."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from kolus.support import Step

if TYPE_CHECKING:
    from kolus.connection.connection import Connection

__all__ = ["begin_step"]


def begin_step(
    connection: Connection[Any],
    name: str,
    timeout: float | None,
    work: Callable[..., object],
    *args: object,
) -> Deferred[object]:
    """Begin the next step of a connection.

    When the time is over or the connection is lost, what C{work} returned is cancelled, and not
    waited for.

    @param work: what it returns may be a Deferred or a coroutine.
    @return: fires with what the work gave; fails with its exception, with C{TimeoutError} after
        C{timeout} seconds, with the reason of the loss. It always fires.
    """

    connection.step = begun = _ConnectionStep(connection, name, timeout)
    return begun.begin(work, *args)


class _ConnectionStep(Step):
    """Is the step of its connection while it is under way. The first is to open it."""

    def __init__(self, connection: Connection[Any], name: str, timeout: float | None) -> None:
        super().__init__(connection._maker.clock, name, timeout)
        self._connection = connection

    def ends(self) -> None:
        self._connection.step = self._connection.opening = None

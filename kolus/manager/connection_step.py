"""The step that is under way on a connection while it is made ready: connect, prepare, a hook."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from kolus.support import Step

if TYPE_CHECKING:
    from kolus.manager.connection import Connection

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

    def done(result: object) -> object:
        connection.step = None
        return result

    connection.step = begun = Step(connection._connector.clock, name, timeout)
    begun.outcome.addBoth(done)
    return begun.begin(work, *args)

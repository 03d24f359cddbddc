"""C{Early}: the requests that wait for the first list of a group's backends.

Its state is a Deferred for each, in the order in which they came, and what their owners have here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from kolus.watching import Owner, Owners, unguarded

__all__ = ["Early"]


class Early:
    """First come, first told.

    @ivar waiting: those who wait, the oldest first. Read it; it is changed here alone.
    """

    def __init__(self, clock: IReactorTime, too_late: Callable[[float], NoReturn]) -> None:
        """
        @param too_late: raises what a request fails with that was not told within so many seconds.
        """
        self._clock = clock
        self._too_late = too_late
        self.waiting: dict[Deferred[None], None] = {}
        self._owners = Owners()

    def wait(self, patience: float | None, owner: Owner | None) -> Deferred[None]:
        """
        @param patience: how many seconds it may take; C{None}: as long as it will.
        @param owner: at whose end the request is cancelled.
        @return: fires when there are backends.
        @raise LeaseError: C{owner} has ended.
        """
        ownership = None if owner is None else self._owners.ownership(unguarded(owner))
        told: Deferred[None] = Deferred(lambda told: self.waiting.pop(told, None))
        self.waiting[told] = None
        if patience is not None:
            told.addTimeout(patience, self._clock, lambda _, seconds: self._too_late(seconds))
        if ownership is not None:
            ownership.wait(told)
        return told

    def tell(self) -> None:
        """There are backends. Who comes meanwhile comes after those who wait."""
        while self.waiting:
            told = next(iter(self.waiting))
            told.callback(None)
            self.waiting.pop(told, None)

    def fail(self, error: Exception) -> None:
        """There will be none."""
        while self.waiting:
            told = next(iter(self.waiting))
            del self.waiting[told]
            if not told.called:  # else it is being told just now
                told.errback(error)

"""A clock that is blocked as a reactor is: first it makes the calls that are due, then it reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

__all__ = ["StallingClock"]


class StallingClock(Clock):
    """Has threads, as reactors have, so that time it skips counts as a stall."""

    def stall(self, seconds: float, *came: Callable[[], Any]) -> None:
        """Be blocked for so many seconds, then run on.

        @param came: what came meanwhile, to be read in the first turn after that.
        """
        self.rightNow += seconds
        self._turn()
        for each in came:
            each()
        self.advance(0)

    def _turn(self) -> None:
        """Make the calls that were due when the turn began, as C{runUntilCurrent} does."""
        for call in sorted(self.calls, key=lambda each: each.getTime()):
            if call.getTime() <= self.rightNow and call.active():
                self.calls.remove(call)
                call.called = True
                call.func(*call.args, **call.kw)

    def callFromThread(self, what: Callable[..., Any], *args: Any, **kw: Any) -> None:
        self.callLater(0, what, *args, **kw)

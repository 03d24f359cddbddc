"""Says why clients were turned away, in a line a second at the most.

Its state is the timer that runs while a line was said less than an interval ago, and the last
complaint since then with how many there were; C{add}, C{flush} and the timer change it.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Complaints"]


class Complaints:
    """Passes on the first complaint at once, and of those that follow the last and their number."""

    def __init__(
        self,
        clock: IReactorTime,
        say: Callable[[BaseException, int], object],
        interval: float = 1.0,
    ) -> None:
        """
        @param say: called with an error, and with how many others there were since the last call.
        @param interval: seconds from one call of C{say} to the next, at least.
        """
        self._clock = clock
        self._say = say
        self._interval = interval
        self._timer: IDelayedCall | None = None
        self._held: BaseException | None = None
        self._count = 0

    def add(self, error: BaseException) -> None:
        """Say it now, or have it counted."""
        self._held = error
        self._count += 1
        if self._timer is None:
            self._pass_on()

    def flush(self) -> None:
        """Say now what is held back, and let no timer run."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held is not None:
            self._say(self._held, self._count - 1)
            self._held = None
            self._count = 0

    def _pass_on(self) -> None:
        self._timer = None
        if self._held is not None:
            self.flush()
            self._timer = self._clock.callLater(self._interval, self._pass_on)

"""C{Throttle}: reports errors at most once a second, with the number of those left out.

Its state is the timer, which runs for one interval after each report, the last error since the
report, and the number of errors since then. C{add}, C{flush} and the timer change it.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from kolus.support import steady

__all__ = ["Throttle"]


class Throttle:
    """Reports the first error at once; of later ones, after each interval, the last and a count."""

    def __init__(
        self,
        clock: IReactorTime,
        report: Callable[[BaseException, int], object],
        interval: float = 1.0,
    ) -> None:
        """
        @param report: called with an error, and the number of other errors since the last call.
        @param interval: the least time between two calls of C{report}, in seconds.
        """
        self._clock = steady(clock)
        self._report = report
        self._interval = interval
        self._timer: IDelayedCall | None = None
        self._held: BaseException | None = None
        self._count = 0

    def add(self, error: BaseException) -> None:
        """Report the error now, or at the end of the interval."""
        self._held = error
        self._count += 1
        if self._timer is None:
            self._pass_on()

    def flush(self) -> None:
        """Report now what is held back, and stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held is not None:
            self._report(self._held, self._count - 1)
            self._held = None
            self._count = 0

    def _pass_on(self) -> None:
        self._timer = None
        if self._held is not None:
            self.flush()
            self._timer = self._clock.callLater(self._interval, self._pass_on)

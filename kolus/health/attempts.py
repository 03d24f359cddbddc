"""C{Attempts}: the results of the last attempts to connect to a backend, and when the next is due.

All managers of a backend share it, and their connectors change it. So all of them back off from a
backend that fails, and begin slowly together.
"""

from __future__ import annotations

import math

from kolus.health.shortage import Shortage

__all__ = ["Attempts"]

_AT_FIRST = 4
_LATE = 1.5
"""An attempt that takes longer than so many seconds has another one beside it, so that a backend
that was away is not waited for until the time-out of an attempt that will never be answered."""


class Attempts:
    """The results of the last attempts.

    @ivar failures: number of rounds of attempts in a row that failed. Attempts that were under way
        at the same time are one round.
    @ivar since: when the first of these failures was, on the clock.
    @ivar retry_at: the clock time at which the back-off after them is over.
    @ivar begun_at: when the newest attempt began, on the clock; infinity while the request that it
        is for has not come to wait.
    @ivar number: a request with a higher number came after the last failure.
    @ivar is_owed: whether this was a first failure, and no request has failed for it yet.
    @ivar but: what failed in the last one when it was connected; C{None} if it was not.
    @ivar is_mistake: whether the user's own code failed in it.
    @ivar shortage: what this machine lacks for connects to any backend.
    @ivar paused_in: the number of its pause that the last attempt failed in; 0 if in none.
    @ivar own_shortage: what it lacks for connects to this backend.
    """

    def __init__(self, shortage: Shortage | None = None, *, starts_slowly: bool = True) -> None:
        self.failures = 0
        self.since = 0.0
        self.retry_at = -math.inf
        self.number = -1
        self.is_owed = False
        self.but: str | None = None
        self.is_mistake = False
        self.shortage = Shortage() if shortage is None else shortage
        self.own_shortage = Shortage()
        self.paused_in = 0
        self._error: BaseException | None = None
        self._at_first: float = _AT_FIRST if starts_slowly else math.inf
        self._window = self._at_first
        self.begun_at = -math.inf

    @property
    def due_at(self) -> float:
        """The clock time from which the next attempt is allowed."""
        return max(self.retry_at, self.shortage.due_at(self.paused_in), self.own_shortage.until)

    @property
    def last_error(self) -> BaseException | None:
        """The error of the last attempt, without its traceback; C{None} if it succeeded. While
        this machine lacks what a connect needs, its fault."""
        return self.shortage.fault or self.own_shortage.fault or self._error

    def begin(self, now: float, under_way: int) -> None:
        """An attempt begins.

        @param under_way: the number of others.
        """
        if not under_way:
            self._window = self._at_first
        self.begun_at = now

    def may_begin(self, now: float, under_way: int) -> bool:
        """Whether another attempt may begin beside those under way.

        It is a slow start: four at first, one more for each that succeeds, so their number doubles
        each time. There is one while the last attempt failed.
        """
        most = 1 if self.failures else self._window
        return under_way < most or now >= self.begun_at + _LATE

    def late_at(self) -> float:
        """When the newest attempt is late, so that another may begin beside it."""
        return self.begun_at + _LATE

    def failed(
        self, error: BaseException, failures: int, now: float, delay: float, number: int
    ) -> None:
        """An attempt failed.

        @param failures: number of failed rounds in a row, including this one.
        @param delay: seconds until the next attempt; counted from the first failure of a round.
        @param number: the number of the next request.
        """
        if not self.failures:
            self.since = now
        if failures > self.failures:
            self.retry_at = now + delay
            self.is_owed = failures == 1
        self.failures = failures
        self.number = number
        self._error = error
        self._window = self._at_first

    def succeeded(self) -> None:
        """An attempt succeeded: reset everything, and let one more begin beside the next ones."""
        self.paused_in = 0
        self.failures = 0
        self._error = self.but = None
        self.is_mistake = False
        self.retry_at = -math.inf
        self._window += 1

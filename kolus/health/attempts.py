"""C{Attempts}: the results of the last attempts to connect to a backend, and when the next is due.

All managers of a backend share it, and their connectors change it. So all of them back off from a
backend that fails, and begin slowly together.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kolus.errors import describe
from kolus.health.shortage import Shortage

if TYPE_CHECKING:
    from kolus.backoff import Rng
    from kolus.errors import MachineFault

__all__ = ["CHECK_FAILED", "LATE", "USELESS", "Attempts"]

_AT_FIRST = 4
USELESS = "it was of no use"
"""What is said of a connection that was ready and ended, or was out of step, before any lease."""
CHECK_FAILED = "its check failed"
"""The same of one whose check before its first lease failed."""
TOLD_AGAIN = 60.0
"""Seconds after which it is told again that the connections of a backend are of no use."""
LATE = 1.5
"""Seconds after which another attempt is made beside one that is not answered. Otherwise a backend
that was away would not be used before the time-out of an attempt that is never answered."""


class Attempts:
    """The results of the last attempts.

    @ivar failures: number of rounds of attempts in a row that failed. Attempts that were under way
        at the same time are one round.
    @ivar since: when the first of these failures was, on the clock.
    @ivar successes: number of attempts that succeeded so far.
    @ivar retry_at: the clock time at which the back-off after them is over.
    @ivar begun_at: when the newest attempt began, on the clock. Requests that came later are not
        among those that it was made for.
    @ivar number: a request with a higher number came after the last failure.
    @ivar may_fail_one: whether this was a first failure, and no request has failed for it yet.
    @ivar but: what failed in the last one when it was connected; C{None} if it was not.
    @ivar is_mistake: whether the user's own code failed in it.
    @ivar is_told: whether the last failure was told as news, so that its end is, too.
    @ivar shortage: what this machine lacks for connects to any backend.
    @ivar paused_in: the number of its pause that the last attempt failed in; 0 if in none.
    @ivar own_shortage: what it lacks for connects to this backend.
    """

    def __init__(self, shortage: Shortage | None = None, *, starts_slowly: bool = True) -> None:
        self.failures = self.successes = 0
        self.since = 0.0
        self.retry_at = -math.inf
        self.begun_at = -math.inf
        self.number = -1
        self.may_fail_one = False
        self.but: str | None = None
        self.is_mistake = False
        self.is_told = False
        self.shortage = Shortage() if shortage is None else shortage
        self.own_shortage = Shortage()
        self.paused_in = 0
        self._error: BaseException | None = None
        self._useless = ("", -math.inf)
        self._at_first: float = _AT_FIRST if starts_slowly else math.inf
        self._window = self._at_first

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

    def precedes_its_request(self) -> None:
        """The attempt that has just begun is for the next request that comes to wait. Until
        C{its_request_waits}, no request came after it, and it is not late."""
        self.begun_at = math.inf

    def its_request_waits(self, now: float) -> None:
        """That request waits, and the attempt counts as begun with it."""
        self.begun_at = now

    def may_begin(self, now: float, under_way: int) -> bool:
        """Whether another attempt may begin beside those under way.

        It is a slow start: four at first, one more for each that succeeds, so their number doubles
        each time. There is one while the last attempt failed, also if it failed for a fault of this
        machine.
        """
        most = self._window if self.last_error is None else 1
        return under_way < most or now >= self.late_at()

    def late_at(self) -> float:
        """When the newest attempt is late, so that another may begin beside it."""
        return self.begun_at + LATE

    def failed(
        self,
        error: BaseException,
        failures: int,
        now: float,
        delay: float,
        number: int,
        *,
        but: str | None,
        is_mistake: bool,
    ) -> None:
        """An attempt failed.

        @param failures: number of failed rounds in a row, including this one.
        @param delay: seconds until the next attempt; counted from the first failure of a round.
        @param number: the number of the next request.
        @param but: what failed when it was connected; C{None} if it was not.
        @param is_mistake: whether the user's own code failed in it.
        """
        if not self.failures:
            self.since = now
        if failures > self.failures:
            self.retry_at = now + delay
            self.may_fail_one = failures == 1
        self.failures = failures
        self.number = number
        self.but = but
        self.is_mistake = is_mistake
        self._error = error
        self._window = self._at_first

    def is_news(self, error: BaseException, but: str | None, now: float) -> bool:
        """Whether a failure is to be told: it is not that of the attempt before it again.

        A backend whose connections are of no use succeeds and fails by turns, as each connect by
        itself succeeds. So such a failure is told again only after C{TOLD_AGAIN}.
        """
        text, last = describe(error), self.last_error
        if but not in (USELESS, CHECK_FAILED):
            is_news = last is None or describe(last) != text
        else:
            is_news = text != self._useless[0] or now >= self._useless[1] + TOLD_AGAIN
            if is_news:
                self._useless = text, now
        self.is_told = is_news or (last is not None and self.is_told)
        return is_news

    def lacked(self, fault: MachineFault, now: float, rng: Rng) -> bool:
        """An attempt failed for a fault of this machine, which is not held against the backend.

        @return: whether it is the first that failed for it.
        """
        shortage = self.shortage if fault.is_general else self.own_shortage
        is_first = shortage.failed(fault, now, rng)
        self.paused_in = self.shortage.number
        return is_first

    def succeeded(self, before: int) -> int:
        """An attempt succeeded: reset everything, and let one more begin beside the next ones.

        That does not make up for a connection that turned out to be of no use after the attempt had
        begun: that one was connected, too.

        @param before: number of failures in a row before the attempt began.
        @return: number of failures in a row that are over now, those of the user's own code aside.
        """
        self.paused_in = 0
        if self.but is not None and self.failures > before:
            return 0
        over = 0 if self.is_mistake else self.failures
        self.failures = 0
        self.successes += 1
        self._error = self.but = None
        self.is_mistake = False
        self.retry_at = -math.inf
        self._window += 1
        return over

"""C{Attempts}: the result of the last attempts to connect to a backend, and when the next is due.

All managers of a backend share it, and their connectors change it. So all of them back off from a
backend that fails.
"""

from __future__ import annotations

import math

__all__ = ["Attempts"]


class Attempts:
    """The result of the last attempts.

    @ivar failures: number of failed attempts in a row.
    @ivar last_error: the error of the last attempt, without its traceback; C{None} if it succeeded.
    @ivar due_at: the clock time from which the next attempt is allowed.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.last_error: BaseException | None = None
        self.due_at = -math.inf

    def failed(self, error: BaseException, failures: int, due_at: float) -> None:
        """An attempt failed.

        @param failures: number of failed attempts in a row, including this one.
        """
        self.failures = failures
        self.last_error = error
        self.due_at = due_at

    def succeeded(self) -> None:
        """An attempt succeeded: reset everything."""
        self.failures = 0
        self.last_error = None
        self.due_at = -math.inf

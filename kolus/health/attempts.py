"""C{Attempts}: how the attempts to connect to one backend went, and when the next is due.

Its state is changed by the connectors of the backend's managers, which share it: a backend that
fails is left alone by all of them.
"""

from __future__ import annotations

import math

__all__ = ["Attempts"]


class Attempts:
    """What the last attempts came to.

    @ivar failures: how many in a row have failed.
    @ivar last_error: what the last one failed with, without frames; C{None} after one that
        succeeded.
    @ivar due_at: when the next one may be made, on the clock.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.last_error: BaseException | None = None
        self.due_at = -math.inf

    def failed(self, error: BaseException, failures: int, due_at: float) -> None:
        """One more failed.

        @param failures: how many in a row have, this one included.
        """
        self.failures = failures
        self.last_error = error
        self.due_at = due_at

    def succeeded(self) -> None:
        """One succeeded: nothing that was before it counts."""
        self.failures = 0
        self.last_error = None
        self.due_at = -math.inf

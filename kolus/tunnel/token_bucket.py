"""C{TokenBucket}: how many of something may begin per second.

Its state is the tokens that are left, and when they were counted.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["TokenBucket"]


class TokenBucket:
    """Holds one second's worth of tokens at most, and fills up evenly."""

    def __init__(self, seconds: Callable[[], float], rate: int) -> None:
        """
        @param seconds: tells the time.
        @param rate: tokens per second.
        """
        self._seconds = seconds
        self._rate = rate
        self._tokens = float(rate)
        self._at = seconds()

    def take(self) -> None:
        """Take one token; it may be one that is not there yet."""
        self._fill()
        self._tokens -= 1

    def wait(self) -> float:
        """Seconds until there is a token; 0 if there is one."""
        self._fill()
        return max(0.0, (1 - self._tokens) / self._rate)

    def _fill(self) -> None:
        now = self._seconds()
        self._tokens = min(float(self._rate), self._tokens + (now - self._at) * self._rate)
        self._at = now

"""C{Descriptors}: keeps file descriptors for the backends of the clients that are accepted.

Its state is how many clients more may be accepted until it looks again, and how many wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from kolus.support import soft_limit

__all__ = ["Descriptors"]

_RESERVE = 8
"""For host names, log files, health checks, a signal's handler."""
_EACH = 2
"""A client needs one, and its connection to a backend another."""
_MOST = 1000


class Descriptors:
    """Counts the descriptors in use. That takes long where there are thousands, so after each look
    as many clients are accepted as have room, before it looks again.

    @ivar waiting: number of the clients that have no connection to a backend yet, including those
        that have not completed their TLS handshake.
    """

    def __init__(self, limit: Callable[[], int | None] = soft_limit) -> None:
        """
        @param limit: this process's limit of descriptors.
        """
        self.waiting = 0
        self._limit = limit
        self._room = 0

    def take(self) -> bool:
        """Whether a client may be accepted. It is counted."""
        if self._room <= 0:
            self.look()
        self._room -= 1
        return self._room >= 0

    def take_some(self, most: int) -> int:
        """How many clients may be accepted at once, at most C{most}. They are counted."""
        if self._room <= 0:
            self.look()
        taken = max(0, min(most, self._room))
        self._room -= taken
        return taken

    def give_back(self, number: int = 1) -> None:
        """So many did not come."""
        self._room += number

    def look(self) -> None:
        """Count."""
        limit = self._limit()
        used = _in_use()
        if limit is None or used is None:
            self._room = _MOST
        else:
            free = limit - used - _RESERVE - self.waiting
            self._room = min(_MOST, free // _EACH)


def _in_use() -> int | None:
    """The number of open descriptors; C{None} if that is not known."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except FileNotFoundError:
        return None
    except OSError:  # not even one to look with
        return 1 << 30

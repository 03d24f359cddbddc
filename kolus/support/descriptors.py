"""C{DescriptorWatch}: warns once if a pool's limits need most of the process's file descriptors.

Its state is the sum of the limits and whether it has warned. C{change} changes both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

resource: Any
try:
    import resource
except ImportError:  # on Windows, where sockets are not file descriptors
    resource = None

__all__ = ["DescriptorWatch", "soft_limit"]

_log = Logger()
_SHARE = 80  # per cent; the rest is for listening ports, clients, files, and libraries


def soft_limit() -> int | None:
    """The process's soft limit of open descriptors; C{None} if there is none."""
    if resource is None:
        return None
    soft: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


class DescriptorWatch:
    """Adds up the limits of a pool's backends.

    @ivar total: the sum of the limits.
    @ivar most: the limit of all backends together; C{None}: there is none.
    """

    def __init__(self, soft_limit: Callable[[], int | None] = soft_limit) -> None:
        """
        @param soft_limit: returns the process's limit. It is called at each change, because a
            process may raise its limit.
        """
        self.total = 0
        self.most: int | None = None
        self._soft_limit = soft_limit
        self._has_warned = False

    def change(self, old: int, new: int) -> None:
        """Change a backend's limit from C{old} (0 for a new backend) to C{new}."""
        self.total += new - old
        if self._has_warned or new <= old:
            return
        soft = self._soft_limit()
        total = self.total if self.most is None else min(self.total, self.most)
        if soft is not None and total * 100 > soft * _SHARE:
            self._has_warned = True
            _log.warn(
                "the limits of this pool's backends add up to {total} connections, which is more "
                "than {share} % of the {soft} descriptors that this process may have open; raise "
                "that number (ulimit -n) or lower the limits",
                total=total,
                share=_SHARE,
                soft=soft,
            )

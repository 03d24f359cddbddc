"""C{DescriptorWatch}: warns when the limits of a pool come near what its process may open.

Its state is the sum of the limits, changed by C{change}, and whether it has warned: it does once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

resource: Any
try:
    import resource
except ImportError:  # on Windows, where sockets are not counted with the files
    resource = None

__all__ = ["DescriptorWatch", "soft_limit"]

_log = Logger()
_SHARE = 80  # per cent: the rest is for listening ports, clients, files, and libraries


def soft_limit() -> int | None:
    """How many descriptors this process may have open now; C{None} if there is no such limit."""
    if resource is None:
        return None
    soft: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


class DescriptorWatch:
    """Adds up the limits of a pool's backends.

    @ivar total: how many connections they allow together.
    """

    def __init__(self, soft_limit: Callable[[], int | None] = soft_limit) -> None:
        """
        @param soft_limit: how many descriptors the process may have open; asked anew each time,
            since a process may raise it.
        """
        self.total = 0
        self._soft_limit = soft_limit
        self._has_warned = False

    def change(self, old: int, new: int) -> None:
        """A backend's limit was C{old}, 0 if it is a new backend, and is C{new} from now on."""
        self.total += new - old
        if self._has_warned or new <= old:
            return
        soft = self._soft_limit()
        if soft is not None and self.total * 100 > soft * _SHARE:
            self._has_warned = True
            _log.warn(
                "the limits of this pool's backends add up to {total} connections, which is more "
                "than {share} % of the {soft} descriptors that this process may have open; raise "
                "that number (ulimit -n) or lower the limits",
                total=self.total,
                share=_SHARE,
                soft=soft,
            )

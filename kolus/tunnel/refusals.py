"""C{Refusals}: counts the clients that are closed before they have a lease, and logs some of them.

Its state is the counts by reason. Beyond one a second, clients are not logged.
"""

from __future__ import annotations

from collections import Counter

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kolus.tunnel.throttle import Throttle

__all__ = ["Refusals"]

_log = Logger()


class Refusals:
    """The clients that a listener refuses.

    @ivar counts: how many, by the reason: the name of the setting, C{"proxy_header"},
        C{"handshake"} or C{"no_lease"}.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.counts: Counter[str] = Counter()
        self._throttle: Throttle[str] = Throttle(clock, _report)

    def add(self, who: object, reason: str, why: str) -> None:
        """A client is refused.

        @param who: its address, for the log.
        @param reason: under which it is counted.
        @param why: a sentence without its subject, for the log.
        """
        self.counts[reason] += 1
        self._throttle.add(f"{who} {why}")

    def flush(self) -> None:
        """Log what was held back."""
        self._throttle.flush()


def _report(what: object, others: int) -> None:
    _log.warn(
        "a client is closed ({others} more since the last such line): {what}",
        others=others,
        what=what,
    )

"""C{ExpiryWatch}: warns, once a day, of certificates that are about to expire.

Its state is the timer of the next look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from kolus.support import time_of_day

if TYPE_CHECKING:
    from kolus.tls import Certificate

__all__ = ["DAY", "ExpiryWatch"]

_log = Logger()

DAY = 86400.0


class ExpiryWatch:
    """Looks at the certificates at once, and then every day."""

    def __init__(self, clock: Any, certificates: Callable[[], Iterable[Certificate]]) -> None:
        self._certificates = certificates
        self._looks = LoopingCall(self._look)
        self._looks.clock = clock

    def start(self) -> None:
        """Look now, and then every day. If it was started before, it starts anew."""
        self.stop()
        self._looks.start(DAY)

    def stop(self) -> None:
        if self._looks.running:
            self._looks.stop()

    def _look(self) -> None:
        for each in self._certificates():
            if each.is_due:
                days = (each.expires_at - time_of_day()) / DAY
                _log.warn(
                    "{user}: the certificate in {file} {when}, on {on:%Y-%m-%d %H:%M} UTC: "
                    "renew it, and reload with SIGHUP",
                    user=each.user,
                    file=each.file,
                    when=f"expires in {days:.1f} days" if days > 0 else "has expired",
                    on=datetime.fromtimestamp(each.expires_at, UTC),
                )

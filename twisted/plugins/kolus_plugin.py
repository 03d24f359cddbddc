"""Tells twistd of C{twistd kolus}."""

from __future__ import annotations

import signal
from typing import Any

from twisted.application.service import ServiceMaker


class _Maker(ServiceMaker):
    """Importing the daemon takes a moment, in which a signal that is to reload would end it."""

    @property
    def options(self) -> Any:
        if hasattr(signal, "pthread_sigmask"):
            # The daemon unblocks them when it can handle them. They come then.
            early = {signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
            signal.pthread_sigmask(signal.SIG_BLOCK, early)
        return super().options


kolus = _Maker(
    "kolus",
    "kolus.daemon.tap",
    "A pool of connections to several backends, leased to TCP clients.",
    "kolus",
)

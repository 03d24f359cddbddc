"""C{Notifier}: tells systemd, or another program that started the daemon, how the daemon is.

Its state is the address that it tells, and the timer of the watchdog.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

__all__ = ["Notifier"]


class Notifier:
    """Sends what C{sd_notify} would send. It does nothing if nobody asked for it.

    C{NOTIFY_SOCKET} has the path of the socket, or its abstract name after an C{@}.
    C{WATCHDOG_USEC} has the interval of the signs of life, if they are wanted.
    """

    def __init__(self, reactor: Any, environ: Mapping[str, str] = os.environ) -> None:
        self._reactor = reactor
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._interval = _watchdog_interval(environ)
        self._watchdog = LoopingCall(self.tell, "WATCHDOG=1")
        self._watchdog.clock = reactor

    def begin(self) -> None:
        """From now on, tell that the daemon is ready, alive, and stopping, as it becomes so."""
        if self._address:
            self._reactor.addSystemEventTrigger("after", "startup", self._started)
            self._reactor.addSystemEventTrigger("before", "shutdown", self.tell, "STOPPING=1")

    def reloading(self, reload: Callable[[], Deferred[bool]]) -> Deferred[bool]:
        """Reload, and tell when that begins and when it is over.

        @return: what C{reload} returned.
        """
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        return reload().addCallback(self._reloaded)

    def _reloaded(self, succeeded: bool) -> bool:
        how = "reloaded" if succeeded else "the last reload failed: see the log"
        self.tell("READY=1", f"STATUS={how}")
        return succeeded

    def tell(self, *lines: str) -> None:
        """Send assignments, such as C{READY=1}. Nobody is waited for."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as told:
            told.setblocking(False)
            with suppress(OSError):
                told.sendto("\n".join(lines).encode(), self._address)

    def _started(self) -> None:
        self.tell("READY=1", "STATUS=serving")
        if self._interval is not None:
            self._watchdog.start(self._interval)


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    """Half of what is asked for, in seconds; C{None} if it is not asked of this process."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 2e6

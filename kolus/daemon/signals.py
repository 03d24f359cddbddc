"""C{Signals}: what the daemon does when the operating system sends it a signal.

Its state: whether it was told to end before, and the daemon, once there is one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.logger import Logger

from kolus.support import steady

__all__ = ["Signals", "let_signals_come"]

_log = Logger()

_LAST_RESORT = 2.0
"""Seconds after the second signal to end until the process ends by force."""


def let_signals_come() -> None:
    """End the blocking of signals that began when twistd looked for the daemon."""
    if hasattr(signal, "pthread_sigmask"):
        early = {signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
        signal.pthread_sigmask(signal.SIG_UNBLOCK, early)


class Signals:
    """Handles signals from before the start until the end.

    SIGTERM and SIGINT end the daemon as its service does; a second one ends it at once. SIGHUP
    reads the configuration anew, SIGUSR1 opens the log anew, and SIGUSR2 logs a line of status.
    What comes before the daemon runs is done when it runs.

    @ivar reload: called on SIGHUP.
    @ivar reopen_log: called on SIGUSR1.
    @ivar tell_status: called on SIGUSR2.
    @ivar end_at_once: called on the second SIGTERM or SIGINT.
    """

    def __init__(self, reactor: Any) -> None:
        self.reload: Callable[[], object] = _nothing
        self.reopen_log: Callable[[], object] = _nothing
        self.tell_status: Callable[[], object] = _nothing
        self.end_at_once: Callable[[], object] = _nothing
        self._reactor = reactor
        self._is_ending = False

    def install(self) -> None:
        """Handle all of them; to be called in the main thread, before the reactor runs."""
        self._handle("SIGHUP", lambda: self.reload())
        self._handle("SIGUSR1", lambda: self.reopen_log())
        self._handle("SIGUSR2", lambda: self.tell_status())
        let_signals_come()
        # The reactor installs its own handlers of these as it starts.
        for name in ("SIGTERM", "SIGINT"):
            self._reactor.callWhenRunning(self._take_over, name)

    def _handle(self, name: str, call: Callable[[], object]) -> None:
        def handle(number: int, frame: FrameType | None) -> None:
            self._reactor.callFromThread(self._do, name, call)

        if hasattr(signal, name):
            signal.signal(getattr(signal, name), handle)

    def _take_over(self, name: str) -> None:
        number = getattr(signal, name)
        theirs: Any = signal.getsignal(number)

        def handle(number: int, frame: FrameType | None) -> None:
            if self._is_ending:
                self._reactor.callFromThread(self._end_at_once)
            else:
                self._is_ending = True
                theirs(number, frame)

        if callable(theirs):
            signal.signal(number, handle)

    def _do(self, name: str, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception:
            _log.failure("what {name} asks for failed", name=name)

    def _end_at_once(self) -> None:
        _log.warn("told to end again: all connections are aborted")
        steady(self._reactor).callLater(_LAST_RESORT, os._exit, 1)
        self._do("the second signal to end", self.end_at_once)


def _nothing() -> None:
    """Not there yet."""

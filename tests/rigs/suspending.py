"""A machine that can be suspended, and a clock that tells its time as a reactor does."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

from twisted.internet.task import Clock

__all__ = ["SuspendingMachine"]


class SuspendingMachine:
    """A machine, whose steady seconds are told to whoever asks from now on.

    @ivar suspended: for how many seconds it was suspended so far.
    @ivar reactor: tells the machine's time, and makes no calls.
    """

    def __init__(self, monkeypatch: Any, suspended: float = 0.0) -> None:
        self.suspended = suspended
        module = import_module("kolus.support.steady")
        monkeypatch.setattr(module, "steady_seconds", lambda: time.monotonic() + self.suspended)
        self.reactor = Clock()
        monkeypatch.setattr(self.reactor, "seconds", time.time)

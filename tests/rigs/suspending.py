"""A machine that can be suspended, and a clock that tells its time as a reactor does."""

from __future__ import annotations

import time
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock

__all__ = ["SuspendingMachine"]

_TO_FALL_ASLEEP = 0.001
"""Seconds for which processes stand still while the clocks go on. It takes more than that."""


class SuspendingMachine:
    """A machine, whose steady seconds are told to whoever asks from now on.

    @ivar suspended: for how many seconds it was suspended so far.
    @ivar reactor: tells the machine's time, and makes no calls.
    """

    def __init__(self, monkeypatch: Any, suspended: float = 0.0) -> None:
        self.suspended = suspended
        self._passed = 0.0
        module, monotonic = import_module("kolus.support.steady"), time.monotonic
        awake = SimpleNamespace(monotonic=lambda: monotonic() + self._passed)
        monkeypatch.setattr(module, "time", awake)
        monkeypatch.setattr(module, "steady_seconds", lambda: awake.monotonic() + self.suspended)
        self.reactor = Clock()
        monkeypatch.setattr(self.reactor, "seconds", time.time)

    def suspend(self, seconds: float) -> None:
        """Sleep for so long."""
        self.run(_TO_FALL_ASLEEP)
        self.suspended += seconds

    def run(self, seconds: float) -> None:
        """So much time passes."""
        self._passed += seconds

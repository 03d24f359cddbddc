"""Runs a load on redis-servers from a command line; its exit status is the verdict."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)

__all__ = ["run_by_hand", "say"]


def say(line: str) -> None:
    print(line, flush=True)


def run_by_hand(make: Callable[[str, Path], Any]) -> Deferred[None]:
    """
    @param make: makes the load from the path of redis-server and a folder. It has C{run} and
        C{violations}.
    @return: fails with C{SystemExit} if anything was violated.
    """
    # Until somebody listens, Twisted keeps what is logged, which would look like a leak.
    errors = FilteringLogObserver(
        textFileLogObserver(sys.stderr), [LogLevelFilterPredicate(LogLevel.error)]
    )
    globalLogBeginner.beginLoggingTo([errors], redirectStandardIO=False, discardBuffer=True)

    async def run() -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            raise SystemExit("needs redis-server")
        with tempfile.TemporaryDirectory() as folder:
            load = make(binary, Path(folder))
            await load.run()
        if load.violations:
            raise SystemExit(1)

    return Deferred.fromCoroutine(run())

"""C{twistd kolus} as a child process."""

from __future__ import annotations

import os
import re
import signal
import sys
from codecs import getincrementaldecoder
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from tests.rigs.patience import PATIENCE

__all__ = ["CHECKOUT", "LISTEN", "Child", "twistd"]

CHECKOUT = Path(__file__).parents[2]
LISTEN = ("--listen", "tcp:0:interface=127.0.0.1")
_RUN = "from twisted.scripts.twistd import run; run()"


class Child(ProcessProtocol):
    """A running child; the end of C{async with} kills it if it still runs.

    @ivar output: what it has printed so far, log lines included.
    @ivar status: its exit status, or minus the signal that ended it; C{None} while it runs.
    """

    def __init__(self, reactor: Any) -> None:
        self.output = ""
        self.status: int | None = None
        self._reactor = reactor
        self._decode = getincrementaldecoder("utf-8")().decode  # a letter may come in two pieces
        self._watchers: list[tuple[re.Pattern[str], Deferred[re.Match[str]]]] = []
        self._ended: list[Deferred[int]] = []

    @property
    def lines(self) -> list[str]:
        return self.output.splitlines()

    @property
    def pid(self) -> int:
        pid: int = self._process.pid
        return pid

    def seen(self, pattern: str) -> Deferred[re.Match[str]]:
        """
        @return: fires when the output holds the pattern; fails with C{AssertionError} if the
            child ends without it, or if it takes too long.
        """
        compiled = re.compile(pattern)
        waiting: Deferred[re.Match[str]] = Deferred()
        waiting.addTimeout(PATIENCE, self._reactor, lambda _, __: self._missed(pattern))
        self._watchers.append((compiled, waiting))
        self._look()
        return waiting

    async def port(self) -> int:
        """The first port that it listens on."""
        return int((await self.seen(r"kolus listens on \S+:(\d+)"))[1])

    def signal(self, name: str = "TERM") -> None:
        self._process.signalProcess(getattr(signal, f"SIG{name}"))

    def ended(self) -> Deferred[int]:
        """
        @return: fires with C{status} when the child has ended.
        """
        waiting: Deferred[int] = Deferred()
        if self.status is not None:
            waiting.callback(self.status)
        else:
            waiting.addTimeout(PATIENCE, self._reactor)
            self._ended.append(waiting)
        return waiting

    def memory(self, field: str) -> int:
        """A line of its C{/proc/PID/status}, such as VmRSS or VmHWM, in bytes."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    def _missed(self, pattern: str) -> Failure:
        return Failure(AssertionError(f"{pattern!r} never came in:\n{self.output}"))

    def _look(self) -> None:
        for watcher in tuple(self._watchers):
            pattern, waiting = watcher
            found = pattern.search(self.output)
            if found is not None:
                self._watchers.remove(watcher)
                if not waiting.called:
                    waiting.callback(found)

    # ProcessProtocol

    @property
    def _process(self) -> Any:
        return self.transport

    def outReceived(self, data: bytes) -> None:
        self.output += self._decode(data)
        self._look()

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        error: Any = reason.value
        if isinstance(error, ProcessTerminated):
            self.status = error.exitCode if error.signal is None else -error.signal
        else:
            self.status = 0
        for pattern, waiting in self._watchers:
            if not waiting.called:
                waiting.errback(self._missed(pattern.pattern))
        for ended in self._ended:
            ended.callback(self.status)
        self._ended.clear()

    async def __aenter__(self) -> Child:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.status is None:
            with suppress(ProcessExitedAlready):
                self.signal("KILL")
            await self.ended()
        if error is not None:
            print(self.output)


def twistd(
    reactor: Any,
    *arguments: object,
    cwd: Path | str | None = None,
    run: str = _RUN,
    before: tuple[str, ...] = (),
) -> Child:
    """Start C{twistd -n kolus} with these arguments.

    @param before: more arguments of twistd itself.

    @param run: the program to run instead of twistd's own, with twistd's arguments.
    """
    child = Child(reactor)
    paths = [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-c", run, "-n", "--pidfile=", *before, "kolus"]
    command += map(str, arguments)
    reactor.spawnProcess(child, sys.executable, command, env=environment, path=cwd)
    return child

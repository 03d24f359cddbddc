"""C{Worker}: the process of one client, which is told when it is its turn.

Its state is what it has printed, and who waits for its next line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from tests.bench.peers.opened import Opened

__all__ = ["Worker"]


class Worker(ProcessProtocol):
    """A client in a process of its own.

    @ivar ended: fires when it has ended.
    """

    def __init__(self, reactor: Any, arguments: Sequence[object], port: int, life: float) -> None:
        """
        @param port: of the server.
        @param life: seconds after which it is ended. Some peers never end when their server is
            killed.
        """
        self.ended: Deferred[None] = Deferred()
        self._opened = Opened(port)
        self._out = self._err = b""
        self._told: Deferred[bytes] = Deferred()
        worker = [sys.executable, "-m", "tests.bench.peers.worker", *map(str, arguments)]
        command = ["timeout", str(life), *worker]
        reactor.spawnProcess(self, "/usr/bin/timeout", command, env=None)

    async def is_ready(self) -> bool:
        """Wait until it is; C{False} if its client is not installed, or has failed."""
        line = await self._line()
        self._opened.look()
        return bool(line)

    async def load(self, seconds: float) -> dict[str, Any] | None:
        """Make a load.

        @return: what it took; C{None} if the process has ended.
        """
        transport: Any = self.transport
        self._opened.begin()
        looking = LoopingCall(self._opened.look)
        looking.start(1.0)
        transport.write(b"%f\n" % seconds)
        line = await self._line()
        looking.stop()
        return {**json.loads(line), "opened": self._opened.count()} if line else None

    def complaint(self) -> str:
        """The last line of its errors."""
        return self._err.decode().strip().rpartition("\n")[2]

    async def end(self) -> None:
        if not self.ended.called:
            transport: Any = self.transport
            transport.closeStdin()
            await self.ended

    def _line(self) -> Deferred[bytes]:
        """The next line that it prints; empty if it has ended."""
        self._told = Deferred()
        self._tell()
        return self._told

    def _tell(self) -> None:
        line, end, rest = self._out.partition(b"\n")
        if self._told.called or not (end or self.ended.called):
            return
        self._out = rest
        self._told.callback(line if end else b"")

    def outReceived(self, data: bytes) -> None:
        self._out += data
        self._tell()

    def errReceived(self, data: bytes) -> None:
        self._err += data

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(None)
        self._tell()

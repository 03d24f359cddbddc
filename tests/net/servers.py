"""Server programs as child processes, each with its own port and folder."""

from __future__ import annotations

import getpass
import random
import signal
import socket
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

__all__ = ["Server", "free_port", "memcached", "redis"]

_chance = random.SystemRandom()
_given: set[int] = set()  # by free_port, in this process


def free_port() -> int:
    """A port that nobody listens on and that no client is given; each call returns another one.

    It is below the range from which the kernel takes the ports of clients: there one of them might
    take it while the server is down, or connect to itself.
    """
    while True:
        port = _chance.randrange(15000, 32000)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.add(port)
            return port


class Server:
    """A server program; it can be killed, and started again on the same port."""

    def __init__(
        self, reactor: Any, arguments: list[str], folder: Path, port: int, ready: bytes
    ) -> None:
        """
        @param ready: what it prints once it accepts connections.
        """
        self.port = port
        self.endpoint = f"tcp:127.0.0.1:{port}"
        self._reactor = reactor
        self._arguments = arguments
        self._folder = folder
        self._ready = ready
        self._run: _Run | None = None

    async def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        self._run = run = _Run(self._ready)
        self._reactor.spawnProcess(
            run, self._arguments[0], self._arguments, env=None, path=str(self._folder)
        )
        await run.accepts

    def freeze(self) -> None:
        """Stop it with SIGSTOP; its kernel still accepts connections."""
        assert self._run is not None
        self._run.transport.signalProcess("STOP")

    def thaw(self) -> None:
        """Let it go on after C{freeze}."""
        assert self._run is not None
        self._run.transport.signalProcess(signal.SIGCONT)  # Twisted has no name for it

    async def kill(self) -> None:
        """Kill it with SIGKILL, and wait until it has ended."""
        await self._end("KILL")

    async def terminate(self) -> None:
        """Ask it to end, and wait until it is gone."""
        await self._end("TERM")

    async def _end(self, name: str) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.transport.signalProcess(name)
            await run.ended


class _Run(ProcessProtocol):
    """One run of a server, from its start to its end."""

    transport: Any

    def __init__(self, ready: bytes) -> None:
        self.accepts: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self._ready = ready
        self._printed = b""

    def outReceived(self, data: bytes) -> None:
        if self.accepts.called:
            return
        self._printed += data
        if self._ready in self._printed:
            self.accepts.callback(None)

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        if not self.accepts.called:
            self.accepts.errback(AssertionError(f"the server did not start: {self._printed!r}"))
        self.ended.callback(None)


def redis(
    reactor: Any,
    binary: str,
    folder: Path,
    *settings: str,
    ready: bytes = b"Ready to accept connections",
) -> Server:
    """A redis-server that keeps nothing on disk, unless it is told to."""
    port = free_port()
    options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    return Server(
        reactor,
        [binary, "--port", str(port), *options, *settings],
        folder,
        port,
        ready,
    )


def memcached(reactor: Any, binary: str, folder: Path) -> Server:
    """A memcached that listens on TCP alone."""
    port = free_port()
    options = ["-l", "127.0.0.1", "-U", "0", "-u", getpass.getuser(), "-vv"]
    return Server(reactor, [binary, "-p", str(port), *options], folder, port, b"server listening")

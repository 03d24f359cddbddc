"""Programs that people use as clients, run to their end."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from tests.rigs.patience import PATIENCE

__all__ = ["Program", "output_of"]


class Program(ProcessProtocol):
    """A program that runs.

    @ivar output: what it has printed so far, on stdout and on stderr.
    """

    transport: Any

    def __init__(self, text: bytes = b"") -> None:
        """
        @param text: what it reads on stdin.
        """
        self.output = b""
        self._text = text
        self._ended: Deferred[int] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self._text)
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        self.output += data

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        value: Any = reason.value
        self._ended.callback(value.exitCode if value.exitCode is not None else -value.signal)

    def ended(self) -> Deferred[int]:
        """
        @return: fires with its exit status, or minus the signal that ended it.
        """
        return self._ended


async def output_of(
    reactor: Any, *command: object, text: bytes = b"", seconds: float = PATIENCE, **environment: str
) -> bytes:
    """Run a program, which must end with status 0. If it takes too long it is killed.

    @return: what it has printed.
    """
    program = Program(text)
    words = [str(each) for each in command]
    reactor.spawnProcess(program, words[0], words, env=os.environ | environment)
    alarm = reactor.callLater(seconds, lambda: program.transport.signalProcess("KILL"))
    status = await program.ended()
    if alarm.active():
        alarm.cancel()
    assert status == 0, f"{words[0]} ended with {status}: {program.output[-2000:]!r}"
    return program.output

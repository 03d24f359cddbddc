"""C{Gate}: lets listening ports accept clients while there is room, and not otherwise.

Its state is the ports, whether they accept, and the timer of the next look. Clients that are not
accepted wait in the kernel's queue, as behind HAProxy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from socket import socket
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from kolus.support import steady

__all__ = ["Gate", "Port"]

_log = Logger()


class Port(Protocol):
    """A listening port. It may accept some that had come together before it stops."""

    socket: socket

    def startReading(self) -> None: ...
    def stopReading(self) -> None: ...


class Limits(Protocol):
    """Says when one more client may be accepted: C{ClientLimits}.

    @ivar clients: number of clients now.
    @ivar changed: is called when that may be different.
    """

    clients: int
    changed: Callable[[], object] | None

    def accept_in(self) -> float: ...


class Gate:
    """Opens and closes the ports of one listener.

    @ivar ports: these. Only this class changes it.
    """

    def __init__(self, clock: IReactorTime, limits: Limits) -> None:
        self._clock = steady(clock)
        self._limits = limits
        self.ports: list[Port] = []
        self._is_open = True
        self._timer: IDelayedCall | None = None
        self._said_at = -math.inf
        limits.changed = self._look

    def add(self, port: Port) -> None:
        """A port listens."""
        self.ports.append(port)
        if not self._is_open:
            port.stopReading()

    def remove(self, port: Port) -> None:
        """A port does not listen any more."""
        if port in self.ports:
            self.ports.remove(port)

    def close(self) -> None:
        """The ports do not listen any more."""
        self.ports.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        wait = self._limits.accept_in()
        if (wait == 0) != self._is_open:
            self._is_open = wait == 0
            for port in tuple(self.ports):
                port.startReading() if self._is_open else port.stopReading()
            if not self._is_open:
                self._say(wait)
        if 0 < wait < math.inf and self.ports and self._timer is None:
            self._timer = self._clock.callLater(wait, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self._look()

    def _say(self, wait: float) -> None:
        """Once a second at most."""
        now = self._clock.seconds()
        if now - self._said_at >= 1:
            self._said_at = now
            _log.warn(
                "{setting} is reached with {clients} clients: further ones wait in the kernel's "
                "queue",
                setting="max_clients" if wait == math.inf else "max_new_clients",
                clients=self._limits.clients,
            )

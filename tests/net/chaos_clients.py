"""Clients that open a connection, use it once, and close it, at a steady rate."""

from __future__ import annotations

import itertools
import random
import socket
import threading
import time
from dataclasses import dataclass

from tests.net.chaos_backend import HEAD
from tests.rigs.patience import PATIENCE

__all__ = ["Broken", "Clients"]

_THREADS = 300
_NAME = 2
"""How many bytes a backend says of itself before all others."""
_SIZES = (*(1, 10, 100, 300, 1000, 2000, 5000) * 14, 60_000, 300_000)
_BYTES = random.Random(7).randbytes(1 << 20)
_ENDS = ("client", "half", "backend")
"""Who closes first; or the client closes its half before it reads."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A connection that did not get back what it sent.

    @ivar backend: the name of the backend that served it; empty if it never said so.
    @ivar began: when it was opened, and C{ended}: when it broke, in seconds of C{time.monotonic}.
    """

    backend: str
    began: float
    ended: float
    why: str


class Clients:
    """The clients, in threads: one that waits for a backend does not hold up the others.

    @ivar done: how many connections got all back.
    @ivar broken: those that did not.
    @ivar present: how many connections there are now.
    @ivar slowest: seconds of the longest one.
    """

    def __init__(self, port: int, connections: int, seconds: float) -> None:
        self.done = self.present = 0
        self.broken: list[Broken] = []
        self.slowest = 0.0
        self._address = ("127.0.0.1", port)
        self._connections = connections
        self._pause = seconds / connections
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(_THREADS)]

    def start(self) -> None:
        self._start = time.monotonic()
        for each in self._threads:
            each.start()

    @property
    def is_over(self) -> bool:
        return not any(each.is_alive() for each in self._threads)

    def _run(self) -> None:
        while (number := next(self._numbers)) < self._connections:
            wait = self._start + number * self._pause - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            began = time.monotonic()
            got = bytearray()
            size = _SIZES[number % len(_SIZES)]
            first = number * 7919 % (len(_BYTES) - size)
            sent = _BYTES[first : first + size]
            why = "other bytes than were sent"
            with self._lock:
                self.present += 1
            try:
                with socket.socket() as client:
                    client.settimeout(PATIENCE)
                    client.connect(self._address)
                    _talk(client, sent, _ENDS[number % 3], got)
            except OSError as error:
                why = str(error)
            ended = time.monotonic()
            with self._lock:
                self.present -= 1
                self.slowest = max(self.slowest, ended - began)
                if got[_NAME:] == sent:
                    self.done += 1
                else:
                    why += f"; {len(got)} of {len(sent) + _NAME} bytes came"
                    self.broken.append(Broken(got[1:_NAME].decode(), began, ended, why))


def _talk(client: socket.socket, sent: bytes, end: str, got: bytearray) -> None:
    client.sendall(HEAD.pack(len(sent), end == "backend") + sent)
    if end == "half":
        client.shutdown(socket.SHUT_WR)
    while end != "client" or len(got) < len(sent) + _NAME:
        piece = client.recv(1 << 16)
        if not piece:
            return
        got += piece

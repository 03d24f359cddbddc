"""The same bytes on either loop, without a pool or a client: what the loops themselves cost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["BARE", "Exchange"]

A = TypeVar("A")

BARE = {
    "http": (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"\r\n\r\na page"),
    "redis": (b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n", b"$-1\r\n"),
}
"""By kind of server: a request, and how each answer ends."""


class Exchange(Generic[A]):
    """Sends requests on one connection, and tells who asked when the answer has come."""

    def __init__(self, kind: str, make: Callable[[], A], fire: Callable[[A], None]) -> None:
        """
        @param make: makes what stands for an answer; C{fire} fires it.
        """
        self._request, self._end = BARE[kind]
        self._make = make
        self._fire = fire
        self._asked: deque[A] = deque()
        self._come = b""

    def ask(self, write: Callable[[bytes], None]) -> A:
        answer = self._make()
        self._asked.append(answer)
        write(self._request)
        return answer

    def came(self, data: bytes) -> None:
        *answers, self._come = (self._come + data).split(self._end)
        for _ in answers:
            self._fire(self._asked.popleft())

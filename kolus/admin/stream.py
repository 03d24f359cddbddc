"""C{Streams}: sends snapshots and events to the clients that follow them (server-sent events).

The state of C{Streams} is the streams and the timer. The state of a stream is the number of the
last entry that it sent, and since when it may not send.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.admin.call import json_bytes
from kolus.admin.journal import Journal
from kolus.admin.problem import Problem

__all__ = ["Streams"]

_log = Logger()

_PATIENCE = 15.0
"""Seconds after which a client that does not read is dropped."""


class Streams:
    """The clients that follow the daemon.

    Nothing is kept for a client that reads slowly. When it reads again, it gets the entries that
    the journal still has, and then a new snapshot. The id of each event is the run of the daemon
    and the number of the last entry. A client that comes again with it, in the header
    C{Last-Event-ID}, gets what it missed; if that is not known any more, it only gets a snapshot.
    """

    def __init__(
        self,
        clock: Any,
        journal: Journal,
        snapshot: Callable[[], dict[str, Any]],
        run: str,
        *,
        interval: float = 1.0,
        most: int = 32,
    ) -> None:
        """
        @param run: tells this run of the daemon from others.
        @param interval: seconds between two snapshots.
        @param most: how many may follow at a time.
        """
        self.clock = clock
        self.journal = journal
        self.run = run
        self._snapshot = snapshot
        self._interval = interval
        self._most = most
        self._streams: dict[_Stream, None] = {}
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._streams)

    def follow(self, request: Any, last_id: str | None) -> None:
        """Begin a stream as the answer to a request.

        @param last_id: the id of the last event that the client has seen.
        @raise Problem: too many follow already.
        """
        if len(self._streams) >= self._most:
            raise Problem(
                503, f"{self._most} clients follow the events already", {"Retry-After": "10"}
            )
        stream = _Stream(self, request, self._seen(last_id))
        self._streams[stream] = None
        request.notifyFinish().addBoth(self._left, stream)
        stream.begin()
        stream.send(json_bytes(self._snapshot()))
        if self._timer is None:
            self._timer = self.clock.callLater(self._interval, self._tick)

    def stop(self) -> None:
        """End all streams."""
        self._stop_timer()
        for stream in tuple(self._streams):
            stream.end()

    def _seen(self, last_id: str | None) -> int:
        run, _, number = (last_id or "").partition("-")
        known = run == self.run and number.isascii() and number.isdigit() and len(number) < 20
        if known and self.journal.has_all_since(int(number)):
            return int(number)
        return self.journal.last

    def _tick(self) -> None:
        self._timer = self.clock.callLater(self._interval, self._tick)
        snapshot = json_bytes(self._snapshot())
        for stream in tuple(self._streams):
            stream.send(snapshot)

    def _left(self, _: Failure | None, stream: _Stream) -> None:
        self._streams.pop(stream, None)
        if not self._streams:
            self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@implementer(IPushProducer)
class _Stream:
    def __init__(self, streams: Streams, request: Any, seen: int) -> None:
        self._streams = streams
        self._request = request
        self._seen = seen
        self._full_since: float | None = None

    def begin(self) -> None:
        self._request.setHeader(b"content-type", b"text/event-stream; charset=utf-8")
        self._request.setHeader(b"cache-control", b"no-store")
        self._request.setHeader(b"x-accel-buffering", b"no")
        self._request.registerProducer(self, True)
        self._request.write(b"retry: 2000\n\n")

    def send(self, snapshot: bytes) -> None:
        """Send the entries that came since the last time, and a snapshot."""
        if self._full_since is not None:
            if self._streams.clock.seconds() - self._full_since > _PATIENCE:
                _log.info("a client that follows the events has not read for long: it is dropped")
                self._request.channel.forceAbortClient()
            return
        parts = []
        for entry in self._streams.journal.since(self._seen):
            parts.append(self._event(entry.kind, entry.number, json_bytes(entry.value)))
            self._seen = entry.number
        parts.append(self._event("snapshot", self._seen, snapshot))
        self._request.write(b"".join(parts))

    def end(self) -> None:
        self._request.unregisterProducer()
        self._request.finish()

    def _event(self, kind: str, number: int, data: bytes) -> bytes:
        head = f"id: {self._streams.run}-{number}\nevent: {kind}\ndata: ".encode()
        return head + data + b"\n\n"

    # IPushProducer

    def pauseProducing(self) -> None:
        self._full_since = self._streams.clock.seconds()

    def resumeProducing(self) -> None:
        self._full_since = None

    def stopProducing(self) -> None:
        """The connection is lost; C{notifyFinish} tells of it."""

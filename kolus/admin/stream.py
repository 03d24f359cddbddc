"""C{Streams}: sends snapshots and events to the clients that follow them (server-sent events).

The state of C{Streams} is the streams, and the snapshot that is being made or when the next one
begins. The state of a stream is the number of the last entry that it sent, and since when it may
not send.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.admin.call import joined, json_bytes, json_pieces
from kolus.admin.event_log import EventLog
from kolus.admin.problem import Problem
from kolus.support import LongWork

__all__ = ["Streams"]

_log = Logger()

_MOST = 32
"""So many may follow at a time."""
_INTERVAL = 1.0
"""Seconds from one snapshot to the next, or more if it takes long to make."""
_PATIENCE = 15.0
"""Seconds after which a client that does not read is dropped."""
_PART = 4
"""The pause after a snapshot is at least so many times as long as making it."""


class Streams:
    """The clients that follow the daemon.

    Nothing is kept for a client that reads slowly. When it reads again, it gets the entries that
    the event log still has, and then a new snapshot. The id of each event is the run of the daemon
    and the number of the last entry. A client that comes again with it, in the header
    C{Last-Event-ID}, gets what it missed; if that is not known any more, it only gets a snapshot.
    """

    def __init__(
        self,
        clock: Any,
        event_log: EventLog,
        snapshot: Callable[[], dict[str, Any]],
        run: str,
    ) -> None:
        """
        @param run: tells this run of the daemon from others.
        @param snapshot: makes a value for C{json_pieces}.
        """
        self.clock = clock
        self.event_log = event_log
        self.run = run
        self.long_work = LongWork(clock)
        self._snapshot = snapshot
        self._streams: dict[_Stream, None] = {}
        self._making: Deferred[Any] | None = None
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._streams)

    def follow(self, request: Any, last_id: str | None) -> None:
        """Begin a stream as the answer to a request. A snapshot for all streams is made at once.

        @param last_id: the id of the last event that the client has seen.
        @raise Problem: too many follow already.
        """
        if len(self._streams) >= _MOST:
            raise Problem(503, f"{_MOST} clients follow the events already", {"Retry-After": "10"})
        stream = _Stream(self, request, self._seen(last_id))
        self._streams[stream] = None
        request.notifyFinish().addBoth(self._left, stream)
        stream.begin()
        if self._making is None:
            self._make()

    def stop(self) -> None:
        """End all streams."""
        self._pause()
        for stream in tuple(self._streams):
            stream.end()

    def _seen(self, last_id: str | None) -> int:
        run, _, number = (last_id or "").partition("-")
        known = run == self.run and number.isascii() and number.isdigit() and len(number) < 20
        if known and self.event_log.has_all_since(int(number)):
            return int(number)
        return self.event_log.last

    def _tick(self) -> None:
        self._timer = None
        self._make()

    def _make(self) -> None:
        self._pause()
        began = self.clock.seconds()
        self._making = making = self.long_work.do(joined(json_pieces(self._snapshot())))
        making.addCallbacks(self._made, _failed).addCallback(lambda _: self._rest(began))

    def _made(self, snapshot: bytes) -> None:
        for stream in tuple(self._streams):
            stream.send(snapshot)

    def _rest(self, began: float) -> None:
        self._making = None
        if self._streams:
            took = self.clock.seconds() - began
            rest = max(_INTERVAL - took, _PART * took)
            self._timer = self.clock.callLater(rest, self._tick)

    def _left(self, _: Failure | None, stream: _Stream) -> None:
        self._streams.pop(stream, None)
        if not self._streams:
            self._pause()

    def _pause(self) -> None:
        """Make no snapshot."""
        making, self._making = self._making, None
        if making is not None:
            making.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _failed(failure: Failure) -> None:
    if not failure.check(CancelledError):  # then nobody waits for it
        _log.failure("a snapshot could not be made", failure)


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
        for entry in self._streams.event_log.since(self._seen):
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

"""Copies bytes between two connected ends until both directions have ended.

C{join} does this over Twisted's transports. Another data path needs the same signature, C{Pump}.

The state of one pair is the two ends, a byte count for each direction, and the Deferred that fires
at the end. The streams, which listen to the ends, change it. When it is to end because of the time
is the business of C{SessionTimes}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.tunnel.end import End

if TYPE_CHECKING:
    from kolus.tunnel.session_times import SessionTimes

__all__ = ["Pump", "Traffic", "join"]


class Traffic(NamedTuple):
    """The bytes that went through a tunnel.

    @ivar sent: bytes from the client to the backend.
    @ivar received: bytes from the backend to the client.
    """

    sent: int
    received: int


Pump = Callable[[End, End, "SessionTimes"], Deferred[Traffic]]
"""Takes the client's end, the backend's end, and what watches their times; see C{join}."""


def join(client: End, backend: End, times: SessionTimes | None = None) -> Deferred[Traffic]:
    """Copy bytes both ways over Twisted's transports.

    While one end cannot send fast enough, the other is not read: each direction holds at most one
    transport buffer and one read. When one side ends its direction, the other side's ends after
    all bytes are sent. A reset is passed on as a reset, unless that side had ended its direction
    before: then its bytes are delivered first.

    TLS has no half close. A TLS end closes when the bytes to it have ended and are sent. When it
    is closed, the other end closes too, after sending what is buffered. So a client that
    half-closes loses an answer that has not begun to arrive.

    @param times: is told of the session, its half-close and its end.
    @return: fires with the C{Traffic} when both directions have ended; the caller then has to
        close what is still connected. Cancelling it aborts both connections.
    """
    return Tunnel(client, backend, times).ended


class Tunnel:
    """The two streams of a pair of ends.

    @ivar last: that of the two in which bytes came last.
    """

    def __init__(self, client: End, backend: End, times: SessionTimes | None) -> None:
        self.ended: Deferred[Traffic] = Deferred(self._abort)
        self._ends = (client, backend)
        self._times = times
        self._to_backend = _Stream(client, backend, self)
        self._to_client = _Stream(backend, client, self)
        self.last = self._to_client
        for stream in (self._to_backend, self._to_client):
            stream.sink.feed_from(stream)
        if times is not None:
            times.begun(self)
        client.listen(self._to_backend)
        backend.listen(self._to_client)

    @property
    def sent(self) -> int:
        """Bytes from the client."""
        return self._to_backend.carried

    @property
    def received(self) -> int:
        """Bytes from the backend."""
        return self._to_client.carried

    @property
    def is_backends_turn(self) -> bool:
        """Whether the last bytes came from the client."""
        return self.last is self._to_backend

    def stop(self) -> None:
        """End it because of the time. Who still takes bytes gets the end of them, not a reset."""
        for end in self._ends:
            if end.half_closes and not end.has_unsent:
                end.close()
            else:
                end.abort()

    def half_closed(self) -> None:
        """One side has ended its direction."""
        if self._times is not None and not self.ended.called:
            self._times.half_closed(self)

    def lost(self, end: End, other: End, reason: Failure) -> None:
        """One end is lost: close or abort the other too."""
        if self.ended.called:
            return
        if reason.check(ConnectionDone) or end.has_read:
            other.close()
        else:
            other.reset()
        self.check_ended()

    def check_ended(self) -> None:
        """Fire if both directions have ended."""
        if not self.ended.called and all(end.gone or end.has_written for end in self._ends):
            if self._times is not None:
                self._times.ended(self)
            self.ended.callback(Traffic(self.sent, self.received))

    def _abort(self, _: Deferred[Traffic]) -> None:
        if self._times is not None:
            self._times.ended(self)
        for end in self._ends:
            end.abort()
        if not self.ended.called:
            self.ended.callback(Traffic(self.sent, self.received))


@implementer(IPushProducer)
class _Stream:
    """One direction: listens to the source, and is the producer of the sink."""

    def __init__(self, source: End, sink: End, tunnel: Tunnel) -> None:
        self.source = source
        self.sink = sink
        self.carried = 0
        self._tunnel = tunnel

    # Called by the source

    def received(self, data: bytes) -> None:
        self.carried += len(data)
        self._tunnel.last = self
        self.sink.write(data)

    def read_ended(self) -> None:
        self._tunnel.half_closed()
        if not self.sink.gone:
            self.sink.end_writing()

    def write_ended(self) -> None:
        self._tunnel.check_ended()

    def lost(self, reason: Failure) -> None:
        self._tunnel.lost(self.source, self.sink, reason)

    # IPushProducer: called by the sink's transport

    def pauseProducing(self) -> None:
        self.source.pause()

    def resumeProducing(self) -> None:
        if not self.sink.half_closes:
            # The TLS peer may have closed during the pause. Its transport then stays open because
            # of the producer and drops all writes. Registering the producer again lets it close.
            self.sink.transport.unregisterProducer()
            self.sink.feed_from(self)
        self.source.resume()

    def stopProducing(self) -> None:
        """Ignored: the sink itself reports its loss to the tunnel."""

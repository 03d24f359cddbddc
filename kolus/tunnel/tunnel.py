"""C{Tunnel}: copies bytes between two ends until both directions have ended.

Its state is the two ends, a byte count for each direction, and whether it has ended. The streams,
which listen to the ends, change it. When it is to end because of the time is the business of
C{SessionTimes}.
"""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.tunnel.end import End
from kolus.tunnel.session import Tell

__all__ = ["Tunnel"]


class Tunnel:
    """The two streams of a pair of ends, over Twisted's transports: a C{Session}.

    While one end cannot send fast enough, the other is not read: each direction holds at most one
    transport buffer and one read. When one side ends its direction, the other side's ends after
    all bytes are sent. A reset is passed on as a reset, unless that side had ended its direction
    before: then its bytes are delivered first.

    TLS has no half close. A TLS end closes when the bytes to it have ended and are sent. When it
    is closed, the other end closes too, after sending what is buffered. So a client that
    half-closes loses an answer that has not begun to arrive.

    @ivar last: that of the two in which bytes came last.
    """

    def __init__(self, client: End, backend: End, ended: Tell, half_closed: Tell) -> None:
        """See C{Pump}."""
        self._ends = (client, backend)
        self._on_end, self._on_half_close = ended, half_closed
        self._has_ended = False
        self._to_backend = _Stream(client, backend, self)
        self._to_client = _Stream(backend, client, self)
        self.last = self._to_client

    def begin(self) -> None:
        for stream in (self._to_backend, self._to_client):
            stream.sink.feed_from(stream)
        for stream in (self._to_backend, self._to_client):
            stream.source.listen(stream)

    @property
    def sent(self) -> int:
        return self._to_backend.carried

    @property
    def received(self) -> int:
        return self._to_client.carried

    @property
    def is_backends_turn(self) -> bool:
        return self.last is self._to_backend

    def stop(self) -> None:
        for end in self._ends:
            if end.half_closes and not end.has_unsent:
                end.close()
            else:
                end.abort()

    def abort(self) -> None:
        for end in self._ends:
            end.abort()
        self._end()

    def half_closed(self) -> None:
        """One side has ended its direction."""
        if not self._has_ended:
            self._on_half_close(self)

    def lost(self, end: End, other: End, reason: Failure) -> None:
        """One end is lost: close or abort the other too."""
        if self._has_ended:
            return
        if reason.check(ConnectionDone) or end.has_read:
            other.close()
        else:
            other.reset()
        self.check_ended()

    def check_ended(self) -> None:
        """End if both directions have ended."""
        if all(end.gone or end.has_written for end in self._ends):
            self._end()

    def _end(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            client, _ = self._ends
            client.close()
            self._on_end(self)


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

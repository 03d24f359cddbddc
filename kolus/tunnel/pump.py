"""Carries bytes between two connected ends until both directions have ended.

C{join} does it over Twisted's transports. Another data path needs the same signature, C{Pump}.

Its state, for one pair, is the two ends, a count of bytes for each direction, and the Deferred
that fires at the end; the ends change it through the streams that listen to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.tunnel.end import End

__all__ = ["Pump", "Traffic", "join"]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went through a tunnel."""

    sent: int
    """Bytes from the client to the backend."""
    received: int
    """Bytes from the backend to the client."""


Pump = Callable[[End, End], Deferred[Traffic]]
"""Takes the client's end and the backend's, see C{join}."""


def join(client: End, backend: End) -> Deferred[Traffic]:
    """Carry bytes both ways over Twisted's transports.

    An end that cannot send fast enough stops the reading of the other: in each direction one
    buffer of the transport's and one read are held at most. The end of a direction is passed on
    when all before it is sent. A reset is passed on as a reset, unless that end had said before
    that it sends no more: then what it sent is delivered first.

    TLS has no half close. Where one end is TLS, the end of the bytes that go to it closes it when
    they are sent, and when it is closed the other is closed too, after what waits there is sent:
    so a client that half-closes loses an answer that had not begun to come.

    @return: fires when each direction has ended. What is connected then has only to be closed.
        Cancelling it aborts both connections.
    """
    return _Tunnel(client, backend).ended


class _Tunnel:
    """Two streams that end together."""

    def __init__(self, client: End, backend: End) -> None:
        self.ended: Deferred[Traffic] = Deferred(self._abort)
        self._ends = (client, backend)
        self._there = _Stream(client, backend, self)
        self._back = _Stream(backend, client, self)
        for stream in (self._there, self._back):
            stream.sink.feed_from(stream)
        client.listen(self._there)
        backend.listen(self._back)

    def lost(self, end: End, other: End, reason: Failure) -> None:
        """One of the ends is gone: the other has to go too."""
        if self.ended.called:
            return
        if reason.check(ConnectionDone) or end.has_read:
            other.close()
        else:
            other.abort()
        self.look()

    def look(self) -> None:
        """Fire if both directions have ended."""
        if not self.ended.called and all(end.gone or end.has_written for end in self._ends):
            self.ended.callback(Traffic(self._there.carried, self._back.carried))

    def _abort(self, _: Deferred[Traffic]) -> None:
        for end in self._ends:
            end.abort()


@implementer(IPushProducer)
class _Stream:
    """One direction: it listens to the source and is the producer of the sink."""

    def __init__(self, source: End, sink: End, tunnel: _Tunnel) -> None:
        self.source = source
        self.sink = sink
        self.carried = 0
        self._tunnel = tunnel

    # What the source tells

    def received(self, data: bytes) -> None:
        self.carried += len(data)
        self.sink.write(data)

    def read_ended(self) -> None:
        if not self.sink.gone:
            self.sink.end_writing()

    def write_ended(self) -> None:
        self._tunnel.look()

    def lost(self, reason: Failure) -> None:
        self._tunnel.lost(self.source, self.sink, reason)

    # What the sink's transport asks of its producer

    def pauseProducing(self) -> None:
        self.source.pause()

    def resumeProducing(self) -> None:
        if not self.sink.half_closes:
            # A TLS peer may have closed while this was paused. Its transport then stays open for
            # the producer, and drops what that writes; being registered anew lets it close.
            self.sink.transport.unregisterProducer()
            self.sink.feed_from(self)
        self.source.resume()

    def stopProducing(self) -> None:
        """The sink is gone, of which the tunnel hears from the sink itself."""

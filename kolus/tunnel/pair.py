"""C{Pair}: a tunnel between two wires. It copies bytes, and splices them when they are many.

The state of each of its two flows is what was read and not sent yet, in C{rest} or in a pipe, and
how far it has come: see C{Flow}. The pair knows whether it has ended. Only the flows change what
the loop watches.

A direction that ends is ended at the other side when all its bytes are sent. A side that is reset
resets the other, but what it had sent before is delivered first: read to the end, and taken by the
kernel of the other side.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure

from kolus.tunnel.loop import BROKEN, IN, OUT
from kolus.tunnel.pipes import PIPE, Pipe
from kolus.tunnel.unsent import unsent

if TYPE_CHECKING:
    from kolus.tunnel.wire import Wire

__all__ = ["Pair"]

_BULK = 64 * 1024
"""A read of so many bytes is one of bulk."""
_STREAK = 4
"""After so many in a row bytes are spliced, after as many smaller ones they are copied again."""
_LOOK_AGAIN = 0.02
_TRIES = 500
"""A side that takes nothing for ten seconds is reset, whatever it was to get."""
_BUSY = (BlockingIOError, InterruptedError)
_SPLICE: int = getattr(os, "SPLICE_F_MOVE", 1) | getattr(os, "SPLICE_F_NONBLOCK", 2)


class Pair:
    """Two joined wires.

    @ivar client: the client's side.
    @ivar backend: the backend's side.
    @ivar to_backend: the bytes that the client sends.
    @ivar to_client: the bytes that the backend sends.
    @ivar has_ended: whether nothing moves any more.
    """

    __slots__ = (
        *("__weakref__", "_half_closed", "_on_end", "backend", "client"),
        *("has_ended", "to_backend", "to_client"),
    )

    def __init__(
        self,
        client: Wire,
        backend: Wire,
        early: bytes,
        ended: Callable[[Pair], object],
        half_closed: Callable[[Pair], object],
    ) -> None:
        """Join them; C{begin} is due.

        @param early: what was read from the client before.
        @param ended: called once, when the pair has ended. The client's wire is closed by then, and
            the backend's is read as before, unless it is broken, or the client was.
        @param half_closed: called when one side has ended its direction.
        """
        self.client, self.backend = client, backend
        self._on_end, self._half_closed = ended, half_closed
        self.has_ended = False
        self.to_backend = Flow(self, client, backend, early)
        self.to_client = Flow(self, backend, client, b"")
        self.to_backend.back, self.to_client.back = self.to_client, self.to_backend

    def begin(self) -> None:
        """Move bytes from now on. What one of them was still to send is sent first."""
        for flow in (self.to_backend, self.to_client):
            wire = flow.source
            wire.pair = self
            if wire.is_watched:
                wire.loop.pass_on(wire.fd, flow)
        for flow in (self.to_backend, self.to_client):
            if not self.has_ended:
                flow.begin()

    @property
    def sent(self) -> int:
        """Bytes from the client."""
        return self.to_backend.carried

    @property
    def received(self) -> int:
        """Bytes from the backend."""
        return self.to_client.carried

    @property
    def is_half_closed(self) -> bool:
        """Whether one side has ended its direction."""
        return self.to_backend.is_read or self.to_client.is_read

    def owner_of(self, wire: Wire) -> Flow:
        """The flow that gets the events of a wire."""
        return self.to_backend if wire is self.client else self.to_client

    def check(self) -> None:
        """End it if both directions have ended."""
        if self.to_backend.is_done and self.to_client.is_done:
            self.stop()

    def reset(self, flow: Flow, tries: int = _TRIES) -> None:
        """The source of a flow was reset, and all its bytes were sent: pass on the reset, as soon
        as the kernel has delivered them."""
        if self.has_ended:
            return
        if unsent(flow.sink.socket) and tries:
            flow.source.loop.clock.callLater(_LOOK_AGAIN, self.reset, flow, tries - 1)
        else:
            self.stop(reset=True)

    def stop(self, *, reset: bool = False) -> None:
        """End it now; without effect if it has ended.

        @param reset: whether both sides are reset; else the client's is closed, unless it has not
            got all that was read for it.
        """
        if self.has_ended:
            return
        self.has_ended = True
        reset = reset or self.to_client.rest is not None or self.to_backend.rest is not None
        for flow in (self.to_backend, self.to_client):
            flow.stop()
        client, backend = self.client, self.backend
        for wire in (client, backend):
            wire.pair = None
            if wire.is_watched:
                wire.loop.pass_on(wire.fd, wire)
        self._tell_backend()
        if reset:
            client.abortConnection()
            backend.abortConnection()
        else:
            client.loseConnection()
            if self.to_backend.is_done or self.to_client.is_read:
                backend.is_half_closed(self.to_client.is_read)
            else:
                backend.resumeProducing()
        self._on_end(self)

    def half_closed(self) -> None:
        """One side has ended its direction. Called by the flows."""
        if not self.has_ended:
            self._half_closed(self)

    def _tell_backend(self) -> None:
        """Tell the pool, by the protocol, what it has to know of a backend: whether it has served,
        and whether it has left its client."""
        answers, protocol = self.to_client, self.backend.protocol
        if protocol is None:
            return
        if answers.carried:
            protocol.dataReceived(b"")
        left = answers.is_first and (answers.is_reset or not answers.carried)
        if left and IHalfCloseableProtocol.providedBy(protocol):
            protocol.readConnectionLost()


class Flow:
    """One direction. It gets the events of its source, and shares the sink with the other flow.

    @ivar back: the other direction.
    @ivar carried: bytes that were read.
    @ivar rest: what was read and could not be sent yet.
    @ivar is_read: whether its source sends no more.
    @ivar is_reset: whether that is so since the source, or the connection to it, is broken.
    @ivar is_first: whether its source ended before the other.
    @ivar is_done: whether the end was passed on, or the sink takes nothing any more.
    """

    __slots__ = (
        *("_buffer", "_pipe", "_reads", "_recv", "_send", "_streak", "_view"),
        *("back", "carried", "is_done", "is_first", "is_read", "is_reset"),
        *("pair", "rest", "sink", "source"),
    )

    back: Flow

    def __init__(self, pair: Pair, source: Wire, sink: Wire, early: bytes) -> None:
        self.pair = pair
        self.source, self.sink = source, sink
        self.carried = len(early)
        rest = sink.take_unsent() + early
        self.rest: Any = memoryview(rest) if rest else None
        self.is_read, self.is_first = source.has_read, False
        self.is_reset = self.is_done = False
        self._reads = False
        self._buffer, self._view = source.loop.buffer, source.loop.view
        self._recv = source.socket.recv_into
        self._send = sink.socket.send
        self._pipe: Pipe | None = None
        self._streak = 0

    def begin(self) -> None:
        """Send what there is, and watch for more."""
        if self.is_read:
            self.pair.half_closed()
        if self.rest:
            self.push()
        elif self.is_read:
            self._pass_end()
        if not self.pair.has_ended:
            self.watch()

    # What the loop tells

    def ready(self, events: int) -> None:
        if events == IN and self._reads:
            self.pull()
            return
        if events & OUT:
            self.back.push()
        if events & ~OUT and not self.pair.has_ended:
            if self._reads:
                self.pull()
            elif events & BROKEN:
                self._is_broken()

    def crashed(self, failure: Failure) -> None:
        self.pair.stop(reset=True)

    def watch(self) -> None:
        """Have the loop watch the source for what is wanted now."""
        self._reads = reads = not (self.is_read or self.is_done or self.rest)
        self.source.watch((IN if reads else 0) | (OUT if self.back.rest else 0))

    # Moving bytes

    def pull(self) -> None:
        """Read once, and send that."""
        if self._pipe is not None:
            self._splice()
            return
        try:
            size = self._recv(self._buffer)
        except _BUSY:
            return
        except OSError:
            self._source_failed()
            return
        if not size:
            self._source_ended()
            return
        self.carried += size
        try:
            sent = self._send(self._view[:size])
        except _BUSY:
            sent = 0
        except OSError:
            self.sink_failed()
            return
        if sent != size:
            self.rest = memoryview(bytes(self._view[sent:size]))
            self._is_blocked()
        elif size >= _BULK:
            self._streak += 1
            if self._streak >= _STREAK:
                self._pipe = self.source.loop.pipes.take()
                self._streak = 0
        else:
            self._streak = 0

    def push(self) -> None:
        """Send what could not be sent before."""
        rest: Any = self.rest
        if rest is None:
            return
        try:
            if isinstance(rest, Pipe):
                rest.held -= os.splice(rest.reader, self.sink.fd, rest.held, flags=_SPLICE)
                self.rest = rest if rest.held else None
            else:
                sent = self._send(rest)
                self.rest = rest[sent:] if sent < len(rest) else None
        except _BUSY:
            return
        except OSError:
            self.sink_failed()
            return
        if self.rest is None:
            self.back.watch()  # the sink is not to be written any more
            if self.is_read:
                self._pass_end()
            else:
                self.watch()

    def _splice(self) -> None:
        pipe: Any = self._pipe
        try:
            size = os.splice(self.source.fd, pipe.writer, PIPE, flags=_SPLICE)
        except _BUSY:
            return
        except OSError:
            self._source_failed()
            return
        if not size:
            self._source_ended()
            return
        self.carried += size
        try:
            sent = os.splice(pipe.reader, self.sink.fd, size, flags=_SPLICE)
        except _BUSY:
            sent = 0
        except OSError:
            pipe.held = size
            self.sink_failed()
            return
        if sent != size:
            pipe.held = size - sent
            self.rest = pipe
            self._is_blocked()
        elif size >= _BULK:
            self._streak = 0
        else:
            self._streak += 1
            if self._streak >= _STREAK:
                self._give_back()

    def _is_blocked(self) -> None:
        self._streak = 0
        self.watch()
        self.back.watch()

    def _give_back(self) -> None:
        self._streak = 0
        if self._pipe is not None:
            self.source.loop.pipes.give_back(self._pipe)
            self._pipe = None

    # Ending

    def _source_ended(self) -> None:
        self.is_read = True
        self._reads = False
        self.is_first = not self.back.is_read
        if not self.rest:
            self._pass_end()
        if not self.pair.has_ended:
            self.watch()
            self.pair.half_closed()

    def _source_failed(self) -> None:
        """The source is broken, and all that it had sent is read: what goes there is lost."""
        self.is_reset = True
        self.back.drop()
        self._source_ended()

    def sink_failed(self) -> None:
        """The sink is broken. What it had sent before is still read, and passed on."""
        self.drop()
        back = self.back
        back.is_reset = True
        if not back.is_read:
            self.watch()
            back.watch()
        elif not back.rest:
            back._pass_end()

    def drop(self) -> None:
        """Nothing goes to the sink any more."""
        self.is_done = True
        self._reads = False
        self.rest = None
        self._give_back()

    def _is_broken(self) -> None:
        """The source is broken, or both its directions have ended, while it is not read."""
        if self.is_read and self.source.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.back.sink_failed()
        if not self.pair.has_ended:
            self.source.unwatch()  # or it would be told again and again

    def _pass_end(self) -> None:
        if self.is_reset:
            self.pair.reset(self)
        elif not self.is_done:
            if self.sink.end_writing():
                self._give_back()
                self.is_done = True
                self.pair.check()
            else:
                self.sink_failed()

    def stop(self) -> None:
        """The pair has ended."""
        self._give_back()
        self.rest = None
        self._reads = False

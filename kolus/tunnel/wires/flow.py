"""C{Flow}: one direction of a tunnel between two wires.

The state of a flow is what was read and not sent yet, in C{rest} or in a pipe, and how far it has
come. Only the flows of a pair change what the loop watches.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from twisted.python.failure import Failure

from kolus.tunnel.wires.epoll_events import BROKEN, IN, OUT
from kolus.tunnel.wires.pipes import PIPE, Pipe

if TYPE_CHECKING:
    from kolus.tunnel.wires.pair import Pair
    from kolus.tunnel.wires.wire import Wire

__all__ = ["Flow"]

_BULK = 64 * 1024
"""Bytes of a read that count as bulk."""
_STREAK = 4
"""Number of bulk reads in a row after which bytes are spliced; after as many smaller ones they are
copied again."""
_BUSY = (BlockingIOError, InterruptedError)
_SPLICE: int = getattr(os, "SPLICE_F_MOVE", 1) | getattr(os, "SPLICE_F_NONBLOCK", 2)


class _Ended:
    """Stands for a pair that has ended."""

    has_ended = True


_ENDED: Any = _Ended()


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
        if sink.dataBuffer:
            early = sink.take_unsent() + early
        self.rest: Any = memoryview(early) if early else None
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
            self.pair.half_closed(self.pair)
        if self.rest:
            self.push()
        elif self.is_read:
            self._pass_end()
        if not self.pair.has_ended:
            self.watch()

    # What the loop tells

    def ready(self, events: int) -> None:
        """Read once, and send that."""
        if not (events == IN and self._reads) and not self._is_to_read(events):
            return
        pipe = self._pipe
        try:
            if pipe is None:
                size = self._recv(self._buffer)
            else:
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
        self.pair.last = self
        try:
            if pipe is None:
                sent = self._send(self._view[:size])
            else:
                pipe.held = size
                sent = os.splice(pipe.reader, self.sink.fd, size, flags=_SPLICE)
                pipe.held -= sent
        except _BUSY:
            sent = 0
        except OSError:
            self.sink_failed()
            return
        if sent != size:
            self.rest = memoryview(bytes(self._view[sent:size])) if pipe is None else pipe
            self._streak = 0
            self.watch()
            self.back.watch()
        elif (size < _BULK) is (pipe is None):
            self._streak = 0
        else:
            self._streak += 1
            if self._streak >= _STREAK:
                self._streak = 0
                self._switch()

    def _is_to_read(self, events: int) -> bool:
        """Handle events that are more than something to read.

        @return: whether it may be read, too.
        """
        if events & OUT:
            self.back.push()
        if not events & ~OUT or self.pair.has_ended:
            return False
        if not self._reads and events & BROKEN:
            self._is_broken()
            return False
        return self._reads

    def crashed(self, failure: Failure) -> None:
        self.pair.abort()

    def watch(self) -> None:
        """Have the loop watch the source for what is wanted now."""
        self._reads = reads = not (self.is_read or self.is_done or self.rest)
        self.source.watch((IN if reads else 0) | (OUT if self.back.rest else 0))

    # Moving bytes

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

    def _switch(self) -> None:
        """Splice from now on, or copy again."""
        if self._pipe is None:
            self._pipe = self.source.loop.pipes.take()
        else:
            self._give_back()

    def _give_back(self) -> None:
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
            self.pair.half_closed(self.pair)

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
            closes = self.back.is_done and self.sink is self.pair.client  # that sends the end, too
            if closes or self.sink.end_writing():
                if self._pipe is not None:
                    self._give_back()
                self.is_done = True
                if self.back.is_done:
                    self.pair.stop()
            else:
                self.sink_failed()

    def stop(self) -> None:
        """The pair has ended. Nothing here refers to it any more, so no garbage is left to be
        collected."""
        if self._pipe is not None:
            self._give_back()
        self.rest = None
        self._reads = False
        self.pair = _ENDED
        del self.back

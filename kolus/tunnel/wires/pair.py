"""C{Pair}: a tunnel between two wires. It copies bytes, and splices them when they are many.

Its state is whether it has ended, and that of its two flows.

A direction that ends is ended at the other side when all its bytes are sent. A side that is reset
resets the other, but what it had sent before is delivered first: read to the end, and taken by the
kernel of the other side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IHalfCloseableProtocol

from kolus.tunnel.wires.flow import Flow
from kolus.tunnel.wires.unsent import unsent

if TYPE_CHECKING:
    from kolus.tunnel.wires.wire import Wire

__all__ = ["Pair"]

_LOOK_AGAIN = 0.02
_TRIES = 500
"""A side that takes nothing for ten seconds is reset, whatever it was to get."""


class Pair:
    """Two joined wires.

    @ivar client: the client's side.
    @ivar backend: the backend's side.
    @ivar to_backend: the bytes that the client sends.
    @ivar to_client: the bytes that the backend sends.
    @ivar last: that of the two in which bytes came last.
    @ivar has_ended: whether nothing moves any more.
    """

    __slots__ = (
        *("__weakref__", "_half_closed", "_on_end", "backend", "client"),
        *("has_ended", "last", "to_backend", "to_client"),
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
        self.last = self.to_backend if early else self.to_client

    def begin(self) -> None:
        """Move bytes from now on. What one of them was still to send is sent first."""
        for flow in (self.to_backend, self.to_client):
            flow.source.pair = self
            flow.source.pass_to(flow)
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
    def is_backends_turn(self) -> bool:
        """Whether the last bytes came from the client."""
        return self.last is self.to_backend

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
            wire.pass_to(wire)
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

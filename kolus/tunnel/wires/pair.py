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
from kolus.tunnel.wires.unsent import LOOK_AGAIN, MOST_LOOKS, unsent

if TYPE_CHECKING:
    from kolus.tunnel.wires.wire import Wire

__all__ = ["Pair"]


class Pair:
    """Two joined wires: a C{Session}.

    @ivar client: the client's side.
    @ivar backend: the backend's side.
    @ivar to_backend: the bytes that the client sends.
    @ivar to_client: the bytes that the backend sends.
    @ivar last: that of the two in which bytes came last.
    @ivar has_ended: whether nothing moves any more.
    @ivar half_closed: is called by the flows when one side has ended its direction.
    """

    __slots__ = (
        *("__weakref__", "_on_end", "backend", "client", "half_closed"),
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
        """Join them; see C{Pump}.

        @param early: what was read from the client before.
        @param ended: the backend's wire is read as before by then, unless it is broken, or the
            client's was.
        """
        self.client, self.backend = client, backend
        self._on_end, self.half_closed = ended, half_closed
        self.has_ended = False
        self.to_backend = Flow(self, client, backend, early)
        self.to_client = Flow(self, backend, client, b"")
        self.to_backend.back, self.to_client.back = self.to_client, self.to_backend
        self.last = self.to_backend if early else self.to_client

    def begin(self) -> None:
        """See C{Session}. What one of them was still to send is sent first."""
        for flow in (self.to_backend, self.to_client):
            flow.source.pair = self
            flow.source.pass_to(flow)
        self.to_backend.begin()
        if not self.has_ended:
            self.to_client.begin()

    @property
    def sent(self) -> int:
        return self.to_backend.carried

    @property
    def received(self) -> int:
        return self.to_client.carried

    @property
    def is_backends_turn(self) -> bool:
        return self.last is self.to_backend

    def reset(self, flow: Flow, looks: int = MOST_LOOKS) -> None:
        """The source of a flow was reset, and all its bytes were sent: pass on the reset, as soon
        as the kernel has delivered them."""
        if self.has_ended:
            return
        if unsent(flow.sink.socket) and looks:
            flow.source.loop.clock.callLater(LOOK_AGAIN, self.reset, flow, looks - 1)
        else:
            self.abort()

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
        client.pair = backend.pair = None
        if reset:
            client.abortConnection()
        else:
            client.loseConnection()
        backend.pass_to(backend)
        self._tell_backend()
        if reset:
            backend.abortConnection()
        elif self.to_backend.is_done or self.to_client.is_read:
            backend.is_half_closed(self.to_client.is_read)
        else:
            backend.watch_as_needed()
        self._on_end(self)

    def abort(self) -> None:
        self.stop(reset=True)

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

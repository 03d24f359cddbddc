"""C{pump}: joins the two ends of a session over the faster of two data paths.

Two plain sockets of the front's own (C{Wire}) become a C{Pair}. Whatever has a transport of
Twisted's, or TLS, is joined by C{join}. Both keep the same promises, see C{join}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from kolus.tunnel.end import End
from kolus.tunnel.pump import Traffic, join
from kolus.tunnel.wires.pair import Pair
from kolus.tunnel.wires.wire import Wire

if TYPE_CHECKING:
    from kolus.tunnel.session_times import SessionTimes

__all__ = ["pump"]


def pump(client: End, backend: End, times: SessionTimes | None = None) -> Deferred[Traffic]:
    """Copy bytes both ways; see C{join}."""
    near, far = client.transport, backend.transport
    are_wires = isinstance(near, Wire) and isinstance(far, Wire)
    if are_wires and near.connected and far.connected and not backend.has_early:
        return _join_wires(client, near, far, times)
    return join(client, backend, times)


def _join_wires(
    client: End, near: Wire, far: Wire, times: SessionTimes | None
) -> Deferred[Traffic]:
    outcome: Deferred[Traffic] = Deferred(lambda _: pair.stop(reset=True))

    def ended(pair: Pair) -> None:
        if times is not None:
            times.ended(pair)
        if not outcome.called:
            outcome.callback(Traffic(pair.sent, pair.received))

    def half_closed(pair: Pair) -> None:
        if times is not None:
            times.half_closed(pair)

    early: Any = client.take_early()
    pair = Pair(near, far, early, ended, half_closed)
    if times is not None:
        times.begun(pair)
    pair.begin()
    return outcome

"""C{Drain}: lets the clients of a front finish, and aborts those that are left after the grace.

Its state is the timer of the grace, and C{ended}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

if TYPE_CHECKING:
    from kolus.tunnel.acceptor import Acceptor
    from kolus.tunnel.clients import Clients

__all__ = ["Drain"]

_log = Logger()


class Drain:
    """The end of one front.

    @ivar ended: fires with the number of aborted clients, when no client is left.
    """

    def __init__(
        self, clock: IReactorTime, clients: Clients, acceptor: Acceptor, grace: float
    ) -> None:
        """
        @param acceptor: has those who are no clients yet, and may become some.
        @param grace: seconds that the clients have to finish.
        """
        self.ended: Deferred[int] = Deferred()
        self._clients = clients
        self._acceptor = acceptor
        self._timer: IDelayedCall | None = None
        if self._left:
            _log.info(
                "waiting up to {grace:g} s for {clients} clients to finish",
                grace=grace,
                clients=self._left,
            )
            self._timer = clock.callLater(grace, self._grace_is_over)

    @property
    def _left(self) -> int:
        return len(self._clients) + self._acceptor.on_the_way

    def _grace_is_over(self) -> None:
        self._timer = None
        _log.warn(
            "the grace is over: {aborted} clients are aborted before they have finished",
            aborted=self._left,
        )
        self._acceptor.abort()
        self._clients.abort()

    def end(self) -> None:
        """No client is left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.ended.callback(self._clients.aborted)

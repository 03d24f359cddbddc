"""C{Front}: accepts clients, takes a lease for each, and tunnels bytes between the two.

Its state: C{_clients}, the clients with the tasks that serve them; C{_draining}, set once by
C{drain}; and its totals. A client is in C{_clients} from its connect until its connection is lost
and its lease is settled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from kolus.errors import KolusError, describe
from kolus.lease import Lease
from kolus.support import steady
from kolus.tunnel.end import End
from kolus.tunnel.pump import Pump, join
from kolus.tunnel.throttle import Throttle

__all__ = ["Front"]

_log = Logger()


class Front(Factory):
    """Joins each client's connection to a leased connection.

    If the request for a lease fails, the client is closed, and the log says so at most once a
    second. A client that disconnects leaves the queue; a client that only half-closes stays in it.

    @ivar served: number of clients that had a lease and have ended.
    @ivar refused: number of clients that were closed because they got no lease.
    @ivar sent: bytes from served clients to backends.
    @ivar received: bytes from backends to served clients.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        connect: Callable[[], Deferred[Lease[End]]],
        *,
        pump: Pump = join,
        settle: Callable[[Lease[End]], None] = Lease.finished,
    ) -> None:
        """
        @param connect: asks for a lease; called once for each client.
        @param pump: copies the bytes between the two ends.
        @param settle: settles the lease when the client has ended. The default finishes it,
            because nobody knows in which state the client left the connection. A front that
            understands the protocol may release it.
        """
        self._clock = steady(clock)
        self._connect = connect
        self._pump = pump
        self._settle = settle
        self._clients: dict[_Client, Deferred[None]] = {}
        self._draining: Deferred[int] | None = None
        self._grace_timer: IDelayedCall | None = None
        self._aborted = 0
        self._refusals = Throttle(clock, _log_refusal)
        self.served = self.refused = self.sent = self.received = 0

    @property
    def clients(self) -> int:
        """Number of connected clients, including those in the queue."""
        return len(self._clients)

    def buildProtocol(self, addr: object) -> End | None:
        return None if self._draining is not None else _Client(self)

    def drain(self, grace: float) -> Deferred[int]:
        """Accept no new clients, and let the present ones finish, including those in the queue.

        Call it once, after the listening ports are closed.

        @param grace: seconds after which the remaining clients are aborted.
        @return: fires with the number of aborted clients, when no client is left. Cancelling it
            stops nothing.
        """
        self._draining = ended = Deferred[int]()
        if self._clients:
            _log.info(
                "waiting up to {grace:g} s for {clients} clients to finish",
                grace=grace,
                clients=len(self._clients),
            )
            self._grace_timer = self._clock.callLater(grace, self._abort_all)
        self._end_if_drained()
        return ended

    def arrived(self, client: _Client) -> None:
        """A client is connected. Called by the client."""
        self._clients[client] = task = Deferred.fromCoroutine(self._serve(client))
        task.addErrback(self._failed, client)
        task.addCallback(self._done, client)

    def left(self, client: _Client) -> None:
        """A client's connection is lost. Called by the client."""
        if client.wait is not None:
            client.wait.cancel()
        self._forget(client)

    async def _serve(self, client: _Client) -> None:
        client.wait = self._connect()
        try:
            lease = await client.wait
        except KolusError as error:
            self.refused += 1
            self._refusals.add(error)
            client.close()
            return
        finally:
            client.wait = None
        try:
            traffic = await self._pump(client, lease.protocol)
        finally:
            self._settle(lease)
        self.served += 1
        self.sent += traffic.sent
        self.received += traffic.received
        client.close()

    def _failed(self, failure: Failure, client: _Client) -> None:
        if not failure.check(CancelledError):
            _log.failure("serving a client failed", failure)
        client.abort()

    def _done(self, _: None, client: _Client) -> None:
        client.done = True
        self._forget(client)

    def _forget(self, client: _Client) -> None:
        # A client that is gone stays until its task is done: the backend may still be receiving.
        if client.done and client.gone and self._clients.pop(client, None) is not None:
            self._end_if_drained()

    def _abort_all(self) -> None:
        self._grace_timer = None
        self._aborted = len(self._clients)
        _log.warn(
            "the grace is over: {aborted} clients are aborted before they have finished",
            aborted=self._aborted,
        )
        for client, task in list(self._clients.items()):
            task.cancel()
            client.abort()

    def _end_if_drained(self) -> None:
        ended: Any = self._draining
        if ended is None or ended.called or self._clients:
            return
        if self._grace_timer is not None:
            self._grace_timer.cancel()
            self._grace_timer = None
        self._refusals.flush()
        _log.info(
            "{served} clients were served, {refused} refused; {sent} bytes went to backends, "
            "{received} to clients",
            served=self.served,
            refused=self.refused,
            sent=self.sent,
            received=self.received,
        )
        ended.callback(self._aborted)


class _Client(End):
    """The client's end of a tunnel.

    @ivar wait: the request for a lease, while it waits.
    @ivar done: whether its task has ended: the connection only has to close.
    """

    wait: Deferred[Lease[End]] | None = None
    done = False

    def __init__(self, front: Front) -> None:
        super().__init__()
        self._front = front

    def connectionMade(self) -> None:
        super().connectionMade()
        self._front.arrived(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._front.left(self)


def _log_refusal(error: BaseException, others: int) -> None:
    _log.warn(
        "a client got no lease and is closed ({others} more since the last such line): {error}",
        others=others,
        error=describe(error),
    )

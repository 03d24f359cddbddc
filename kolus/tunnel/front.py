"""The front: accepts clients, takes a lease for each, and has their bytes carried.

Its state is C{_clients}, every client that is connected, with the task that serves it;
C{_draining}, set once by C{drain}; and its totals. A client is in it from when it connects until
its connection is lost and its lease is settled.
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
from kolus.tunnel.complaints import Complaints
from kolus.tunnel.end import End
from kolus.tunnel.pump import Pump, join

__all__ = ["Front"]

_log = Logger()


class Front(Factory):
    """Makes a tunnel of each client's connection and a leased one.

    A client that no lease can be had for is closed, which is logged once a second at the most. A
    client that is gone gives up its place in the queue; one that has only half closed does not.

    @ivar served: clients that had a lease until their end.
    @ivar refused: clients that were closed because they could not have one.
    @ivar sent: bytes from clients to backends, of those served.
    @ivar received: bytes from backends to clients, of those served.
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
        @param connect: asks for a lease, once for each client.
        @param pump: carries the bytes between the two ends.
        @param settle: what becomes of a lease at the end of its client. The state of a connection
            that somebody unknown has used is unknown, so it is finished; a front that understands
            what it carries may release it.
        """
        self._clock = clock
        self._connect = connect
        self._pump = pump
        self._settle = settle
        self._clients: dict[_Client, Deferred[None]] = {}
        self._draining: Deferred[int] | None = None
        self._grace: IDelayedCall | None = None
        self._aborted = 0
        self._complaints = Complaints(clock, _turned_away)
        self.served = self.refused = self.sent = self.received = 0

    @property
    def clients(self) -> int:
        """How many clients are connected, those in the queue included."""
        return len(self._clients)

    def buildProtocol(self, addr: object) -> End | None:
        return None if self._draining is not None else _Client(self)

    def drain(self, grace: float) -> Deferred[int]:
        """Take no new clients, and let those that are there finish, also those in the queue.

        It is called once, after the listening ports are closed.

        @param grace: seconds after which the clients that are still there are aborted.
        @return: fires with the number of clients that were aborted, when none is left. Cancelling
            it stops nothing.
        """
        self._draining = ended = Deferred[int]()
        if self._clients:
            _log.info(
                "waiting up to {grace:g} s for {clients} clients to finish",
                grace=grace,
                clients=len(self._clients),
            )
            self._grace = self._clock.callLater(grace, self._abort_all)
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
            self._complaints.add(error)
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
        # Not before the backend has got what the client sent, even if the client is gone.
        if client.done and client.gone and self._clients.pop(client, None) is not None:
            self._end_if_drained()

    def _abort_all(self) -> None:
        self._grace = None
        self._aborted = len(self._clients)
        _log.warn(
            "the grace is over: {aborted} clients are aborted before they finished",
            aborted=self._aborted,
        )
        for client, task in list(self._clients.items()):
            task.cancel()
            client.abort()

    def _end_if_drained(self) -> None:
        ended: Any = self._draining
        if ended is None or ended.called or self._clients:
            return
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        self._complaints.flush()
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

    @ivar wait: its place in the queue while it has no lease.
    @ivar done: nothing is done for it any more but closing it.
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


def _turned_away(error: BaseException, others: int) -> None:
    _log.warn(
        "closed a client that could not have a lease ({others} more since the last such line): "
        "{error}",
        others=others,
        error=describe(error),
    )

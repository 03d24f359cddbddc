"""C{Front}: accepts clients, takes a lease for each, and tunnels bytes between the two.

Its state: C{_clients}, the clients with the tasks that serve them; C{_draining}, set once by
C{drain}; and its totals. A client is in C{_clients} from its connect, or the end of its TLS
handshake, until its connection is lost and its lease is settled. Who is on the way to that is with
the C{Acceptor}.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from kolus.errors import KolusError, LeaseTimeout, describe
from kolus.lease import Lease
from kolus.proxy_protocol import ProxyVersion
from kolus.support import steady
from kolus.tunnel.acceptor import Acceptor
from kolus.tunnel.client import Client
from kolus.tunnel.end import End
from kolus.tunnel.framing import Framing, finish
from kolus.tunnel.joining import pump
from kolus.tunnel.pump import Pump, Traffic
from kolus.tunnel.session_times import SessionTimes
from kolus.tunnel.sessions import Sessions
from kolus.tunnel.settings import ListenerSettings
from kolus.tunnel.silence_limits import set_silence_limits
from kolus.tunnel.throttle import Throttle
from kolus.tunnel.visitor import Visitor
from kolus.tunnel.wires.loop import Loop
from kolus.tunnel.wires.raw_port import raw_port

__all__ = ["Front"]

_log = Logger()


class Front(Factory):
    """Joins each client's connection to a leased connection.

    If the request for a lease fails, the client is closed, and the log says so at most once a
    second. A client that disconnects leaves the queue, also if it has only ended its direction and
    sent nothing before. One that asked and then half-closes stays in the queue.

    @ivar sessions: its clients, for an operator.
    @ivar served: number of clients that had a lease and have ended.
    @ivar refused: number of clients that were closed because they got no lease.
    @ivar refusals: the clients that were closed before they had one, counted by reason.
    @ivar times_out: number of sessions that were ended because of the time, by the setting.
    @ivar limits: which clients are accepted, and how many.
    @ivar sent: bytes from served clients to backends.
    @ivar received: bytes from backends to served clients.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        connect: Callable[[Hashable], Deferred[Lease[End]]],
        *,
        settings: ListenerSettings | None = None,
        certificates: Any = None,
        send_proxy: ProxyVersion | None = None,
        ident: Hashable = "clients",
        loop: Loop | None = None,
        pump: Pump = pump,
        framing: Framing = finish,
    ) -> None:
        """
        @param connect: asks for a lease for an ident; called once for each client.
        @param settings: what clients may do; C{None}: the defaults.
        @param certificates: the C{ListenerCertificates} of a listener with TLS.
        @param send_proxy: the version of the PROXY header that tells a backend of the client, in
            the first bytes of its connection; C{None}: none is sent.
        @param ident: the ident of all clients, if the settings say that it is fixed.
        @param loop: what C{listens} accepts clients with; C{None}: Twisted's transports.
        @param pump: copies the bytes between the two ends.
        @param framing: settles the lease when the client has ended.
        """
        self._clock = steady(clock)
        settings = settings or ListenerSettings()
        self.settings = settings
        self._send_proxy = send_proxy
        self._ident = ident
        descriptors = None if loop is None else loop.descriptors
        self._acceptor = Acceptor(clock, settings, certificates, self._made, descriptors)
        self.limits, self.refusals = self._acceptor.limits, self._acceptor.refusals
        self.times_out: Counter[str] = Counter()
        self._times = SessionTimes(clock, settings, self._time_is_up)
        self._connect = connect
        self._pump = pump
        self._framing = framing
        self._loop = loop
        self._clients: dict[Client, Deferred[Any]] = {}
        self.sessions = Sessions(self._clock)
        self._draining: Deferred[int] | None = None
        self._grace_timer: IDelayedCall | None = None
        self._aborted = 0
        self._without_lease = Throttle(clock, _log_refusal)
        self.served = self.refused = self.sent = self.received = 0

    def change(
        self,
        settings: ListenerSettings,
        certificates: Any = None,
        send_proxy: ProxyVersion | None = None,
    ) -> None:
        """Go on with other settings. No client is closed: the times apply to all of them, and the
        rest to those who come from now on.

        @param settings: as for the constructor, and so are the others.
        """
        self.settings = settings
        self._send_proxy = send_proxy
        self._times.change(settings)
        self._acceptor.change(settings, certificates)
        for port in self._acceptor.gate.ports:
            set_silence_limits(port.socket, settings)

    @property
    def is_empty(self) -> bool:
        """Whether nobody is connected, and nobody is about to be a client."""
        return not self._clients and self._acceptor.is_empty

    @property
    def clients(self) -> int:
        """Number of connected clients, including those in the queue."""
        return len(self._clients)

    def buildProtocol(self, addr: object) -> Protocol | None:
        return self.protocol_for(getattr(addr, "host", None))

    def protocol_for(self, host: str | None) -> Protocol | None:
        """As C{buildProtocol}.

        @param host: the client's address; C{None} if it came by a UNIX socket.
        """
        return self._acceptor.accept(host)

    def behind_balancers(self) -> Factory:
        """A factory for a listener of which every client sends a PROXY header."""
        return self._acceptor.behind_balancers()

    def listens(self, port: IListeningPort, factory: Factory) -> IListeningPort:
        """A port accepts clients for this front.

        @param factory: what the port was given: this front, or what C{behind_balancers} gave.
        @return: what is to be stopped in its place: with a loop, a port accepts clients only while
            there are descriptors for them.
        """
        if self._loop is not None:
            port = raw_port(self._loop, port, factory)
        listening = getattr(port, "socket", None)
        if isinstance(listening, socket.socket):
            set_silence_limits(listening, self.settings)
            self._acceptor.gate.add(port)  # type: ignore[arg-type]
        return port

    def forgets(self, port: Any) -> None:
        """A port, as C{listens} gave it, accepts no clients any more."""
        self._acceptor.gate.remove(port)

    def _made(self, host: str | None, visitor: Visitor | None) -> Client:
        return Client(self, host, visitor)

    def drain(self, grace: float) -> Deferred[int]:
        """Accept no new clients, and let the present ones finish, including those in the queue.

        Call it once, after the listening ports are closed.

        @param grace: seconds after which the remaining clients are aborted.
        @return: fires with the number of aborted clients, when no client is left. Cancelling it
            stops nothing.
        """
        self._draining = ended = Deferred[int]()
        self._acceptor.close()
        if self._clients:
            _log.info(
                "waiting up to {grace:g} s for {clients} clients to finish",
                grace=grace,
                clients=len(self._clients),
            )
            self._grace_timer = self._clock.callLater(grace, self._abort_all)
        self._end_if_drained()
        return ended

    def shakes_hands(self, client: Client) -> None:
        """A client is connected, and its TLS handshake begins. Called by the client."""
        self._acceptor.shakes_hands(client)

    def arrived(self, client: Client) -> None:
        """A client is connected, and its TLS handshake completed. Called by the client."""
        self._acceptor.end_handshake(client)
        self.sessions.begins(client)
        try:
            wait = self._connect(self._ident_of(client))
        except Exception:
            wait = fail()
        client.wait = self._clients[client] = wait
        if self._loop is not None:
            self._loop.descriptors.waiting += 1
        # Not a coroutine: that would cost more than all the rest here.
        of = (client,)
        wait.addCallbacks(self._serve, self._has_no_lease, callbackArgs=of, errbackArgs=of)

    def left(self, client: Client) -> None:
        """A client's connection is lost. Called by the client."""
        self._acceptor.left(client)
        if client.wait is not None:
            client.wait.cancel()
        self._forget(client)

    def _waits_no_more(self, client: Client) -> None:
        client.wait = None
        if self._loop is not None:
            self._loop.descriptors.waiting -= 1

    def _has_no_lease(self, failure: Failure, client: Client) -> None:
        self._waits_no_more(client)
        error = failure.value
        if not isinstance(error, KolusError):
            self._has_failed(failure, client)
            return
        self.refused += 1
        reason = "queue_timeout" if isinstance(error, LeaseTimeout) else "no_lease"
        self.refusals.counts[reason] += 1
        self._without_lease.add(error)
        client.close()
        self._is_done(client)

    def _serve(self, lease: Lease[End], client: Client) -> None:
        self._waits_no_more(client)
        self.sessions.served(client, lease)
        try:
            if self._send_proxy is not None:
                lease.protocol.write(client.visitor.header_for_backend(self._send_proxy))
            ended = self._pump(client, lease.protocol, self._times)
        except Exception:
            ended = fail()
        self._clients[client] = ended
        ended.addBoth(self._was_served, lease, client)

    def _was_served(self, traffic: Traffic | Failure, lease: Lease[End], client: Client) -> None:
        try:
            self._framing(lease)
        except Exception:
            traffic = Failure()
        if isinstance(traffic, Failure):
            self._has_failed(traffic, client)
            return
        self.served += 1
        self.sent += traffic.sent
        self.received += traffic.received
        client.close()
        self._is_done(client)

    def _has_failed(self, failure: Failure, client: Client) -> None:
        if not failure.check(CancelledError):
            _log.failure("serving a client failed", failure)
        client.abort()
        self._is_done(client)

    def _time_is_up(self, session: Any, reason: str) -> None:
        self.times_out[reason] += 1
        session.stop()

    def _ident_of(self, client: Client) -> Hashable:
        kind = self.settings.ident
        if kind == "fixed":
            return self._ident
        visitor = client.visitor
        return visitor.server_name if kind == "server_name" else visitor.host

    def _is_done(self, client: Client) -> None:
        client.done = True
        self._forget(client)

    def _forget(self, client: Client) -> None:
        # A client that is gone stays until its task is done: the backend may still be receiving.
        if client.done and client.gone and self._clients.pop(client, None) is not None:
            self.sessions.ends(client)
            self._end_if_drained()

    def close_client(self, number: int) -> bool:
        """Abort a client.

        @param number: its number in the status of C{sessions}.
        @return: whether there was such a client.
        """
        client = self.sessions.find(number)
        if client is None:
            return False
        self._clients[client].cancel()
        client.abort()
        return True

    def _abort_all(self) -> None:
        self._grace_timer = None
        _log.warn(
            "the grace is over: {aborted} clients are aborted before they have finished",
            aborted=len(self._clients),
        )
        self.abort()

    def abort(self) -> None:
        """Abort the clients that are left."""
        self._aborted += len(self._clients)
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
        self._times.stop()
        self._without_lease.flush()
        self.refusals.flush()
        _log.info(
            "{served} clients were served, {refused} refused; {sent} bytes went to backends, "
            "{received} to clients",
            served=self.served,
            refused=self.refused,
            sent=self.sent,
            received=self.received,
        )
        ended.callback(self._aborted)


def _log_refusal(error: BaseException, others: int) -> None:
    _log.warn(
        "a client got no lease and is closed ({others} more since the last such line): {error}",
        others=others,
        error=describe(error),
    )

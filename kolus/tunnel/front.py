"""C{Front}: accepts clients, takes a lease for each, and tunnels bytes between the two.

Its state: C{clients}; C{_drain}, set once by C{drain}; and its totals. A client is in
C{clients} from its connect, or the end of its TLS handshake, until its connection is lost and its
lease is settled. Connections that are no clients yet are kept by the C{Acceptor}.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from kolus.errors import KolusError, LeaseTimeout, describe
from kolus.lease import Lease
from kolus.proxy_protocol import ProxyVersion
from kolus.support import steady
from kolus.tunnel.acceptor import Acceptor
from kolus.tunnel.client import Client
from kolus.tunnel.clients import Clients
from kolus.tunnel.drain import Drain
from kolus.tunnel.end import End
from kolus.tunnel.framing import Framing, finish
from kolus.tunnel.pump import pump
from kolus.tunnel.session import Pump, Session
from kolus.tunnel.session_times import SessionTimes
from kolus.tunnel.settings import ListenerSettings
from kolus.tunnel.silence_limits import set_silence_limits
from kolus.tunnel.throttle import Throttle
from kolus.tunnel.wires.loop import Loop
from kolus.tunnel.wires.raw_port import RawPort, raw_port

__all__ = ["Front"]

_log = Logger()


class Front(Factory):
    """Joins each client's connection to a leased connection.

    If the request for a lease fails, the client is closed, and the log says so at most once a
    second. A client that disconnects leaves the queue, also if it has only ended its direction and
    sent nothing before. One that asked and then half-closes stays in the queue.

    @ivar protocol_for: as C{buildProtocol}, but it gets the host of the client's address; C{None}
        if it came by a UNIX socket.
    @ivar clients: the connected ones, including those in the queue; C{len} is their number.
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
        self._acceptor = acceptor = Acceptor(
            *(clock, settings, certificates, partial(Client, self)),
            gone=self._look_whether_drained,
            descriptors=descriptors,
        )
        self.protocol_for = acceptor.accept
        self.limits, self.refusals = acceptor.limits, acceptor.refusals
        self.times_out: Counter[str] = Counter()
        self._times = SessionTimes(clock, settings, self._time_is_up)
        self._connect = connect
        self._pump = pump
        self._framing = framing
        self._loop = loop
        self.clients = Clients(self._clock)
        self._drain: Drain | None = None
        self._without_lease: Throttle[KolusError] = Throttle(clock, _log_refusal)
        self.served = self.refused = self.sent = self.received = 0

    def change(
        self,
        settings: ListenerSettings,
        certificates: Any = None,
        send_proxy: ProxyVersion | None = None,
    ) -> None:
        """Go on with other settings. No client is closed: the times apply to all of them, and the
        rest to new ones.

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
        return not (self.clients or self._acceptor.on_the_way)

    def buildProtocol(self, addr: object) -> Protocol | None:
        return self.protocol_for(getattr(addr, "host", None))

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

    def takes(self, port: Any, factory: Factory) -> None:
        """A port that another front has forgotten accepts clients for this one.

        @param port: as C{listens} of the other one gave it, without TLS or such around it.
        @param factory: as for C{listens}.
        """
        if isinstance(port, RawPort):
            port.serve(factory)
        else:
            port.factory = factory
        port.startReading()
        self.listens(port, factory)

    def forgets(self, port: Any) -> None:
        """A port, as C{listens} gave it, accepts no clients any more."""
        self._acceptor.gate.remove(port)

    def drain(self, grace: float) -> Deferred[int]:
        """Accept no new clients, and let the present ones finish, including those in the queue and
        those that are in their TLS handshake, or have not sent their PROXY header yet.

        Call it once, after the listening ports are closed.

        @param grace: seconds after which the remaining clients are aborted.
        @return: fires with the number of aborted clients, when no client is left. Cancelling it
            stops nothing.
        """
        self._acceptor.close()
        self._drain = Drain(self._clock, self.clients, self._acceptor, grace)
        self._look_whether_drained()
        return self._drain.ended

    def shakes_hands(self, client: Client) -> None:
        """A client is connected, and its TLS handshake begins. Called by the client."""
        self._acceptor.shakes_hands(client)

    def arrived(self, client: Client) -> None:
        """A client is connected, and its TLS handshake completed. Called by the client."""
        if client.timer is not None:
            self._acceptor.end_handshake(client)
        self.clients.add(client)
        try:
            wait = self._connect(self._ident_of(client))
        except Exception:
            wait = fail()
        client.wait = wait
        if self._loop is not None:
            self._loop.descriptors.waiting += 1
        # Not a coroutine: that would cost more than all the rest here.
        of = (client,)
        wait.addCallbacks(self._serve, self._has_no_lease, callbackArgs=of, errbackArgs=of)

    def left(self, client: Client, reason: BaseException) -> None:
        """A client's connection is lost. Called by the client."""
        self._acceptor.left(client, reason)
        if client.wait is not None:
            client.wait.cancel()
        elif client.done:
            self._forget(client)
        else:
            self._look_whether_drained()

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
        self.clients.served(client, lease)
        try:
            if self._send_proxy is not None:
                lease.protocol.write(client.info.header_for_backend(self._send_proxy))
            ended = partial(self._was_served, client, lease)
            session = self._pump(client, lease.protocol, ended, self._times.half_closed)
            self._times.begun(session)
            client.session = session
            session.begin()
        except Exception:
            _log.failure("serving a client failed")
            client.abort()
            if client.session is None:
                lease.finished()
                self._is_done(client)
            else:
                client.session.abort()

    def _was_served(self, client: Client, lease: Lease[End], session: Session) -> None:
        client.session = None
        self._times.ended(session)
        self.served += 1
        self.sent += session.sent
        self.received += session.received
        try:
            self._framing(lease)
        except Exception:
            _log.failure("what becomes of a backend's connection failed, so it is closed")
        if lease.held:
            lease.finished()
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
        info = client.info
        return info.server_name if kind == "server_name" else info.host

    def _is_done(self, client: Client) -> None:
        client.done = True
        if client.gone:
            self._forget(client)

    def _forget(self, client: Client) -> None:
        """It is gone, and its lease is settled: until then, the backend may still be receiving."""
        self.clients.remove(client)
        self._look_whether_drained()

    def close_client(self, number: int) -> bool:
        """Abort a client.

        @param number: its number in C{clients.status}.
        @return: whether there was such a client.
        """
        client = self.clients.find(number)
        if client is not None:
            client.give_up()
        return client is not None

    def abort(self) -> None:
        """Abort the clients that are left."""
        self._acceptor.abort()
        self.clients.abort()

    def _look_whether_drained(self) -> None:
        if self._drain is None or self._drain.ended.called or not self.is_empty:
            return
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
        self._drain.end()


def _log_refusal(error: KolusError, others: int) -> None:
    _log.warn(
        "a client got no lease and is closed ({others} more since the last such line): {error}",
        others=others,
        error=describe(error),
    )

"""HTTP: a pool for Twisted's C{Agent}, and for treq, that has limits and lets requests wait.

Needs C{pip install 'kolus[http]'} for HTTPS; plain HTTP needs Twisted alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web._newclient import (
    HTTP11ClientProtocol,
    Request,
    RequestNotSent,
    RequestTransmissionFailed,
    ResponseNeverReceived,
    TransportProxyProducer,
)
from twisted.web.client import _ReadBodyProtocol

from kolus.backend import Backend
from kolus.clients.client import Client
from kolus.events import Observer
from kolus.lease import Lease
from kolus.policy import Policy
from kolus.pool import Pool
from kolus.support import Alarm, check_seconds, steady

__all__ = ["BodyTimeout", "HTTPPool", "take_over"]

_log = Logger()
_IDENT = "http"
_REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE"})
_NO_ANSWER = (RequestNotSent, RequestTransmissionFailed, ResponseNeverReceived)
_MOST_KNOWN = 1000
_UPGRADED = "_kolus_upgraded"  # where a response of 101 carries its connection


class BodyTimeout(Exception):
    """The body of a response was not read, or did not come, for too long."""


class HTTPPool(Client):
    """A pool of HTTP connections: C{Agent(reactor, pool=HTTPPool(reactor))}.

    It takes the place of C{HTTPConnectionPool}. Each host, port and scheme is a backend of its own,
    with the policy's C{limit} of connections. A request waits if all of them are in use. Its
    connection comes home when the body of the response has been read to its end.

    @ivar persistent: C{True}: connections serve one request after the other.
    @ivar retryAutomatically: whether a request that may be repeated is sent once more, on a new
        connection, if a used connection ended before any answer came. That are GET, HEAD, OPTIONS,
        DELETE and TRACE without a body.
    """

    persistent = True

    def __init__(
        self,
        reactor: Any,
        *,
        policy: Policy | None = None,
        limit: int | None = None,
        body_timeout: float | None = 60.0,
        observers: Iterable[Observer] = (),
    ) -> None:
        """
        @param policy: all settings of the pool; C{limit} is that of each host. The default is
            C{Policy(leak_after=None)}: a long download is no leak.
        @param limit: the most connections to all hosts together; C{None}: no such limit.
        @param body_timeout: seconds for which nothing of a body may come, or be read. Then the
            connection is closed, and whoever reads the body gets C{ResponseFailed} with
            C{BodyTimeout}. C{None}: for ever.
        @raise ValueError: C{limit} or C{body_timeout} is invalid.
        """
        check_seconds("body_timeout", body_timeout)
        self.retryAutomatically = True
        self._reactor = reactor
        self._body_timeout = body_timeout
        self._backends: dict[Hashable, Backend] = {}
        self._connected: set[_Exchange] = set()
        self.pool: Pool[_Exchange] = Pool(
            reactor,
            lambda: _Exchange(reactor, body_timeout, self._connected),
            policy=policy or Policy(leak_after=None),
            limit=limit,
            observers=observers,
        )

    # What Agent calls

    def getConnection(self, key: Hashable, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        """A connection for one request; see C{HTTPConnectionPool.getConnection}.

        @return: fires with an object that has a C{request} method, or fails as L{Pool.connect}.
        """
        backend = self._backend(key, endpoint)
        return self.pool.connect(_IDENT, backend).addCallback(_Turn, self, backend)

    def closeCachedConnections(self) -> Deferred[None]:
        """Close idle connections now, and the others when their responses have been read.

        @return: fires when those that were idle are closed. C{close} waits for the others, too.
        """
        gone = [each.when_gone() for each in self._connected if not each.is_in_use]
        self.pool.invalidate()
        return gatherResults(gone).addCallback(lambda _: None)

    def fresh(self, backend: Backend) -> Deferred[Lease[_Exchange]]:
        """A lease of a connection that has not been used before."""
        return self.pool.connect(_IDENT, backend, fresh=True)

    def _backend(self, key: Hashable, endpoint: IStreamClientEndpoint) -> Backend:
        backend = self._backends.get(key)
        if backend is None:
            if len(self._backends) >= _MOST_KNOWN:
                self._forget_unused()
            name = _name(key) or repr(endpoint)
            self._backends[key] = backend = Backend(endpoint, name=name)
        return backend

    def _forget_unused(self) -> None:
        used = {status.backend for status in self.pool.status()}
        self._backends = {key: each for key, each in self._backends.items() if each in used}


def take_over(response: Any, protocol: IProtocol) -> None:
    """Speak another protocol on the connection of a response of 101 (Switching Protocols).

    Such a connection has left the pool when the response comes: it is yours alone. Nothing is read
    from it before this is called.

    @param response: what C{Agent.request} gave for a request with an C{Upgrade} header.
    @param protocol: is connected at once, and gets what came after the response first.
    @raise ValueError: the response has another code, or its connection has been taken over.
    """
    exchange = vars(response).pop(_UPGRADED, None)
    if exchange is None:
        raise ValueError(
            f"take_over needs a response of 101 to a request with an Upgrade header, once; this "
            f"response is {response.code}"
        )
    exchange.become(protocol)


class _Turn:
    """One lease, for one request."""

    def __init__(self, lease: Lease[_Exchange], pool: HTTPPool, backend: Backend) -> None:
        self._lease = lease
        self._pool = pool
        self._backend = backend

    def request(self, request: Request) -> Deferred[Any]:
        """Send a request; see C{HTTP11ClientProtocol.request}."""
        repeatable = (
            self._pool.retryAutomatically
            and self._lease.reused
            and request.method in _REPEATABLE
            and request.bodyProducer is None
        )
        answer = self._lease.protocol.exchange(self._lease, request)
        if repeatable:
            answer.addErrback(self._repeat, request)
        return answer

    def _repeat(self, failure: Failure, request: Request) -> Any:
        failure.trap(*_NO_ANSWER)
        if any(each.check(CancelledError) for each in getattr(failure.value, "reasons", ())):
            return failure
        return self._pool.fresh(self._backend).addCallback(
            lambda lease: lease.protocol.exchange(lease, request)
        )


class _Exchange(HTTP11ClientProtocol):
    """Settles its lease when a response has been read to its end, or there is none.

    Twisted tells the quiescent callback too early: it still has to let go of the response, and
    would take that of whoever has the connection by then. After the reader of the body was told, it
    is too late: he may ask for a connection at once, and should get this one. So the lease is
    settled between the two.
    """

    def __init__(self, reactor: Any, body_timeout: float | None, connected: set[_Exchange]) -> None:
        """
        @param connected: holds this while it is connected.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._connected = connected
        self._gone: list[Deferred[None]] = []
        self._now = steady(reactor).seconds
        self._body_timeout = math.inf if body_timeout is None else body_timeout
        self._body_due = math.inf
        self._alarm = Alarm(reactor, self._look_at_body)
        self._lease: Lease[_Exchange] | None = None
        self._late: BodyTimeout | None = None
        self._out_of_step = False
        self._rest = b""
        self._heir: IProtocol | None = None

    @property
    def is_in_use(self) -> bool:
        return self._lease is not None

    def when_gone(self) -> Deferred[None]:
        self._gone.append(Deferred())
        return self._gone[-1]

    def connectionMade(self) -> None:
        super().connectionMade()
        self._connected.add(self)

    def exchange(self, lease: Lease[_Exchange], request: Request) -> Deferred[Any]:
        """Send a request, and settle the lease when its response has been read."""
        self._lease = lease
        answer = self.request(request)
        proxy: Any = self._transportProxy
        if proxy is not None:
            proxy.__class__, proxy.exchange = _Proxy, self
        if self._parser is not None and request.headers.hasHeader(b"Upgrade"):
            parser: Any = self._parser
            parser.allHeadersReceived = partial(
                self._headers_came, parser, parser.allHeadersReceived
            )
        return answer.addCallbacks(self._answered, self._failed)

    def abort_reading(self) -> None:
        """The Deferred of C{readBody} is cancelled: nobody wants the rest."""
        parser: Any = self._parser
        reader = parser.response._bodyProtocol
        if isinstance(reader, _ReadBodyProtocol):  # else Twisted fires what is cancelled already
            reader.deferred = Deferred()
            reader.deferred.addErrback(lambda _: None)
        transport: Any = self.transport
        transport.abortConnection()

    def _headers_came(self, parser: Any, go_on: Callable[[], None]) -> None:
        """All headers have come of what may be the response to an upgrade."""
        if parser.response.code != 101 or self._lease is None:
            go_on()
            return
        response, lease = parser.response, self._lease
        self._lease = None
        self._rest = parser.clearLineBuffer()
        transport: Any = self.transport
        transport.pauseProducing()
        lease.detach()
        setattr(response, _UPGRADED, self)
        response.length = 0
        answered = parser._responseDeferred
        parser._finished(b"")
        response._bodyDataFinished()
        transport.pauseProducing()  # Twisted has resumed it
        answered.callback(response)

    def become(self, protocol: IProtocol) -> None:
        """Pass everything on to another protocol."""
        transport: Any = self.transport
        self._heir = protocol
        protocol.makeConnection(transport)
        if self._rest:
            protocol.dataReceived(self._rest)
        transport.resumeProducing()

    def _answered(self, response: Any) -> Any:
        """The headers have come. If the body has as well, the lease is settled already."""
        if self._lease is not None:
            self._wait_for_body()
        return response

    def _wait_for_body(self) -> None:
        # A timer for each response, or each piece of it, would cost as much as the lease.
        self._body_due = self._now() + self._body_timeout
        self._alarm.set(self._body_due)

    def _look_at_body(self) -> None:
        """The alarm rings: it was set for this response, or for one before it."""
        if self._now() < self._body_due:
            self._alarm.set(self._body_due)
        else:
            self._give_up()

    def _failed(self, failure: Failure) -> Failure:
        self._out_of_step = True
        self._settle()
        return failure

    def _give_up(self) -> None:
        seconds = self._body_timeout
        self._late = BodyTimeout(f"nothing of the body came, or was read, for {seconds:g} s")
        transport: Any = self.transport
        transport.abortConnection()

    def _finishResponse(self, rest: bytes) -> None:
        self._out_of_step = bool(rest)
        super()._finishResponse(rest)

    def dataReceived(self, data: bytes) -> None:
        if self._body_due < math.inf:
            self._wait_for_body()
        if self._heir is not None:
            self._heir.dataReceived(data)
            return
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def _disconnectParser(self, reason: Failure) -> None:
        parser: Any = self._parser
        if parser is not None:
            tell_reader = parser.connectionLost

            def let_go(why: Failure) -> None:
                del parser.connectionLost  # or each response would be a cycle of references
                self._settle()
                try:
                    tell_reader(why)
                except Exception:  # Twisted would close what is another's connection by now
                    _log.failure("the reader of a body raised")

            parser.connectionLost = let_go
        super()._disconnectParser(reason)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._heir is not None:
            self._heir.connectionLost(reason)
        told = reason if self._late is None else Failure(self._late)
        super().connectionLost(told)  # type: ignore[no-untyped-call]
        self._settle()
        self._alarm.clear()
        self._connected.discard(self)
        gone, self._gone = self._gone, []
        for each in gone:
            each.callback(None)

    def _settle(self) -> None:
        self._body_due = math.inf
        lease, self._lease = self._lease, None
        if lease is None or not lease.held:
            return
        if self.state == "QUIESCENT" and not self._out_of_step:
            lease.release()
        else:
            lease.finished()


class _Proxy(TransportProxyProducer):
    """What a reader of a body has as its transport. It can be aborted, as C{readBody} asks for."""

    exchange: _Exchange

    def abortConnection(self) -> None:
        if self._producer is not None:
            self.exchange.abort_reading()


def _name(key: Any) -> str | None:
    """The scheme, host and port of C{Agent}'s key."""
    try:
        scheme, host, port = key
        return f"{scheme.decode()}://{host.decode()}:{port}"
    except (TypeError, ValueError, AttributeError):
        return None

"""C{Exchange}: the protocol of a pooled connection, which settles its lease after each response.

Its state is the lease of the present request; when the time for the body is over, and whether the
request was still being sent when that time began; whether it has served a request; whether it is
out of step; and the protocol that has taken it over, if one has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol
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

from kolus.clients.http.held_body import HeldBody, expects_continue
from kolus.clients.http.upgrade import hand_over
from kolus.lease import Lease
from kolus.support import Alarm, steady

__all__ = ["BodyTimeout", "Exchange"]

_log = Logger()
_NO_ANSWER = (RequestNotSent, RequestTransmissionFailed, ResponseNeverReceived)
_HTTP_1_1 = (b"HTTP", 1, 1)
_READ_AHEAD = 65536
"""Bytes of a response that are read although nobody reads its body yet."""
_STAYS = [b"keep-alive"]
_READ = Failure(ConnectionDone("the response has been read"))

Again = Callable[[Request], Deferred[Any]]
"""Sends a request once more, on another connection."""


class BodyTimeout(Exception):
    """The body of a response was not read, or did not come, for too long."""


class Exchange(HTTP11ClientProtocol):
    """Settles its lease when a response has been read to its end, or there is none.

    Twisted calls the quiescent callback too early: it has not let go of the response yet, and would
    drop that of the next lessee instead. After the reader of the body was told, it is too late: the
    reader may ask for a connection at once, and should get this one. So the lease is settled
    between the two, when the parser is told that its part is over.

    @ivar heir: the protocol that has taken the connection over after an upgrade.
    """

    def __init__(self, reactor: Any, body_timeout: float | None, connected: set[Exchange]) -> None:
        """
        @param connected: holds this while it is connected.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.heir: IProtocol | None = None
        self._connected = connected
        self._gone: list[Deferred[None]] = []
        self._clock = steady(reactor)
        self._now = self._clock.seconds
        self._body_timeout = math.inf if body_timeout is None else body_timeout
        self._body_due = math.inf
        self._is_sending = False
        self._alarm = Alarm(reactor, self._look_at_body)
        self._lease: Lease[Exchange] | None = None
        self._late: BodyTimeout | None = None
        self._has_served = False
        self._out_of_step = False

    @property
    def is_in_use(self) -> bool:
        return self._lease is not None

    def when_gone(self) -> Deferred[None]:
        self._gone.append(Deferred())
        return self._gone[-1]

    def connectionMade(self) -> None:
        super().connectionMade()
        self._connected.add(self)

    def exchange(
        self, lease: Lease[Exchange], request: Request, again: Again | None = None
    ) -> Deferred[Any]:
        """Send a request, and settle the lease when its response has been read.

        @param again: is called if this has served before, and ended before any answer came.
        """
        self._lease = lease
        is_held = request.bodyProducer is not None and expects_continue(request.headers)
        if is_held:
            request.bodyProducer = HeldBody(self._clock, request.bodyProducer)
        answer = self.request(request)
        proxy: Any = self._transportProxy
        if proxy is not None:
            proxy.__class__, proxy.exchange = _Proxy, self
            if is_held or request.headers.hasHeader(b"Upgrade"):
                its: Any = self._parser
                its.allHeadersReceived = partial(self._headers_came, its, its.allHeadersReceived)
        return answer.addErrback(self._failed, request, again)

    def _failed(self, failure: Failure, request: Request, again: Again | None) -> Any:
        self._out_of_step = True
        self.settle()
        if again is None or not self._has_served or failure.check(*_NO_ANSWER) is None:
            return failure
        if any(each.check(CancelledError) for each in getattr(failure.value, "reasons", ())):
            return failure
        return again(request)

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
        """All headers have come of what may end an upgrade, or the wait of a body."""
        code = parser.response.code
        request: Any = self._currentRequest
        if code == 101 and self._lease is not None:
            self._upgrade(parser, self._lease)
            return
        body = None if request is None else request.bodyProducer
        if isinstance(body, HeldBody) and body.is_held:
            if code == 100:
                parser.connectionMade()  # as Twisted, which logs that it did not expect this
                del parser.response
                body.send()
                return
            if code >= 200:
                self._stop_sending(request)
        go_on()

    def _stop_sending(self, request: Request) -> None:
        """What has come is the outcome of a request that was not sent to its end. The server still
        waits for that, so the connection is closed."""
        request.stopWriting()
        transport: Any = self.transport
        transport.unregisterProducer()
        request.persistent = False
        self._state = "WAITING"
        answered: Any = self._responseDeferred
        answered.chainDeferred(self._finishedRequest)

    def _upgrade(self, parser: Any, lease: Lease[Exchange]) -> None:
        response = parser.response
        transport: Any = self.transport
        self._lease = None
        transport.pauseProducing()
        lease.detach()
        hand_over(response, self, parser.clearLineBuffer())
        response.length = 0
        answered = parser._responseDeferred
        parser._finished(b"")
        response._bodyDataFinished()
        transport.pauseProducing()  # Twisted has resumed it
        answered.callback(response)

    def dataReceived(self, data: bytes) -> None:
        if self.heir is not None:
            self.heir.dataReceived(data)
            return
        parser: Any = self._parser
        proxy: Any = self._transportProxy
        if proxy is not None:
            proxy.is_parsing = True
        try:
            parser.dataReceived(data)
        except BaseException:
            failure = Failure()
            if self._state == "TRANSMITTING" and self._currentRequest is not None:
                self._stop_sending(self._currentRequest)  # Twisted would forget its waiter
            self._giveUp(failure)  # type: ignore[no-untyped-call]
        if parser is self._parser and parser is not None and parser.bodyDecoder is not None:
            if parser.response._bodyProtocol is not None or self._body_due == math.inf:
                self.wait_for_body()
            proxy.parsed(len(data))

    def wait_for_body(self) -> None:
        """The time begins in which something of the body has to come, or to be read. What comes
        while nobody reads it does not begin it anew: the rest may come for ever."""
        # A timer for each response, or each piece of it, would cost as much as the lease.
        self._is_sending = self._state == "TRANSMITTING"
        self._body_due = self._now() + self._body_timeout
        self._alarm.set(self._body_due)

    def _look_at_body(self) -> None:
        """The alarm rings: it was set for this response, or for one before it."""
        if self._now() < self._body_due:
            self._alarm.set(self._body_due)
        elif self._is_sending:  # the server may wait for the end of the request
            self.wait_for_body()
        else:
            self._give_up()

    def _give_up(self) -> None:
        seconds = self._body_timeout
        self._late = BodyTimeout(f"nothing of the body came, or was read, for {seconds:g} s")
        transport: Any = self.transport
        transport.abortConnection()

    def _finishResponse(self, rest: bytes) -> None:
        parser, request = self._parser, self._currentRequest
        proxy: Any = self._transportProxy
        self._out_of_step = bool(rest) or (parser is not None and _ends(parser))
        if (
            self._out_of_step
            or request is None
            or not request.persistent
            or self._state != "WAITING"
        ):
            super()._finishResponse(rest)
            return
        self._state = "QUIESCENT"  # as Twisted, in half the time
        if proxy is not None and proxy.is_paused:
            proxy.resumeProducing()
        self._disconnectParser(_READ)

    def _disconnectParser(self, reason: Failure) -> None:
        """As Twisted's, but that the lease is settled before the reader of the body is told."""
        parser: Any = self._parser
        proxy: Any = self._transportProxy
        if parser is None:
            return
        self._parser = self._currentRequest = self._responseDeferred = None
        self._finishedRequest = self._transportProxy = None
        proxy.stopProxying()
        self.settle()
        try:
            parser.connectionLost(reason)
        except Exception:  # Twisted would close what is another's connection by now
            _log.failure("the reader of a body raised")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.heir is not None:
            self.heir.connectionLost(reason)
        told = reason if self._late is None else Failure(self._late)
        super().connectionLost(told)  # type: ignore[no-untyped-call]
        self.settle()
        self._alarm.clear()
        self._connected.discard(self)
        gone, self._gone = self._gone, []
        for each in gone:
            each.callback(None)

    def settle(self) -> None:
        """The connection comes home, or it ends if it is of no more use."""
        self._body_due = math.inf
        lease, self._lease = self._lease, None
        if lease is None or not lease.held:
            return
        if self._state == "QUIESCENT" and not self._out_of_step:
            self._has_served = True
            lease.release()
        else:
            lease.finished()


def _ends(parser: Any) -> bool:
    """Whether the server closes the connection after this response. Twisted knows one spelling."""
    is_old = parser.response.version < _HTTP_1_1
    told = parser.connHeaders.getRawHeaders(b"Connection")
    if told is None or told == _STAYS:
        return told is None and bool(is_old)
    words = {word.strip() for word in b",".join(told).lower().split(b",")}
    return b"close" in words or (is_old and b"keep-alive" not in words)


class _Proxy(TransportProxyProducer):
    """What a reader of a body has as its transport. It can be aborted, as C{readBody} asks for.

    Twisted pauses the transport when the headers have come, and resumes it when the body has a
    reader. Here it is read on at first: a small body that nobody reads, as that of a redirect or of
    an error, then holds no connection. And while data is parsed a pause does not take effect, so
    for most responses the reactor is asked neither to stop reading nor to read again.

    @ivar is_parsing: whether data that has come is being parsed.
    @ivar is_paused: whether the transport is.
    """

    exchange: Exchange
    is_parsing = is_paused = False
    _is_to_pause = False
    _left = _READ_AHEAD

    def parsed(self, count: int) -> None:
        """So many bytes that have come are parsed, and the response is not at its end."""
        self.is_parsing = False
        self._left -= count
        if self._is_to_pause and self._left <= 0:
            self._is_to_pause = False
            self.pauseProducing()

    def pauseProducing(self) -> None:
        if self.is_parsing:
            self._is_to_pause = True
        else:
            self.is_paused = True
            super().pauseProducing()  # type: ignore[no-untyped-call]

    def resumeProducing(self) -> None:
        if self._producer is not None and not self.is_parsing:
            self.exchange.wait_for_body()
        self._left = 0
        if self._is_to_pause:
            self._is_to_pause = False
        elif self.is_paused:
            self.is_paused = False
            super().resumeProducing()  # type: ignore[no-untyped-call]

    def abortConnection(self) -> None:
        if self._producer is not None:
            self.exchange.abort_reading()

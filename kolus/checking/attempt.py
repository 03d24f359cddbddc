"""C{check_once}: one check of a backend, over one connection that is closed after it.

Its state is whether the check has an end, and what has come of the answer.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHandshakeListener,
    ISSLTransport,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.checking.health_check import HealthCheck
from kolus.tls import BackendCertificates, BackendTLS

__all__ = ["check_once"]

_MOST_BYTES = 64 * 1024
"""So much of an answer is looked at."""


class UnexpectedAnswer(Exception):
    """A backend has answered, but not what was expected."""


def check_once(endpoint: IStreamClientEndpoint, check: HealthCheck) -> Deferred[None]:
    """Check a backend once, without a time limit.

    @return: fires when the backend has done what it has to; fails with the reason why not.
        Cancelling it closes the connection.
    """
    connecting: Deferred[Any] | None = None

    def cancel(_: object) -> None:
        if connecting is not None:
            connecting.cancel()
        attempt.close(abort=True)

    ended: Deferred[None] = Deferred(cancel)
    attempt = _Attempt(check, ended)
    connecting = endpoint.connect(Factory.forProtocol(lambda: attempt))
    connecting.addErrback(attempt.fail)
    return ended


@implementer(IHandshakeListener)
class _Attempt(Protocol):
    """The connection of one check.

    @ivar ended: the end of the check; C{None} once it has one.
    """

    transport: Any

    def __init__(self, check: HealthCheck, ended: Deferred[None]) -> None:
        self.ended: Deferred[None] | None = ended
        self._check = check
        self._got = b""

    def connectionMade(self) -> None:
        if ISSLTransport.providedBy(self.transport):
            return  # a certificate is refused only later
        if self._check.kind == "tls":
            host = getattr(self.transport.getPeer(), "host", "localhost")
            certificates = BackendCertificates(BackendTLS(verify=False))
            self.transport.startTLS(certificates.creator(host))
        else:
            self._ready()

    def handshakeCompleted(self) -> None:
        self._ready()

    def _ready(self) -> None:
        if self._check.kind != "exchange":
            self._succeed()
        elif self._check.send:
            self.transport.write(self._check.send)

    def dataReceived(self, data: bytes) -> None:
        if self.ended is None or self._check.kind != "exchange":
            return
        self._got += data
        if self._check.expect in self._got:
            self._succeed()
        elif len(self._got) > _MOST_BYTES:
            self.fail(self._unexpected())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # What has come of an answer says more than how it ended.
        self.fail(self._unexpected() if self._got else reason)

    def fail(self, reason: Failure) -> None:
        """Fail, unless the check has an end."""
        ended, self.ended = self.ended, None
        self.close(abort=True)
        if ended is not None and not ended.called:
            ended.errback(reason)

    def close(self, *, abort: bool = False) -> None:
        if self.transport is not None:
            # The end of TLS needs an answer, and nobody would wait for it.
            abort = abort or ISSLTransport.providedBy(self.transport)
            (self.transport.abortConnection if abort else self.transport.loseConnection)()

    def _succeed(self) -> None:
        ended, self.ended = self.ended, None
        self.close()
        if ended is not None:
            ended.callback(None)

    def _unexpected(self) -> Failure:
        shown, expected = self._got[:40], self._check.expect
        return Failure(UnexpectedAnswer(f"{shown!r} does not have {expected!r}"))

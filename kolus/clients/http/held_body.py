"""C{HeldBody}: the body of a request with C{Expect: 100-continue}.

Its state is what lets it go, once it was asked for, and the timer after which it goes by itself.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IDelayedCall, IReactorTime
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

__all__ = ["HeldBody", "expects_continue"]

_PATIENCE = 1.0
"""Seconds for which the server may say nothing. Some servers do not know C{Expect}."""


@implementer(IBodyProducer)
class HeldBody:
    """Sends another body when the server says 100 (Continue), or nothing for a second.

    @ivar is_held: whether it waits, and nothing of it was sent.
    """

    def __init__(self, clock: IReactorTime, body: Any) -> None:
        """
        @param body: provides C{IBodyProducer}.
        """
        self.length = body.length
        self.is_held = True
        self._clock = clock
        self._body = body
        self._allowed: Deferred[None] = Deferred()
        self._timer: IDelayedCall | None = None

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """See C{IBodyProducer}."""
        self._timer = self._clock.callLater(_PATIENCE, self.send)
        self._allowed.addBoth(self._let_go)
        return self._allowed.addCallback(lambda _: self._body.startProducing(consumer))

    def send(self) -> None:
        """The server wants it."""
        self._allowed.callback(None)

    def _let_go(self, result: object) -> object:
        self.is_held = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        return result

    def pauseProducing(self) -> None:
        if not self.is_held:
            self._body.pauseProducing()

    def resumeProducing(self) -> None:
        if not self.is_held:
            self._body.resumeProducing()

    def stopProducing(self) -> None:
        """If it was not begun, it may be sent by another request."""
        if self._allowed.called:
            self._body.stopProducing()
        else:
            self._let_go(None)


def expects_continue(headers: Headers) -> bool:
    """Whether a request wants to hear of the server before it sends its body."""
    return any(each.lower() == b"100-continue" for each in headers.getRawHeaders(b"Expect", ()))

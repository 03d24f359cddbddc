"""C{Opening}: gets a connection from its endpoint to where its protocol can be used.

Its state is the Deferred of the handshake, if the transport has one; whether user code is running
that makes the connection; and what failed in it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeGuard

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectError, ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import ISSLTransport, IStreamClientEndpoint, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import alsoProvides, directlyProvidedBy

from kolus.connection.one_protocol import OneProtocol
from kolus.connection.step import begin_step
from kolus.connection.tcp_options import set_tcp_options
from kolus.support import place_of_mistake

if TYPE_CHECKING:
    from kolus.connection.connection import Connection

__all__ = ["Opening"]

_log = Logger()

_LATER = Deferred, Awaitable  # the first is what it mostly is
Endpoint = IStreamClientEndpoint | Coroutine[Any, Any, IStreamClientEndpoint]


class Opening:
    """The attempt of one connection to reach its backend; it ends with the handshake of TLS.

    @ivar is_making: whether the endpoint has just been told to connect, or the protocol's
        C{makeConnection} is running. What is given up meanwhile ends after that.
    """

    __slots__ = ("_connection", "_failure", "_handshake", "_tcp_timeout", "is_making")

    def __init__(self, connection: Connection[Any], tcp_timeout: float | None) -> None:
        """
        @param tcp_timeout: see C{Policy}.
        """
        self._connection = connection
        self._tcp_timeout = tcp_timeout
        self._handshake: Deferred[None] | None = None
        self._failure: Failure | None = None
        self.is_making = False

    def begin(
        self,
        endpoint: Callable[[], Endpoint],
        build: Callable[[], Any],
        timeout: float | None,
    ) -> Deferred[object]:
        """Connect, through the handshake of TLS.

        @param endpoint: gives the endpoint, or a coroutine that does.
        @param build: makes the user's protocol.
        @return: fires when the connection can be used; fails with the reason why it cannot.
        """
        connection = self._connection
        connection.opening = self
        factory = OneProtocol(connection, build)
        self.is_making = True
        try:
            reached = self._reach(endpoint(), factory)
        except BaseException:  # as maybeDeferred does
            reached = fail()
        self.is_making = False
        if self._is_over(reached):
            connection.opening = None
            return reached
        opened = begin_step(connection, "connect", timeout, self._follow, reached)
        if self._failure is not None:
            connection.give_up(self._failure)
        return opened

    def _is_over(self, reached: object) -> TypeGuard[Deferred[object]]:
        """Whether the connection can be used already: that needs no time limit."""
        if not isinstance(reached, Deferred) or not reached.called or reached.paused:
            return False
        is_made = self._connection.transport is not None and self._handshake is None
        return is_made and self._failure is None and not isinstance(reached.result, Failure)

    def _reach(self, its: Endpoint, factory: OneProtocol) -> object:
        if not hasattr(its, "connect") and isinstance(its, Coroutine):
            return self._reach_later(its, factory)
        reached = its.connect(factory)
        if not isinstance(reached, _LATER):
            self._connection.mistake = error = TypeError(
                f"{its!r} must give a Deferred when it is told to connect, not {reached!r}"
            )
            raise error
        return reached

    def _follow(self, reached: Any) -> object:
        if isinstance(reached, Deferred):  # not awaited: that would cost more than all the rest
            return reached.addCallback(self._reached)
        return self._reach_by(reached)

    async def _reach_later(self, coming: Awaitable[Any], factory: OneProtocol) -> object:
        try:
            its: Any = await coming
        except (TypeError, ValueError) as error:  # the user's own callable gave no endpoint
            self._connection.mistake = error
            raise
        reached: Any = self._reach(its, factory)
        return await reached

    async def _reach_by(self, reached: Awaitable[object]) -> object:
        handshake = self._reached(await reached)
        return await handshake if isinstance(handshake, Deferred) else handshake

    def _reached(self, _: object) -> object:
        if self._failure is not None:
            return self._failure  # raised, it would know our callers: all losses may share it
        if self._connection.transport is None:
            raise ConnectionDone("the endpoint fired without a connection")
        return self._handshake

    def make(self, transport: ITransport) -> None:
        """Give the transport to the user's protocol."""
        connection = self._connection
        set_tcp_options(transport, self._tcp_timeout)
        if ISSLTransport.providedBy(transport):
            # A certificate is refused only after connectionMade.
            self._handshake = Deferred()
            connection.but = "its TLS handshake failed"
        else:
            # Twisted's endpoints put a wrapper around the connection that passes on every optional
            # interface, but claims only one of them.
            wrapper = getattr(transport, "protocol", connection)
            if wrapper is not connection:
                alsoProvides(wrapper, *directlyProvidedBy(connection))
        was_making, self.is_making = self.is_making, True
        try:
            connection.protocol.makeConnection(transport)
        except BaseException as error:
            self._failure = Failure()
            if not isinstance(error, OSError | ConnectError | ConnectionClosed):
                connection.mistake = error
                where = place_of_mistake(error, connection.protocol.makeConnection)
                connection.but = f"its protocol raised in makeConnection, at {where}"
            _log.failure("{protocol!r} raised in makeConnection", protocol=connection.protocol)
        finally:
            self.is_making = was_making

    def shook_hands(self) -> None:
        """The handshake is completed."""
        if self._handshake is not None and not self._handshake.called:
            if self._failure is None:
                self._connection.but = None
            self._handshake.callback(None)

    def give_up(self, reason: Failure) -> None:
        """Fail when what is running returns: an endpoint that is about to fire does not expect to
        be cancelled before."""
        self._failure = reason

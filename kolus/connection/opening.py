"""C{Opening}: gets a connection from its endpoint to where its protocol can be used.

Its state is the Deferred of the handshake, if the transport has one; whether the protocol's
C{makeConnection} is running; and what failed in it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import ISSLTransport, IStreamClientEndpoint, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import alsoProvides, directlyProvidedBy

from kolus.connection.one_protocol import OneProtocol
from kolus.connection.silence import limit_silence
from kolus.connection.step import begin_step
from kolus.support import place_of_mistake

if TYPE_CHECKING:
    from kolus.connection.connection import Connection

__all__ = ["Opening"]

_log = Logger()

Endpoint = IStreamClientEndpoint | Coroutine[Any, Any, IStreamClientEndpoint]


class Opening:
    """The attempt of one connection to reach its backend; it ends with the handshake of TLS.

    @ivar is_making: whether the protocol's C{makeConnection} is running.
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
        self._connection.opening = self
        factory = OneProtocol(self._connection, build)
        return begin_step(self._connection, "connect", timeout, self._reach, endpoint, factory)

    def _reach(self, endpoint: Callable[[], Endpoint], factory: OneProtocol) -> object:
        its = endpoint()
        if isinstance(its, Coroutine):
            return self._reach_later(its, factory)
        reached = its.connect(factory)
        if isinstance(reached, Deferred):  # not awaited: that would cost more than all the rest
            return reached.addCallback(self._reached)
        if not isinstance(reached, Awaitable):
            self._connection.mistake = error = TypeError(
                f"{its!r} must give a Deferred when it is told to connect, not {reached!r}"
            )
            raise error
        return self._reach_by(reached)

    async def _reach_later(self, coming: Awaitable[Any], factory: OneProtocol) -> object:
        its = await coming
        reached = self._reach(lambda: its, factory)
        return await reached if isinstance(reached, Awaitable) else reached

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
        if self._tcp_timeout is not None:
            limit_silence(transport, self._tcp_timeout)
        if ISSLTransport.providedBy(transport):
            # A certificate is refused only after connectionMade.
            self._handshake = Deferred()
        else:
            # Twisted's endpoints put a wrapper around the connection that passes on every optional
            # interface, but claims only one of them.
            wrapper = getattr(transport, "protocol", connection)
            if wrapper is not connection:
                alsoProvides(wrapper, *directlyProvidedBy(connection))
        self.is_making = True
        try:
            connection.protocol.makeConnection(transport)
        except Exception as error:
            self._failure = Failure()
            if not isinstance(error, OSError | ConnectError | ConnectionClosed):
                connection.mistake = error
                where = place_of_mistake(error, connection.protocol.makeConnection)
                connection.but = f"its protocol raised in makeConnection, at {where}"
            _log.failure("{protocol!r} raised in makeConnection", protocol=connection.protocol)
        finally:
            self.is_making = False

    def shook_hands(self) -> None:
        """The handshake is completed."""
        if self._handshake is not None and not self._handshake.called:
            self._handshake.callback(None)

    def give_up(self, reason: Failure) -> None:
        """Fail when C{makeConnection} returns: the endpoint is about to fire, and does not expect
        to be cancelled before."""
        self._failure = reason

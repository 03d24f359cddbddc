"""C{Connector}: makes the connections of one manager, and sees them end.

Its state is whether an attempt is unpaid for; how the attempts went it notes in the record. It
moves connections in C{Connections} when they are made, fail, end or fall out of step, and then
tells the manager that something has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from twisted.python.failure import Failure

from kolus.errors import ConnectFailed, reason_of
from kolus.events import Why
from kolus.manager.connection import Connection
from kolus.manager.connection_state import CONNECTING
from kolus.support import let_go, shown

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.backoff import Rng
    from kolus.manager.connections import Connections
    from kolus.manager.hooks import Hooks
    from kolus.manager.record import BackendRecord
    from kolus.policy import Policy
    from kolus.watching import Recorder

__all__ = ["Connector", "Owner"]

P = TypeVar("P")


class Owner(Protocol):
    """Whom a connector works for: a manager."""

    @property
    def backend(self) -> Backend: ...
    @property
    def ident(self) -> Hashable: ...
    def connections_changed(self) -> None:
        """A connection is ready, or a slot is free, or an attempt has failed."""


class Connector(Generic[P]):
    """Attempts to connect, and what became of the connections.

    @ivar manager: whom the connections are made for.
    @ivar clock: the manager's.
    @ivar build: makes the protocol of each connection.
    @ivar attempts: how those of all managers of this backend went.
    """

    def __init__(
        self,
        manager: Owner,
        reactor: Any,
        build: Callable[[], P],
        policy: Policy,
        rng: Rng,
        connections: Connections[P],
        record: BackendRecord,
        hooks: Hooks,
        recorder: Recorder,
    ) -> None:
        """
        @raise ValueError: the backend's endpoint string is of no use to this reactor.
        """
        self.manager = manager
        self.clock = reactor
        self.build = build
        self.now: Callable[[], float] = reactor.seconds
        self.attempts = record.attempts
        self._unpaid = False
        self._endpoint = record.endpoint(reactor)
        self._policy = policy
        self._rng = rng
        self._connections = connections
        self._record = record
        self._hooks = hooks
        self._recorder = recorder

    @property
    def unpaid(self) -> bool:
        """Whether the last attempt failed and no pause follows: then there is no other until this
        one has cost a request, or a new request has come, or a sibling's has succeeded; else
        attempts would never end."""
        return self._unpaid and self.attempts.failures > 0

    def pay(self) -> None:
        """An attempt that failed has been made good for."""
        self._unpaid = False

    def due_in(self) -> float:
        """Seconds until the next attempt is due; 0 or less if it is."""
        return float(self.attempts.due_at - self.now())

    def error(self) -> ConnectFailed:
        """What a request fails with that the last attempt has left unserved."""
        assert self.attempts.last_error is not None
        retry_in = max(0.0, self.due_in())
        return ConnectFailed(self.manager.backend, self.attempts.last_error, retry_in)

    def connect(self) -> None:
        """Begin an attempt: connect, and prepare for the first lessee."""
        connection: Connection[P] = Connection(self, self._rng.random(), self.attempts.failures)
        self._connections.begin(connection)
        made = connection.open(self._endpoint, self._policy.connect_timeout)
        made.addCallback(lambda _: self._hooks.prepare(connection))
        ours = (connection,)
        made.addCallbacks(self._connected, self._failed, callbackArgs=ours, errbackArgs=ours)

    def failed(self, error: BaseException, connection: Connection[P]) -> None:
        """An attempt, C{connection}, failed, or gave a connection that was of no use."""
        self.was_useless(error, connection)
        self._record.health.connect_failed(error)

    def was_useless(self, error: BaseException, connection: Connection[P]) -> None:
        """The same, where the backend's health has heard of it already."""
        where = shown(error)
        let_go(error)
        backoff = self._policy.backoff
        failures = max(self.attempts.failures, connection.failures) + 1
        delay = 0.0 if backoff is None else backoff.delay(failures, self._rng)
        self.attempts.failed(error, failures, self.now() + delay)
        self._unpaid = backoff is None
        self._recorder.connect_failed(self.error(), failures, where)

    def _connected(self, _: object, connection: Connection[P]) -> None:
        if not connection.usable():
            closed = ConnectionAbortedError("it was closed while it was made ready")
            self._failed(Failure(closed), connection)
            return
        self._connections.connected(connection)
        self.attempts.succeeded()
        self.pay()
        if self._connections.come_home(connection):
            self._recorder.connected()
        self._record.health.connected()
        self.manager.connections_changed()
        self._record.turns.wake()

    def _failed(self, failure: Failure, connection: Connection[P]) -> None:
        if connection.state is CONNECTING:
            self.failed(reason_of(failure), connection)
            self._connections.close(connection, Why.UNFIT, abort=True)
        self.manager.connections_changed()
        self._record.turns.wake()

    # What connections report

    def connection_closed(self, connection: Connection[P], reason: Failure) -> None:
        """A connection is gone: its slot is free. Called by the connection."""
        connections = self._connections
        unmade, was_idle = connection in connections.connecting, connection in connections.idle
        connections.remove(connection)
        if connection.was_ready:
            why = None if connection.was_lost else connection.why
            self._recorder.closed(why, reason_of(reason))
        if connection.was_lost and (unmade or (was_idle and self._is_stillborn(connection))):
            self.failed(reason_of(reason), connection)
        self.manager.connections_changed()
        self._record.turns.wake()

    def connection_out_of_step(self, connection: Connection[P], why: str) -> None:
        """An idle connection is of no use any more. Called by the connection."""
        self._connections.close(connection, Why.OUT_OF_STEP)
        self._recorder.out_of_step(why)
        if self._is_stillborn(connection):
            self.failed(ConnectionAbortedError(why), connection)
        self.manager.connections_changed()

    def _is_stillborn(self, connection: Connection[P]) -> bool:
        # Only connections that nobody waits for are made in a loop; of one that was made for
        # somebody who has gone, such as a backend's that speaks first, it is no sign of failure.
        return self._policy.min_idle > 0 and connection.stillborn()

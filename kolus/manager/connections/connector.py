"""C{Connector}: makes the connections of one manager, and handles their end.

Its state is whether the next attempt is held back, and whether the last one made a connection that
was of no use; the results of attempts are in the record. It moves connections in C{Connections}
when they are made, fail, end or get out of step, and then tells the manager.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from kolus.connection import CONNECTING, Connection, Opening
from kolus.context import ConnectContext
from kolus.errors import ConnectFailed, reason_of
from kolus.events import Why
from kolus.health import USELESS
from kolus.manager.connections.failed_attempts import FailedAttempts

if TYPE_CHECKING:
    from kolus.backoff import Rng
    from kolus.connection import Endpoint
    from kolus.manager.base import BaseManager

__all__ = ["Connector"]

P = TypeVar("P")


class Connector(Generic[P]):
    """Makes attempts to connect, and is told how connections end.

    @ivar manager: the manager of the connections.
    @ivar clock: the manager's clock.
    @ivar attempts: the results of the attempts of all managers of this backend.
    """

    def __init__(
        self, manager: BaseManager[P], reactor: Any, build: Callable[[], P], rng: Rng
    ) -> None:
        """
        @param manager: the manager, which has its hooks and its connections.
        @param reactor: what connects.
        @param build: makes the protocol of each connection.
        @param rng: where the jitter comes from.
        @raise ValueError: this reactor cannot use the backend's endpoint string.
        """
        self.manager = manager
        self.clock = manager.clock
        self.now: Callable[[], float] = manager.clock.seconds
        self._reactor = reactor
        self._build = build
        self._rng = rng
        self._connections = manager.connections
        self._hooks = manager.hooks
        self._policy = policy = manager.policy
        self._record = record = manager.record
        self._recorder = recorder = manager.recorder
        self.attempts = record.attempts
        self._failures = FailedAttempts(record, reactor, policy, rng, recorder)
        self._held_back = self._was_made = False
        self._successes = 0  # of all managers of the backend, when this one's last attempt failed
        if not record.backend.makes_endpoints:
            record.endpoint(reactor)

    @property
    def held_back(self) -> bool:
        """Whether no attempt is made yet: the last one failed, and there is no pause after
        that. The next is made only after a request has failed for it or a new request has come.
        Otherwise attempts would be repeated without end.

        A sibling's success also allows it, since the backend can be connected to then. If this
        manager was connected and could not use the connection, that is no news. Then it is allowed
        only if nothing else is on its way here: nothing is leased, in a check or connecting."""
        if not self._held_back:
            return False
        is_as_it_was = self.attempts.successes == self._successes
        return is_as_it_was or (self._was_made and self._connections.in_use())

    def allow_next(self) -> None:
        """A request has failed for the failed attempt, or the next is allowed otherwise."""
        self._held_back = False

    def due_in(self) -> float:
        """Seconds until the next attempt is due; 0 or less if it is."""
        return float(self.attempts.due_at - self.now())

    def error(self) -> ConnectFailed:
        """The error of a request that fails because the last attempt failed."""
        attempts, retry_in = self.attempts, max(0.0, self.due_in())
        error, but = attempts.last_error, attempts.but
        assert error is not None
        backend, is_mistake = self.manager.backend, attempts.is_mistake
        return ConnectFailed(backend, error, retry_in, but=but, is_mistake=is_mistake)

    def connect(self) -> None:
        """Begin an attempt: connect, then run the policy's prepare."""
        self.go_on(*self.begin())

    def begin(self) -> tuple[Connection[P], Deferred[object]]:
        """Begin an attempt; C{go_on} is due.

        @return: the connection; and what fires when it is made ready, or could not be.
        """
        attempts, now = self.attempts, self.now()
        attempts.begin(now, len(self._record.connecting))
        connection: Connection[P] = Connection(self, self._rng.random(), attempts.failures)
        connection.begun_at = now
        self._connections.begin(connection)
        opening = Opening(connection, self._policy.tcp_timeout)
        made = opening.begin(self._endpoint, self._build, self._policy.connect_timeout)
        if self._policy.prepare is not None:
            made.addCallback(self._prepare, connection, self._context())
        return connection, made

    def go_on(self, connection: Connection[P], made: Deferred[object]) -> None:
        """Handle the outcome of an attempt, now or when it is known."""
        ours = (connection,)
        made.addCallbacks(self._connected, self._failed, callbackArgs=ours, errbackArgs=ours)
        self._connections.wait_for_late()

    def _context(self) -> ConnectContext:
        number = self.attempts.failures + 1
        return ConnectContext(
            self.manager.ident, self.manager.backend, number, self._record.generation
        )

    def _endpoint(self) -> Endpoint:
        backend = self._record.backend
        if backend.makes_endpoints:
            return backend.endpoint_for(self._reactor, self._context(), self._record.hosts)
        try:
            return self._record.endpoint(self._reactor)
        except ConnectFailed as error:  # this machine's fault, as an attempt's
            raise error.reason from None

    def _prepare(
        self, _: object, connection: Connection[P], context: ConnectContext
    ) -> Deferred[object]:
        connection.but = "prepare failed"
        return self._hooks.prepare(connection, context)

    def failed(self, error: BaseException, connection: Connection[P]) -> None:
        """The attempt C{connection} failed, or gave a connection that could not be used."""
        if self.note_failure(error, connection):
            self._record.health.connect_failed(error)

    def note_failure(self, error: BaseException, connection: Connection[P]) -> bool:
        """As C{failed}, but do not tell the backend's health.

        @return: whether the backend is to blame, and not this machine or the user's own code.
        """
        is_mistake = connection.mistake is not None
        self._held_back = self._policy.backoff is None or is_mistake
        self._successes = self.attempts.successes
        before, began, but = connection.failures, connection.begun_at, connection.but
        self._was_made = but is not None
        is_to_blame = self._failures.note(error, before, began, but=but, is_mistake=is_mistake)
        if not (is_to_blame or is_mistake):  # a fault of this machine has a pause of its own
            self.allow_next()
        return is_to_blame

    def _connected(self, _: object, connection: Connection[P]) -> None:
        if not connection.usable():
            closed = ConnectionAbortedError("it was closed while it was made ready")
            self._failed(Failure(closed), connection)
            return
        was_short = self._record.attempts.shortage.fault is not None
        self.made_ready(connection, lambda: self._connections.take_back(connection))
        self.tell()
        if was_short and self._record.listener is not None:
            self._record.listener.shortage_over()

    def made_ready(self, connection: Connection[P], make_idle: Callable[[], object]) -> None:
        """A connection is made, prepared and usable. C{tell} is due, unless it is leased at once.

        @param make_idle: makes it idle, before anybody is told, who could end it.
        """
        self._connections.connected(connection)
        connection.but = USELESS
        make_idle()
        now = self.now()
        is_back = self._failures.over(now, connection.failures)
        if not self.attempts.failures:
            self.allow_next()
        self._recorder.connected(now - connection.begun_at)
        self._record.health.connected(is_back)

    def tell(self) -> None:
        """Tell those who wait for a connection or a slot that something has changed."""
        self.manager.connections_changed()
        self._record.turns.wake()

    def _failed(self, failure: Failure, connection: Connection[P]) -> None:
        if connection.state is CONNECTING:
            self.failed(connection.mistake or reason_of(failure), connection)
            self._connections.close(connection, Why.UNFIT, abort=True)
        self.tell()

    # Called by connections

    def connection_closed(self, connection: Connection[P], reason: Failure) -> None:
        """A connection is gone, and its slot is free."""
        connections = self._connections
        unmade, was_idle = connection in connections.connecting, connection in connections.idle
        connections.remove(connection)
        if connection.was_ready:
            why = None if connection.was_lost else connection.why
            self._recorder.closed(why, reason_of(reason))
        if connection.was_lost and (unmade or (was_idle and self._is_stillborn(connection))):
            self.failed(reason_of(reason), connection)
        self.tell()

    def connection_out_of_step(self, connection: Connection[P], why: str, abort: bool) -> None:
        """A connection has data or an end that belong to no request: it is unusable."""
        self._connections.close(connection, Why.OUT_OF_STEP, abort=abort)
        if self._is_stillborn(connection):
            self.failed(ConnectionAbortedError(why), connection)
        else:
            self._recorder.out_of_step(why)
        self.manager.connections_changed()

    def _is_stillborn(self, connection: Connection[P]) -> bool:
        # Another one would be made at once, and again. If a connection was made for a waiter that
        # has left, its end is no failure: the backend may speak first, for example.
        is_needed = self._policy.min_idle > 0 or self.manager.is_asked()
        return is_needed and connection.stillborn()

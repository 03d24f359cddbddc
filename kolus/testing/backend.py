"""C{FakeBackend}: a backend without a network, for tests of time-outs, retries and losses.

It is an endpoint on a C{task.Clock}, so a test of a five-second time-out takes a millisecond. Its
connections make the same calls in the same order as Twisted's TCP transports. What the client does
takes effect in a later turn of the clock. What the test makes the backend do arrives at once, as if
the network had just delivered it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionRefusedError,
    NoProtocol,
)
from twisted.internet.interfaces import (
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.testing.transport import ADDRESS, END, RESET, FakeTransport

__all__ = ["FakeBackend", "FakeConnection"]


@dataclass(frozen=True, slots=True)
class _Step:
    """The instruction for one attempt to connect."""

    after: float
    outcome: Callable[[Deferred[Any], IProtocolFactory], None]


@implementer(IStreamClientEndpoint)
class FakeBackend:
    """An endpoint that follows the test's instructions: C{Backend(FakeBackend(clock))}.

    Each call of C{accept}, C{refuse} or C{never_answer} adds an instruction for one attempt; the
    attempts take them in order. With C{always=True} the call sets the default for attempts without
    an instruction. At first the default is to accept at once, within the call of C{connect}.

    @ivar attempts: number of attempts to connect.
    @ivar accepted: the backend's ends of all connections accepted so far.
    """

    def __init__(
        self, clock: Clock, respond: Callable[[bytes], bytes | None] | None = None
    ) -> None:
        """
        @param respond: returns the answer to each piece of data; it is sent in a later turn of the
            clock. C{None}: the backend answers nothing.
        """
        self.attempts = 0
        self.accepted: list[FakeConnection] = []
        self._clock = clock
        self._respond = respond
        self._script: deque[_Step] = deque()
        self._default_step = _Step(0.0, self._accept)

    @property
    def connections(self) -> list[FakeConnection]:
        """The connections in C{accepted} that are open."""
        return [each for each in self.accepted if each.open]

    def __repr__(self) -> str:
        return f"<FakeBackend, {len(self.connections)} connections>"

    def accept(self, after: float = 0.0, *, always: bool = False) -> FakeBackend:
        """Accept the connection after so many seconds."""
        return self._add_step(_Step(after, self._accept), always)

    def refuse(
        self, after: float = 0.0, reason: Exception | None = None, *, always: bool = False
    ) -> FakeBackend:
        """Fail the attempt with C{reason}; the default is a C{ConnectionRefusedError}."""

        def fail(asked: Deferred[Any], _: IProtocolFactory) -> None:
            asked.errback(Failure(reason or ConnectionRefusedError("the fake backend refuses")))

        return self._add_step(_Step(after, fail), always)

    def never_answer(self, *, always: bool = False) -> FakeBackend:
        """Leave the attempt without an answer, as a lost SYN does."""
        return self._add_step(_Step(0.0, lambda asked, factory: None), always)

    def _add_step(self, step: _Step, always: bool) -> FakeBackend:
        if always:
            self._default_step = step
        else:
            self._script.append(step)
        return self

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        """See C{IStreamClientEndpoint}."""
        self.attempts += 1
        step = self._script.popleft() if self._script else self._default_step
        timer = None

        def cancel(asked: Deferred[Any]) -> None:
            if timer is not None and timer.active():
                timer.cancel()
            asked.errback(ConnectingCancelledError(ADDRESS))

        asked: Deferred[Any] = Deferred(cancel)
        if step.after > 0:
            timer = self._clock.callLater(step.after, step.outcome, asked, factory)
        else:
            step.outcome(asked, factory)
        return asked

    def _accept(self, asked: Deferred[Any], factory: IProtocolFactory) -> None:
        try:
            protocol: Any = factory.buildProtocol(ADDRESS)
        except Exception:
            asked.errback()
            return
        if protocol is None:
            asked.errback(Failure(NoProtocol()))
            return
        connection = FakeConnection(self._clock, protocol, self._respond)
        self.accepted.append(connection)
        protocol.makeConnection(connection.transport)
        asked.callback(protocol)


class FakeConnection:
    """The backend's end of a connection.

    @ivar received: all bytes from the client.
    @ivar open: whether the client's end is open: C{connectionLost} is yet to come.
    @ivar saw_eof: whether the client has ended its direction.
    @ivar transport: the client's end.
    """

    def __init__(
        self, clock: Clock, protocol: Any, respond: Callable[[bytes], bytes | None] | None
    ) -> None:
        self.received = b""
        self.saw_eof = False
        self.transport = FakeTransport(clock, self, protocol)
        self._clock = clock
        self._respond = respond

    @property
    def open(self) -> bool:
        return self.transport.connected

    def speak(self, data: bytes) -> None:
        """Send bytes to the client. They wait while the client has paused reading."""
        self.transport.arrive(data)

    def close(self) -> None:
        """Close the connection cleanly.

        A client with half-close sees only the end of the stream. As with TCP, it learns that the
        backend no longer reads when it writes.
        """
        self.transport.peer_gone = True
        self.transport.arrive(END)

    def reset(self) -> None:
        """Reset the connection. A client that has paused reading learns it when it resumes."""
        self.transport.arrive(RESET)

    def half_close(self) -> None:
        """End the backend's direction, and go on reading. The client sees the end of the stream."""
        self.transport.arrive(END)

    def hear(self, data: bytes) -> None:
        """Receive bytes from the client, and send the answer, if there is one."""
        self.received += data
        answer = self._respond(data) if self._respond else None
        if answer:
            self._clock.callLater(0, self.speak, answer)

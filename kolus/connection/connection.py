"""One pooled connection: it stands between the transport and the user's protocol.

Its state is C{state}, which changes along the table C{NEXT}, by C{_become}; only the two changes
of every lease, whose price a call would double, are made by C{lease} and C{rest} themselves. Then
there is the step that is under way while it is being made ready (connect, prepare, check, reset),
and the transport, from when it is connected until it is lost. It holds its manager's slot until
it is closed, and tells its maker so exactly once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHandshakeListener,
    ILoggingContext,
    IProtocol,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from kolus.connection.descriptor import Descriptor, descriptor_of
from kolus.connection.history import History
from kolus.connection.state import (
    BUSY,
    CLOSED,
    CLOSING,
    CONNECTING,
    DETACHED,
    IDLE,
    LEASED,
    NEXT,
)
from kolus.connection.transports import is_ending, is_sound, layers, stop_telling, tell_before
from kolus.support import abort

if TYPE_CHECKING:
    from kolus.connection.maker import Maker
    from kolus.connection.opening import Opening
    from kolus.connection.process_pipes import ProcessPipes
    from kolus.connection.state import ConnectionState
    from kolus.events import Why
    from kolus.support import Step

__all__ = ["Connection"]

P = TypeVar("P")
_log = Logger()
_lose = methodcaller("loseConnection")

_SPEAKS_FIRST = (
    "; if its backend speaks first, let none be made ahead: min_idle or connect_ahead = 0"
)


@implementer(IProtocol, IHandshakeListener, ILoggingContext)
class Connection(History, Generic[P]):
    """A slot of a manager, and the connection that fills it.

    The transport talks to this object and it passes everything on, so optional interfaces of the
    user's protocol keep working. While it is leased, C{dataReceived} is the protocol's own method;
    else it is C{unasked}, which looks at the state.

    @ivar protocol: the user's protocol, once there is one.
    @ivar kept_since: since when it is idle, on the clock, while it is in a keep-alive check.
    @ivar retired: whether it is closed as soon as it is not leased.
    @ivar doubtful: whether it must be checked for being usable before it is leased or becomes idle:
        it is retired, has not served a lease yet, or its transport was told to close, or is paused,
        or does not report that.
    @ivar manager: the manager whose slot it holds.
    @ivar chance: from 0 to below 1, drawn by its maker: this one's share of every jitter.
    @ivar sure_until: until when it may be leased without another look, by the quick clock.
    @ivar expires_at: when its lifetime ends, on the clock.
    @ivar origin: where it was leased, in debug mode.
    @ivar opening: the attempt to make it, while that is under way.
    @ivar step: what is under way to make it ready, if anything is.
    @ivar slots: its leased slots, if it is shared.
    @ivar hearings: who wants to know whether anything comes: see C{Hearing}.
    """

    __slots__ = (
        *("_maker", "_tells", "chance", "dataReceived", "descriptor", "doubtful"),
        *("expires_at", "manager", "opening", "protocol", "retired", "state", "step"),
        *("sure_until", "transport", "unasked"),
    )

    protocol: Any
    kept_since: float | None = None
    origin: str | None = None
    slots: Any = frozenset()
    hearings: dict[Any, None] | None = None

    def __init__(self, maker: Maker, chance: float, failures: int) -> None:
        super().__init__(failures)
        self._maker: Any = maker  # a Detachment, later
        self.chance = chance
        self.opening: Opening | None = None
        self.step: Step | None = None
        self.expires_at = math.inf
        self._tells = False
        self.state = CONNECTING
        self.transport: ITransport | None = None
        self.descriptor: Descriptor | ProcessPipes | None = None
        self.retired = False
        self.doubtful = True
        self.sure_until = -math.inf
        self.manager: Any = maker.manager
        self.unasked: Any = self._data_received
        self.dataReceived: Any = self.unasked

    @property
    def leasable(self) -> Connection[P]:
        """Itself: see C{Leasable}."""
        return self

    def was_made(self) -> bool:
        """Whether its protocol was made, or this attempt has been given up."""
        return self.state is not CONNECTING or hasattr(self, "protocol")

    # What the manager does with it

    def give_up(self, reason: Failure) -> None:
        """Stop what is under way to make it ready."""
        if self.opening is not None and self.opening.is_making:
            self.opening.give_up(reason)
        elif self.step is not None:
            self.step.give_up(reason)

    def lease(self, now: float) -> bool:
        """Hand it to a lessee: from here to C{rest} the transport talks to the protocol.

        @return: whether it may be leased; looked at is only what can have happened while it was
            idle: that its protocol closed it, or that something has come. If not, close it, unless
            it is closing.
        """
        if self.doubtful and not self.usable(producing=True):
            return False
        is_new = not self.uses and now < self.since + self.manager.hooks.first_words
        if not (is_new or self.is_quiet(now)):
            return False
        if self.state is not IDLE:
            self._become(LEASED)
            self.kept_since = None
        self.state = LEASED
        self.since = now
        self.uses += 1
        self.dataReceived = self.protocol.dataReceived if self.answered else self._first_answer
        return True

    def look(self, now: float) -> None:
        """Close it if, while it is idle, something has come that its next lessee must not get."""
        if self.uses or now >= self.since + self.manager.hooks.first_words:
            self.is_quiet(now)

    def is_quiet(self, now: float) -> bool:
        """Look whether something has come that nobody asked for, unless that was looked at just
        now.

        @return: whether nothing has. If something has, it is closing now.
        """
        if now < self.sure_until:
            return True
        manager = self.manager
        clock = manager.clock
        if now >= clock.look_at:  # else the quick time may be less, and that for hours
            clock.look()
        self.sure_until = now + manager.sure_for
        return self.descriptor is None or self.descriptor.is_quiet()

    def _first_answer(self, data: bytes) -> None:
        """The first that comes during a lease. From here on the pool has no part in that."""
        self.answered = True
        self.dataReceived = self.protocol.dataReceived
        self.dataReceived(data)

    def out_of_step(self, why: str, *, abort: bool = False) -> None:
        """It has what belongs to no request: close it.

        @param abort: do not wait until what was written is sent."""
        self._maker.connection_out_of_step(self, why, abort)

    def occupy(self, now: float) -> None:
        """Begin a check or a reset."""
        if self.state is LEASED:  # it was released
            self.answered = self.proven = True
        self._become(BUSY)
        self.since = now

    def become_idle(self, now: float, idle: dict[Any, None]) -> bool:
        """From here on it is read, even if its lessee had paused it.

        @param idle: what it joins, to be watched.
        @return: whether it is usable. If not, nothing has changed.
        """
        doubtful = self.doubtful
        if doubtful and not self.usable():
            return False
        if self.state is BUSY and not self.is_quiet(now):
            return False
        self.since = now
        if self.state is LEASED:
            self.state = IDLE
            self.dataReceived = self.unasked
            if doubtful:
                self.answered = self.proven = True
        else:
            self._become(IDLE)
            if self.kept_since is not None:
                self.since, self.checked_at, self.kept_since = self.kept_since, now, None
        idle[self] = None
        if doubtful:
            transport: Any = self.transport
            tells = self._tells and not getattr(transport, "TLS", False)  # by a STARTTLS
            self.doubtful = not (tells and self.proven)
            getattr(transport, "resumeProducing", object)()
        return True

    def usable(self, producing: bool = False) -> bool:
        """Whether it may be leased: it is open, not retired, and nobody told it to close."""
        return not (self.retired or self.transport is None) and is_sound(self.transport, producing)

    def retire(self, why: Why) -> None:
        """Have it closed as soon as it is not leased. The first reason stays."""
        self.retired = self.doubtful = True
        if self.why is None:
            self.why = why

    def is_clean(self) -> bool:
        """Whether nothing is under way on it; C{False} if that is not known."""
        hooks = self.manager.hooks
        can_tell = hooks.cleans and not self.manager.process.is_foreign
        return can_tell and hooks.why_unclean(self) is None

    def why_not_detach(self) -> str | None:
        """Why it cannot leave the pool now; C{None} if it can."""
        return None if self.transport and self.state is LEASED else "its connection has ended"

    def detach(self, to: Any) -> None:
        """Leave the pool: it passes on what its transport tells, and C{to} hears of its end."""
        self._become(DETACHED)
        if self._tells:
            stop_telling(self.transport, for_good=True)
            self._tells = False
        self._maker = to
        self._losses = self.descriptor = None

    def close(self) -> None:
        """Close it once everything written is sent; its maker hears when it is gone."""
        self._end(_lose)

    def abort(self) -> None:
        """Close it now, without sending the rest."""
        self._end(abort)

    def _end(self, end: Callable[[Any], object]) -> None:
        self.retired = self.doubtful = True
        if self.state is not CLOSING:
            self._become(CLOSING)
        if self.opening is not None or self.step is not None:
            self.give_up(Failure(CancelledError()))
        if self.state is CLOSED:
            return  # its maker has closed it
        if self.transport is None:
            self._closed(self._ended or Failure(ConnectionDone()))
        else:
            end(self.transport)

    def _become(self, state: ConnectionState) -> None:
        was = self.state
        if state not in NEXT[was]:
            raise AssertionError(f"a connection that is {was.name} became {state.name}")
        if was is LEASED:
            self.dataReceived = self.unasked
        self.state = state

    def _closed(self, reason: Failure) -> None:
        self._become(CLOSED)
        self.dataReceived = self.unasked = repr  # its own methods keep it alive
        self._ended = reason
        self._maker.connection_closed(self, reason)
        if self._losses is not None:
            self._losses.happen(reason)

    # What the transport tells it: IProtocol and the optional interfaces

    def connectionMade(self) -> None:
        """Never called: C{makeConnection} is the protocol's own."""

    def makeConnection(self, transport: ITransport) -> None:
        if self.state is not CONNECTING or self.opening is None:
            abort(transport)
            return
        self.transport = transport
        self._tells = tell_before(transport, self)
        self.descriptor = descriptor_of(self, layers(transport))
        self.connected_at = self._maker.now()
        self.opening.make(transport)

    def _data_received(self, data: bytes) -> None:
        if self.state is IDLE:
            hint = "" if self.uses else _SPEAKS_FIRST
            why = f"{len(data)} bytes came" if data else "it was used"  # see PostgresTransport
            self.out_of_step(f"{why} while it was idle{hint}")
        elif self.state < CLOSING:
            self.protocol.dataReceived(data)

    def handshakeCompleted(self) -> None:
        if IHandshakeListener.providedBy(self.protocol):
            self.protocol.handshakeCompleted()
        if self.opening is not None:
            self.opening.shook_hands()

    def readConnectionLost(self) -> None:
        if self.state is IDLE:
            self.out_of_step("its peer closed it")
        elif self.state < CLOSING:
            self.retired = self.doubtful = self.was_lost = True
            self.left_lessee = self.state is LEASED
            self.protocol.readConnectionLost()

    def writeConnectionLost(self) -> None:
        if self.state is IDLE:
            self.out_of_step("its protocol closed its half")
        self.retired = self.doubtful = True
        self.protocol.writeConnectionLost()

    def fileDescriptorReceived(self, descriptor: int) -> None:
        self.protocol.fileDescriptorReceived(descriptor)

    def connectionLost(self, reason: Failure) -> None:
        if self.transport is None:
            return  # it came after this attempt had been given up, and was sent away
        if self._tells:
            stop_telling(self.transport)
        if self.state is LEASED and not is_ending(self.transport):
            self.left_lessee = True
        self.transport = self.descriptor = None
        self.doubtful = True
        self.was_lost = self.state < CLOSING
        self._ended = reason
        if self.state is IDLE:
            self._closed(reason)  # first, so that nobody can get it in what the protocol does now
        try:
            self.protocol.connectionLost(reason)
        except BaseException:
            _log.failure("{protocol!r} raised in connectionLost", protocol=self.protocol)
        self.give_up(reason)
        if self.state is not CLOSED:
            self._closed(reason)

    def logPrefix(self) -> str:
        teller: Any = ILoggingContext(self.protocol, None)
        return type(self.protocol).__name__ if teller is None else teller.logPrefix()

"""C{SteadyClock}: a clock that never goes back, and calls that first let the reactor read.

Twisted's reactors tell the time of day. When that is set back by an hour, C{callLater} waits an
hour longer, and times that were noted lie in the future. And when the reactor was blocked, it makes
the calls that are due before it reads what has come meanwhile. This clock differs in both.

The state of a clock is the calls that are to come, how far it is ahead of the reactor's, the last
reading of that, the time told last, when the reactor was last known to run, and when it ran on
after its last stall.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

__all__ = ["SteadyClock", "steady", "steady_seconds", "time_of_day"]

_log = Logger()

STALL = 0.25
"""Seconds of delay of a call that show that the reactor was blocked."""

_STEP = 0.05
"""Seconds by which the time of day must differ from what it should be, to have been set."""

_LOOK_EVERY = 0.001
"""Seconds for which a look is enough, as long as nobody has to know it exactly."""

_ROUNDING = 1e-6
"""Seconds by which the readings of two clocks that tell the same may differ."""

_EARLY = 0.001
"""Seconds that a call may come too early, by rounding."""

steady_seconds: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)  # goes on while the machine is suspended
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)
"""The seconds since the machine was started, or since another moment that stays the same."""

_KNOWN = (time.time, time.monotonic, steady_seconds)
_clocks: WeakValueDictionary[int, SteadyClock] = WeakValueDictionary()
"""Of each reactor the one in use, since a stall is the same for all who use it."""


def time_of_day() -> float:
    """Seconds since 1970, to be shown and never to be reckoned with: it may go back."""
    return time.time()


def _was_suspended() -> bool:
    """Whether the machine was ever suspended, so that C{time.monotonic} lags behind."""
    before, now = time.monotonic(), steady_seconds()
    return not before - _ROUNDING <= now <= time.monotonic() + _ROUNDING


def steady(clock: Any) -> SteadyClock:
    """The steady clock of a reactor, or of any other clock; a steady one is its own.

    @raise TypeError: C{clock} is neither a reactor nor a clock.
    """
    if isinstance(clock, SteadyClock):
        return clock
    found = _clocks.get(id(clock))  # it refers to its clock, whose id is thus still in use
    if found is None:
        if not (hasattr(clock, "callLater") and hasattr(clock, "seconds")):
            # Not what it is: a text with a password, perhaps, which is to be given after it.
            raise TypeError(
                f"reactor must be a reactor or a clock, not a {type(clock).__name__}: it comes "
                "first, as in Pool(reactor, ...)"
            )
        found = _clocks[id(clock)] = SteadyClock(clock)
    return found


@implementer(IReactorTime)
class SteadyClock:
    """The time of a reactor, as it passes: a step back does not show, and delays no call.

    With a reactor that tells the machine's time, this one's comes from C{steady_seconds}. With any
    other clock, a reading that is less than the one before counts as the same moment.

    A step back is noticed when the time is read, with a reactor that tells the machine's time when
    C{look} is called: at each C{callLater}, each of its calls, and each request that waits. Nothing
    can notice it before, as the reactor sleeps. Then each call is made when it would have been.

    A call that is late is made after the reactor has read once. So what has come in time is not
    judged to be late. A C{Clock} makes such a call in the same C{advance}. When a reactor is late
    by 0.25 s or more, it was blocked: that is logged once, with the bounds of what is known of its
    length.

    @ivar seconds: tells the time in seconds; it has nothing to do with the time of day.
    @ivar quick_seconds: tells it at a lower price, for times that may be noted too early: what is
        noted after the machine was suspended, but before the next C{look}, is noted as before that.
    @ivar in_next_turn: calls what it is given in the reactor's next turn.
    @ivar look_at: from when on the next event is to call C{look}; infinity if reading the time is
        enough.
    @ivar resumed_at: when the reactor ran on after it was last known to be blocked; minus infinity
        if it never was.
    """

    def __init__(self, clock: Any) -> None:
        """
        @param clock: a reactor, or any other C{IReactorTime}.
        """
        self._clock = clock
        self._calls: dict[_Call, None] = {}
        self._last = self._told = -math.inf
        self._ahead = 0.0
        self.resumed_at = -math.inf
        self.look_at = math.inf
        # A clock without threads is a test's; there, time is skipped and nothing is left unread.
        self._can_stall = hasattr(clock, "callFromThread")
        self.in_next_turn: Callable[[Callable[[], object]], object] = getattr(
            clock, "callFromThread", lambda what: what()
        )
        self.seconds: Callable[[], float] = self._never_less
        if clock.seconds in _KNOWN:
            self.seconds = steady_seconds
            self._ahead = steady_seconds() - clock.seconds()
            self.look_at = -math.inf
        self.quick_seconds = self.seconds
        if self.seconds is steady_seconds and not _was_suspended():
            self.quick_seconds = time.monotonic
        self._ran_at = self.seconds()

    def _never_less(self) -> float:
        read: float = self._clock.seconds()
        last, self._last = self._last, read
        if read < last:
            self._stepped(self._ahead + last - read)
        self._told = max(self._told, read + self._ahead)  # the sum may be rounded down
        return self._told

    def look(self) -> bool:
        """See whether the reactor's clock was set.

        @return: whether it was.
        """
        if self.seconds is not steady_seconds:
            before = self._ahead
            self._never_less()
            return self._ahead != before
        if self.quick_seconds is not steady_seconds and _was_suspended():
            self.quick_seconds = steady_seconds
        now = steady_seconds()
        self.look_at = now + _LOOK_EVERY
        ahead = now - self._clock.seconds()
        if abs(ahead - self._ahead) < _STEP:
            return False
        self._stepped(ahead)
        return True

    def _stepped(self, ahead: float) -> None:
        """The reactor's clock was set: make the calls when they would have been made."""
        step, self._ahead = ahead - self._ahead, ahead
        if step > _STEP:
            _log.info("the clock was set back by {seconds:.3g} s", seconds=step)
        for call in tuple(self._calls):
            call.move()

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kw: object
    ) -> IDelayedCall:
        """See C{IReactorTime}."""
        self.look()
        now = self.seconds()
        self.ran(now)
        call = _Call(self, now + delay, partial(callable, *args, **kw))
        call.wait(delay)
        return call

    def call_from_any_thread(self, what: Callable[..., object], *args: object) -> None:
        """Call it soon, in the reactor's thread."""
        call = getattr(self._clock, "callFromThread", None) or partial(self.callLater, 0)
        call(what, *args)

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """See C{IReactorTime}."""
        return [*self._calls]

    # Called by its calls

    def come(self, call: _Call, delay: float) -> IDelayedCall:
        """Add a call to those to come, and have it made after C{delay} seconds."""
        self._calls[call] = None
        made: IDelayedCall = self._clock.callLater(max(0.0, delay), call.rings)
        return made

    def gone(self, call: _Call) -> None:
        """A call was made or cancelled."""
        self._calls.pop(call, None)

    def ran(self, now: float) -> None:
        """The reactor runs."""
        self._ran_at = now

    def catch_up(self, at: float) -> None:
        """A call is made a rounding error before its time C{at}: that is the time now. Otherwise
        whoever looks whether it is due would call again, and with a C{Clock} for ever."""
        if self.seconds is not steady_seconds:
            error = math.ulp(max(at, self._last, abs(self._ahead)))
            self._ahead += at - (self._last + self._ahead) + 2 * error

    def came_late(self, due: float, now: float) -> None:
        """The reactor comes to a call only now, and its clock was not set."""
        least = now - due
        if self._can_stall and least >= STALL and due > self.resumed_at:
            self.resumed_at = now
            _log.warn(
                "the reactor was blocked for {least:.2f} to {most:.2f} s; what came meanwhile is "
                "read before anything times out",
                least=least,
                most=max(least, now - self._ran_at),
            )


@implementer(IDelayedCall)
class _Call:
    """One call to come."""

    __slots__ = ("__weakref__", "_at", "_call", "_clock", "_has_turned", "_over", "_what")

    def __init__(self, clock: SteadyClock, at: float, what: Callable[[], object]) -> None:
        self._clock = clock
        self._at = at
        self._what = what
        self._over: type[Exception] | None = None
        self._call: IDelayedCall | None = None
        self._has_turned = False

    def wait(self, delay: float) -> None:
        """Have the reactor make it."""
        self._call = self._clock.come(self, delay)

    def move(self) -> None:
        """The reactor's clock was set, so its own time for this call is wrong."""
        if self._call is not None:
            self._call.cancel()
            self.wait(self._at - self._clock.seconds())

    def rings(self) -> None:
        """Called by the reactor."""
        self._call = None
        was_set = self._clock.look()
        now = self._clock.seconds()
        if now < self._at - _EARLY:
            # If the clock was set back while the reactor makes its calls, the one on asyncio would
            # make a new one at once, and again, and again.
            self._clock.in_next_turn(self._wait_on)
        elif now > self._at and not self._has_turned:
            self._has_turned = True
            if not was_set:
                self._clock.came_late(self._at, now)
            self.wait(0)
        else:
            if now < self._at:
                self._clock.catch_up(self._at)
            self._over = AlreadyCalled
            self._clock.gone(self)
            self._clock.ran(now)
            self._what()

    def _wait_on(self) -> None:
        if self._over is None and self._call is None:
            self.wait(self._at - self._clock.seconds())

    # IDelayedCall

    def getTime(self) -> float:
        return self._at

    def cancel(self) -> None:
        self._check()
        self._over = AlreadyCancelled
        if not (self._has_turned or self._clock.look()):  # the reactor on asyncio has read first
            self._clock.came_late(self._at, self._clock.seconds())
        self._clock.gone(self)
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def delay(self, secondsLater: float) -> None:
        self._put_off(self._at + secondsLater)

    def reset(self, secondsFromNow: float) -> None:
        self._put_off(self._clock.seconds() + secondsFromNow)

    def active(self) -> bool:
        return self._over is None

    def _put_off(self, at: float) -> None:
        self._check()
        self._at = at
        self._has_turned = False
        self.move()

    def _check(self) -> None:
        if self._over is not None:
            raise self._over()

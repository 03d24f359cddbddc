"""The queue of a manager: requests in the order they came, each with its deadline.

Its state is C{waiting}, all waiters in order, and C{_timed}: those that have the queue's own
time-out, which therefore expire in the same order. A waiter that has gone stays in C{_timed}
until it is the first there: taking it out of the middle would cost every waiter a second look-up.
Only the methods here change it.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from kolus.alarm import Alarm

if TYPE_CHECKING:
    from kolus.owners import Ward

__all__ = ["Waiter", "WaiterQueue"]

T = TypeVar("T")
_GONE = 100  # of those that have gone so many may stay in the queue of deadlines, and as many more
# as are still there: beyond that sorting them out costs no more than they did


class Waiter(Deferred[T]):
    """A queued request: the very Deferred that its caller has.

    @ivar since: when it came, on the clock.
    @ivar deadline: when it fails; infinity if never.
    @ivar origin: where it was made, if that is known.
    @ivar ward: whose it is, if it has an owner.
    """

    since: float
    deadline: float
    origin: str | None = None
    ward: Ward | None = None
    _call: IDelayedCall | None = None


class WaiterQueue(Generic[T]):
    """First come, first served; O(1) for every operation.

    @ivar waiting: the waiters, the oldest first. Read it as often as you like; it is changed by
        the queue alone.
    """

    def __init__(
        self,
        clock: IReactorTime,
        timeout: float | None,
        expired: Callable[[Waiter[T]], Exception],
        alarm: Alarm,
    ) -> None:
        """
        @param timeout: seconds after which a waiter fails that names no other; C{None}: never.
        @param expired: makes what a waiter fails with, called when it has left the queue.
        @param alarm: set to whenever a waiter is due; its owner then calls C{expire_due}.
        """
        self.waiting: OrderedDict[Waiter[T], None] = OrderedDict()
        self._clock = clock
        self._timeout = math.inf if timeout is None else timeout
        self._expired = expired
        self._timed: deque[Waiter[T]] = deque()
        self._alarm = alarm
        self._canceller = self.remove

    def __len__(self) -> int:
        return len(self.waiting)

    def append(self, timeout: float | None = None) -> Waiter[T]:
        """Queue a request.

        @param timeout: seconds until its deadline; the queue's own if C{None}.
        @return: the waiter; cancelling it takes it out of the queue.
        """
        waiter: Waiter[T] = Waiter(self._canceller)
        waiter.since = now = self._clock.seconds()
        if timeout is None or timeout == self._timeout:
            waiter.deadline = due = now + self._timeout
            if due < math.inf:
                self._timed.append(waiter)
                if due < self._alarm.at:
                    self._alarm.set(due)
        else:
            waiter.deadline = now + timeout
            if timeout < math.inf:
                waiter._call = self._clock.callLater(timeout, self._expire, waiter)
        self.waiting[waiter] = None
        return waiter

    def popleft(self) -> Waiter[T]:
        """Take out the oldest waiter; the caller is about to fire it."""
        waiter, _ = self.waiting.popitem(last=False)
        self._forget_deadline(waiter)
        return waiter

    def expire_due(self, now: float) -> None:
        """Fail those whose time is over."""
        timed = self._timed
        while timed and timed[0].deadline <= now:
            self._expire(timed[0])

    def next_due(self) -> float:
        """When C{expire_due} has something to do, on the clock; infinity if never."""
        return self._timed[0].deadline if self._timed else math.inf

    def remove(self, waiter: Deferred[Any]) -> None:
        """Take out a waiter, wherever it is."""
        assert isinstance(waiter, Waiter)
        self.waiting.pop(waiter, None)
        self._forget_deadline(waiter)

    def _forget_deadline(self, waiter: Waiter[T]) -> None:
        """It has left C{waiting}."""
        if waiter._call is not None:
            if waiter._call.active():
                waiter._call.cancel()
            waiter._call = None
        timed = self._timed
        while timed and timed[0] not in self.waiting:
            timed.popleft()
        if len(timed) > 2 * len(self.waiting) + _GONE:
            self._timed = deque(each for each in timed if each in self.waiting)

    def _expire(self, waiter: Waiter[T]) -> None:
        self.remove(waiter)
        error = self._expired(waiter)
        if not waiter.called:  # whoever was told of the time-out may have cancelled it
            waiter.errback(error)

"""The queue of a manager: requests in the order they came, each with its deadline.

Its state is C{waiting}, all waiters in order; C{_timed}, those of them that have the queue's own
time-out and therefore expire in the same order; and one alarm for the first of these. Only the
methods here change it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from kolus.alarm import Alarm

__all__ = ["Waiter", "WaiterQueue"]

T = TypeVar("T")


class Waiter(Deferred[T]):
    """A queued request: the very Deferred that its caller has.

    @ivar since: when it came, on the clock.
    @ivar deadline: when it fails; infinity if never.
    @ivar origin: where it was made, in debug mode.
    """

    since: float
    deadline: float
    origin: str | None = None
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
    ) -> None:
        """
        @param timeout: seconds after which a waiter fails that names no other; C{None}: never.
        @param expired: makes what a waiter fails with, called when it has left the queue.
        """
        self.waiting: OrderedDict[Waiter[T], None] = OrderedDict()
        self._clock = clock
        self._timeout = math.inf if timeout is None else timeout
        self._expired = expired
        self._timed: OrderedDict[Waiter[T], None] = OrderedDict()
        self._alarm = Alarm(clock, self._expire_due)
        self._canceller = self._remove

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
            waiter.deadline = now + self._timeout
            if self._timeout < math.inf:
                self._timed[waiter] = None
                self._alarm.set(waiter.deadline)
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

    def _remove(self, waiter: Deferred[Any]) -> None:
        assert isinstance(waiter, Waiter)
        self.waiting.pop(waiter, None)
        self._forget_deadline(waiter)

    def _forget_deadline(self, waiter: Waiter[T]) -> None:
        if waiter._call is not None:
            if waiter._call.active():
                waiter._call.cancel()
            waiter._call = None
        self._timed.pop(waiter, None)
        if not self._timed:
            self._alarm.clear()

    def _expire_due(self) -> None:
        now = self._clock.seconds()
        while self._timed and (first := next(iter(self._timed))).deadline <= now:
            self._expire(first)
        if self._timed:
            self._alarm.set(next(iter(self._timed)).deadline)

    def _expire(self, waiter: Waiter[T]) -> None:
        self._remove(waiter)
        error = self._expired(waiter)
        if not waiter.called:  # whoever was told of the time-out may have cancelled it
            waiter.errback(error)

"""The queue of a manager: requests in the order they came, each with its deadline.

Its state is C{waiting}, all waiters in order, and C{_timed}: those that have the queue's own
time-out, which therefore expire in the same order. Of these some have gone: to take each of them
out of the middle would cost every waiter a second look-up. Only the methods here change it.

A waiter that several managers may serve is in one manager's queue, and in what they share besides;
see C{kolus.manager.shared_queue}. It can be moved to another manager's.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from kolus.support import Alarm, QuickDeferred, waiting

if TYPE_CHECKING:
    from kolus.backend import AnyBackend
    from kolus.manager.shared_queue import SharedQueue
    from kolus.watching import Ownership

__all__ = ["Choose", "Tried", "Waiter", "WaiterQueue"]

T = TypeVar("T")
Tried = dict["AnyBackend", BaseException]
"""What became of a request at the backends that could not serve it. A string in a list of backends
that turns out to be none stands for itself."""
Choose = Callable[[Tried], Any]
"""Chooses a backend, but none that was tried; C{None} if there is no other. It notes as tried what
turns out to be none."""
_GONE = 100  # so many that have gone may stay among the timed, and as many more as still wait


class Waiter(QuickDeferred, Deferred[T]):
    """A queued request: the very Deferred that its caller has.

    @ivar since: when it came, on the clock.
    @ivar deadline: when it fails; infinity if never.
    @ivar order: who came before it has a smaller one, in whatever queue.
    @ivar queue: the queue that it is in; C{None} on its way from one to another.
    @ivar shared: what it waits in besides, if several managers may serve it.
    @ivar choose: chooses for it among those, anew, if it has to be tried elsewhere.
    @ivar tried: what became of it at the backends that could not serve it.
    @ivar origin: where it was made, if that is known.
    @ivar ownership: whose it is, if it has an owner.
    """

    since: float
    deadline: float
    order: int
    queue: WaiterQueue[T] | None
    shared: SharedQueue | None = None
    choose: Choose | None = None
    tried: Tried | None = None
    origin: str | None = None
    ownership: Ownership | None = None
    _call: IDelayedCall | None = None

    def leave(self) -> None:
        """Wait no more, wherever it is."""
        if self.queue is not None:
            self.queue.remove(self)
        elif self.shared is not None:
            self.shared.left(self)
            if self.ownership is not None:
                self.ownership.leave(self)

    def fail(self, error: Exception | None) -> None:
        """It has left: tell its caller why, unless who heard of that has cancelled it meanwhile."""
        if not self.called:
            self.errback(error)


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
        arrivals: Iterator[int] | None = None,
        changed: Callable[[], object] | None = None,
        removed: Callable[[], object] | None = None,
    ) -> None:
        """
        @param timeout: seconds after which a waiter fails that names no other; C{None}: never.
        @param expired: makes what a waiter fails with, called when it has left the queue.
        @param alarm: set to whenever a waiter is due; its owner then calls C{expire_due}.
        @param arrivals: numbers the waiters of all queues among which they may be moved.
        @param changed: called when one has come or left; it only takes note of that.
        @param removed: called when a waiter has left that was not popped.
        """
        self.waiting: OrderedDict[Waiter[T], None] = OrderedDict()
        self._clock = clock
        self._timeout = math.inf if timeout is None else timeout
        self._expired = expired
        self._timed: deque[Waiter[T]] = deque()
        self._alarm = alarm
        self._changed = changed
        self._removed = removed
        self._arrivals = itertools.count() if arrivals is None else arrivals

    def __len__(self) -> int:
        return len(self.waiting)

    def append(self, timeout: float | None = None) -> Waiter[T]:
        """Queue a request.

        @param timeout: seconds until its deadline; the queue's own if C{None}.
        @return: the waiter; cancelling it takes it out of the queue.
        """
        waiter: Waiter[T] = waiting(Waiter, _give_up)
        waiter.queue = self
        waiter.order = next(self._arrivals)
        waiter.since = now = self._clock.seconds()
        if timeout is None or timeout == self._timeout:
            waiter.deadline = due = now + self._timeout
            if due < math.inf:
                self._note_deadline(waiter)
        else:
            waiter.deadline = now + timeout
            if timeout < math.inf:
                waiter._call = self._clock.callLater(timeout, self._expire, waiter)
        self.waiting[waiter] = None
        self._tell_changed()
        return waiter

    def _note_deadline(self, waiter: Waiter[T]) -> None:
        if len(self._timed) > 2 * len(self.waiting) + _GONE:
            self._timed = deque([each for each in self._timed if each in self.waiting])
        self._timed.append(waiter)
        if waiter.deadline < self._alarm.at:
            self._alarm.set(waiter.deadline)

    def popleft(self) -> Waiter[T]:
        """Take out the oldest waiter; the caller is about to fire it, and takes note itself."""
        waiter, _ = self.waiting.popitem(False)
        if self._timed and self._timed[0] is waiter:
            self._timed.popleft()
        if waiter._call is not None:
            self._forget_call(waiter)
        if waiter.shared is not None:
            waiter.shared.left(waiter)
        return waiter

    def remove(self, waiter: Waiter[Any]) -> None:
        """Take out a waiter, wherever it is; it waits no more."""
        self.waiting.pop(waiter, None)
        self._tell_changed()
        waiter.queue = None
        if waiter._call is not None:
            self._forget_call(waiter)
        if waiter.ownership is not None:
            waiter.ownership.leave(waiter)
        if waiter.shared is not None:
            waiter.shared.left(waiter)
        if self._removed is not None:
            self._removed()

    def fail(self, waiter: Waiter[Any], error: Exception) -> None:
        """Give up on a waiter. If others may serve it, it goes on waiting there."""
        if waiter.shared is None:
            self.remove(waiter)
            waiter.fail(error)
        else:
            self._let_go(waiter)
            waiter.shared.refused(waiter, error)
            self._tell_removed()

    def fail_first(self, error: Exception) -> None:
        """Give up on the oldest waiter."""
        self.fail(next(iter(self.waiting)), error)

    # Between the queues of several managers

    def give(self, waiter: Waiter[Any]) -> None:
        """Take out a waiter that is about to be adopted by another queue."""
        self._let_go(waiter)
        self._tell_removed()

    def adopt(self, waiter: Waiter[T]) -> None:
        """Put in a waiter of another queue, at the end whenever it came; it keeps its deadline."""
        waiter.queue = self
        self.waiting[waiter] = None
        self._tell_changed()
        if waiter.deadline < math.inf:
            left = max(0.0, waiter.deadline - self._clock.seconds())
            waiter._call = self._clock.callLater(left, self._expire, waiter)

    # Deadlines

    def expire_due(self, now: float) -> None:
        """Fail those whose time is over."""
        while self._timed and self._timed[0].deadline <= now:
            waiter = self._timed.popleft()
            if waiter in self.waiting:
                self._expire(waiter)

    def next_due(self) -> float:
        """When C{expire_due} may have something to do, on the clock; infinity if never."""
        timed = self._timed
        while timed and timed[0] not in self.waiting:
            timed.popleft()
        return timed[0].deadline if timed else math.inf

    def _tell_changed(self) -> None:
        if self._changed is not None:
            self._changed()

    def _tell_removed(self) -> None:
        if self._removed is not None:
            self._removed()

    def _let_go(self, waiter: Waiter[Any]) -> None:
        """Take out a waiter that goes on waiting, and is still its owner's."""
        self.waiting.pop(waiter, None)
        self._tell_changed()
        waiter.queue = None
        if waiter._call is not None:
            self._forget_call(waiter)

    def _forget_call(self, waiter: Waiter[T]) -> None:
        if waiter._call is not None and waiter._call.active():
            waiter._call.cancel()
        waiter._call = None

    def _expire(self, waiter: Waiter[T]) -> None:
        self.remove(waiter)
        waiter.fail(self._expired(waiter))


def _give_up(waiter: Any) -> None:
    """Its caller has cancelled it."""
    waiter.leave()

"""C{WaiterQueue}: waiters in the order of their arrival, each with its deadline.

A waiter is in exactly one queue, its manager's or its group's, until it is served, fails or is
cancelled.

Its state is C{waiting}, all waiters in order, and C{_timed}: those with the queue's own time-out,
which expire in the same order. Some of these have left already: to skip them later is cheaper than
to search for them. Only the methods here change it.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict, deque
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from kolus.errors import LeaseError
from kolus.lease import Lease
from kolus.support import Alarm, QuickDeferred, following, steady, waiting

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.manager.base import BaseManager
    from kolus.watching import Ownership

__all__ = ["OwnQueue", "Waiter", "WaiterQueue", "as_waiter"]

P = TypeVar("P")
T = TypeVar("T")
_AFTER_STALL = 0.25
"""Seconds that a request has at least after the reactor was blocked, or its whole time if that is
less, while a connection is made, checked or reset for it: a peer could not answer what it was not
asked meanwhile."""

_MOST_TOMBSTONES = 100  # and as many more as there are waiters


class Waiter(QuickDeferred, Deferred[T]):
    """A request that waits. It is the Deferred that its caller has.

    It can be awaited, or entered with C{async with}: the block has the lease, as with C{async with
    await ...}.

    @ivar since: when it arrived, on the clock.
    @ivar deadline: when it fails, on the clock; infinity if never. After a stall of the reactor it
        fails up to 0.25 s later, so that what came meanwhile is read first.
    @ivar order: its number. An earlier request has a smaller one, in all queues.
    @ivar queue: the queue that it is in; C{None} if it is in none, or has left.
    @ivar origin: the place in the program that made it, if known.
    @ivar ownership: the ownership that has it, if it has an owner.
    @ivar placement: the manager where it is placed, if it is in a group's queue.
    @ivar fresh: whether it wants a connection that was never leased.
    @ivar probes: the backend whose probe it is; C{None} if it is none.
    """

    since: float
    deadline: float
    order: int
    queue: WaiterQueue[T] | None = None
    origin: str | None = None
    ownership: Ownership | None = None
    placement: Any = None
    fresh = False
    probes: Backend | None = None
    _call: IDelayedCall | None = None

    _entered: Lease[Any] | None = None

    def fail(self, error: Exception) -> None:
        """Fail a waiter that has left its queue, unless an observer cancelled it meanwhile."""
        if not self.called:
            self.errback(error)

    async def __aenter__(self: Waiter[Lease[P]]) -> Lease[P]:
        lease = await self
        if not isinstance(lease, Lease):  # who awaits it or adds a callback takes the lease out
            raise LeaseError(
                f"async with got {lease!r} in place of a lease: the request was awaited before, or "
                "has a callback that returns something else"
            )
        await lease.__aenter__()
        self._entered = lease
        return lease

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        lease, self._entered = self._entered, None
        if lease is not None:
            await lease.__aexit__(kind, error, traceback)

    def refuse_task(self) -> Exception:
        self.addCallbacks(_release, lambda _: None)
        self.cancel()
        return RuntimeError(
            "an asyncio task cannot await a request of a pool, which is a Twisted Deferred; write "
            "async with kolus.aio.lease(pool, ident, backend) as lease; or for any other call "
            "await kolus.aio.wait(call); or run the coroutine by Deferred.fromCoroutine"
        )


def as_waiter(asked: Deferred[T]) -> Waiter[T]:
    """The same request or call as a C{Waiter}, which can be entered if it gives a lease, and tells
    an asyncio task what to write. Cancelling that cancels C{asked}."""
    return asked if isinstance(asked, Waiter) else following(Waiter, asked, _release)


class WaiterQueue(Generic[T]):
    """First come, first served; O(1) for every operation.

    @ivar waiting: the waiters, the oldest first. Only the queue changes it.
    @ivar fresh: whether they all want connections that were never leased.
    """

    fresh = False

    def __init__(
        self,
        clock: IReactorTime,
        timeout: float | None,
        alarm: Alarm | None = None,
        arrivals: Iterator[int] | None = None,
    ) -> None:
        """
        @param timeout: seconds after which a waiter without a time-out of its own fails; C{None}:
            never.
        @param alarm: is set to each deadline; its owner then calls C{expire_due}. C{None}: the
            queue has its own.
        @param arrivals: numbers the waiters of all queues that are served by arrival together.
        """
        self.waiting: OrderedDict[Waiter[T], None] = OrderedDict()
        self._clock = clock = steady(clock)
        self._now = clock.seconds
        self._timeout = math.inf if timeout is None else timeout
        self._timed: deque[Waiter[T]] = deque()
        self._alarm = Alarm(clock, self._wake) if alarm is None else alarm
        self._arrivals = itertools.count() if arrivals is None else arrivals

    def __len__(self) -> int:
        return len(self.waiting)

    def head(self) -> Waiter[T] | None:
        """The oldest waiter; it stays in the queue."""
        return next(iter(self.waiting), None)

    def first_order(self) -> float:
        """The number of the oldest waiter; infinity if there is none."""
        head = self.head()
        return math.inf if head is None else head.order

    def append(self, timeout: float | None = None) -> Waiter[T]:
        """Queue a request.

        @param timeout: seconds until its deadline; C{None}: the queue's own time-out.
        @return: the waiter. Cancelling it removes it from the queue.
        """
        waiter: Waiter[T] = waiting(Waiter, _cancel)
        waiter.queue = self
        waiter.order = next(self._arrivals)
        waiter.since = now = self._now()
        if now >= self._clock.look_at:
            self._clock.look()
        if timeout is None or timeout == self._timeout:
            waiter.deadline = due = now + self._timeout
            if due < math.inf:
                self._note_deadline(waiter)
        else:
            waiter.deadline = now + timeout
            if timeout < math.inf:
                waiter._call = self._clock.callLater(timeout, self._ring, waiter)
        self.waiting[waiter] = None
        return waiter

    def _note_deadline(self, waiter: Waiter[T]) -> None:
        if len(self._timed) > 2 * len(self.waiting) + _MOST_TOMBSTONES:
            self._timed = deque([each for each in self._timed if each in self.waiting])
        self._timed.append(waiter)
        if waiter.deadline < self._alarm.at:
            self._alarm.set(waiter.deadline)

    def popleft(self) -> Waiter[T]:
        """Remove the oldest waiter, to serve it. C{_has_left} is not called."""
        waiter, _ = self.waiting.popitem(False)
        if self._timed and self._timed[0] is waiter:
            self._timed.popleft()  # so it has no timer of its own
        elif waiter._call is not None:
            _stop(waiter)
        waiter.queue = None
        return waiter

    def pop(self, waiter: Waiter[Any]) -> None:
        """Remove any waiter, to serve it. C{_has_left} is not called."""
        del self.waiting[waiter]
        waiter.queue = None
        if waiter._call is not None:
            _stop(waiter)

    def remove(self, waiter: Waiter[Any]) -> None:
        """Remove a waiter that is not served. If it has left already, nothing happens."""
        if waiter.queue is not self:
            return
        del self.waiting[waiter]
        waiter.queue = None
        if waiter._call is not None:
            _stop(waiter)
        if waiter.ownership is not None:
            waiter.ownership.leave(waiter)
        self._has_left(waiter)

    def cancel(self, waiter: Waiter[Any]) -> None:
        """Its caller has cancelled a waiter, or its owner has ended."""
        self.remove(waiter)
        self._was_cancelled(waiter)

    def fail(self, waiter: Waiter[Any], error: Exception) -> None:
        """Remove a waiter and fail it."""
        self.remove(waiter)
        waiter.fail(error)

    # What the kinds of queues do

    def _has_left(self, waiter: Waiter[Any]) -> None:
        """A waiter has left. C{pop} and C{popleft} do not call this."""

    def _was_cancelled(self, waiter: Waiter[Any]) -> None:
        """After that: its caller has cancelled it, or its owner has ended."""

    def _has_coming(self, waiter: Waiter[Any]) -> bool:
        """Whether a connection is being made, checked or reset for a waiter."""
        return False

    def _expire(self, waiter: Waiter[Any]) -> None:
        """Fail a waiter whose time is over."""
        raise NotImplementedError

    # Deadlines

    def expire_due(self, now: float) -> None:
        """Fail the waiters whose time is over."""
        while self.next_due() <= now:
            self._expire(self._timed.popleft())

    def next_due(self) -> float:
        """When C{expire_due} has something to do next, on the clock; infinity if never."""
        timed = self._timed
        while timed and timed[0] not in self.waiting:
            timed.popleft()
        return self._due(timed[0]) if timed else math.inf

    def _due(self, waiter: Waiter[T]) -> float:
        """When a waiter fails, on the clock: at its deadline, or soon after a stall."""
        resumed_at = self._clock.resumed_at
        if waiter.since >= resumed_at or not self._has_coming(waiter):
            return waiter.deadline
        return max(waiter.deadline, resumed_at + min(_AFTER_STALL, waiter.deadline - waiter.since))

    def _wake(self) -> None:
        """Do what is due, where the queue has its own alarm."""
        self.expire_due(self._now())
        self._alarm.set(self.next_due())

    def _ring(self, waiter: Waiter[T]) -> None:
        """The timer of a waiter with a time-out of its own is over."""
        left = self._due(waiter) - self._now()
        if left > 0:
            waiter._call = self._clock.callLater(left, self._ring, waiter)
        else:
            self._expire(waiter)


class OwnQueue(WaiterQueue[Lease[Any]]):
    """The requests to one manager, but for those that want a fresh connection."""

    def __init__(self, manager: BaseManager[Any]) -> None:
        timeout, arrivals = manager.policy.acquire_timeout, manager.record.arrivals
        super().__init__(manager.clock, timeout, manager.alarm, arrivals)
        self._admission = manager.admission

    def _has_left(self, waiter: Waiter[Any]) -> None:
        self._admission.left()

    def _was_cancelled(self, waiter: Waiter[Any]) -> None:
        self._admission.cancelled(waiter)

    def _has_coming(self, waiter: Waiter[Any]) -> bool:
        return self._admission.has_coming(waiter)

    def _expire(self, waiter: Waiter[Any]) -> None:
        self.remove(waiter)
        waiter.fail(self._admission.timed_out(waiter))


def _release(lease: object) -> None:
    """The result of a request whose caller cannot take it."""
    if isinstance(lease, Lease) and lease.held:
        lease.release()


def _cancel(waiter: Any) -> None:
    """The canceller of a waiter."""
    if waiter.queue is not None:
        waiter.queue.cancel(waiter)


def _stop(waiter: Waiter[Any]) -> None:
    """Stop the waiter's own timer."""
    if waiter._call is not None and waiter._call.active():
        waiter._call.cancel()
    waiter._call = None

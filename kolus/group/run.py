"""C{Run}: leases a connection, calls a function with its protocol, settles, and may repeat that.

Its state is the time that requests for leases took, and whether it was cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from kolus.connection import Hearing
from kolus.errors import ConnectFailed, LeaseError, Rejected
from kolus.manager import as_waiter
from kolus.support import Step, check_flag, check_seconds, check_whole
from kolus.watching import check_owner

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.lease import Lease
    from kolus.support import SteadyClock
    from kolus.watching import Owner

__all__ = ["Ask", "Run"]

Ask = Callable[[float | None, Collection[Any], bool], Deferred["Lease[Any]"]]
"""Asks for a lease: in so many seconds, not of these backends, and whether it must be fresh."""


class Run:
    """One call of C{Pool.run} or C{Group.run}."""

    def __init__(
        self,
        clock: SteadyClock,
        function: Callable[[Any], object],
        *,
        idempotent: bool,
        retries: int,
        timeout: float | None,
        owner: Owner | None,
    ) -> None:
        """
        @raise ValueError: C{idempotent}, C{retries} or C{timeout} is invalid.
        @raise TypeError: C{function} cannot be called, or C{owner} cannot be an owner.
        """
        if not callable(function):
            raise TypeError(f"run needs a callable that takes a protocol, not {function!r}")
        check_flag("idempotent", idempotent, ValueError)
        check_whole("retries", retries, 0)
        check_seconds("timeout", timeout)
        with suppress(LeaseError):  # the request for a lease fails with it
            check_owner(owner)
        self._clock = clock
        self._function = function
        self._retries = retries if idempotent else 0
        self._timeout = timeout
        self._began = clock.seconds()
        self._is_cancelled = False

    def begin(self, ask: Ask, patience: float | None, *, elsewhere: bool) -> Deferred[Any]:
        """
        @param patience: the seconds that requests for leases may take, if there is no time-out for
            all.
        @param elsewhere: whether C{ask} knows other backends.
        """
        self._ask = ask
        self._patience = patience
        self._elsewhere = elsewhere
        return as_waiter(Deferred.fromCoroutine(self._attempt(0, ())))

    async def _attempt(self, number: int, lost: tuple[Backend, ...]) -> Any:
        """
        @param number: how many attempts there were.
        @param lost: the backends of these.
        """
        lease = await self._lease(lost, fresh=0 < number == self._retries)
        hearing, reused = Hearing(lease.leasable), lease.reused
        try:
            return await self._use(lease, hearing)
        except Exception:
            unanswered = reused and hearing.is_silent and hearing.was_lost()
            if self._is_cancelled or self._left() == 0.0:
                raise
            if number >= self._retries or not unanswered:
                raise
            backend = lease.backend
            del lease, hearing
            # Within the handler: so the errors of the next attempt are chained to this one.
            return await self._attempt(number + 1, (*lost, backend))

    async def _lease(self, lost: tuple[Backend, ...], *, fresh: bool) -> Lease[Any]:
        since = self._clock.seconds()
        try:
            if lost and self._elsewhere:
                try:
                    return await self._ask(self._left_to_wait(), lost, fresh)
                except (ConnectFailed, Rejected):  # there is no other that can serve it
                    pass
            return await self._ask(self._left_to_wait(), (), fresh)
        finally:
            if self._patience is not None:
                self._patience = max(0.0, self._patience - (self._clock.seconds() - since))

    def _left(self) -> float | None:
        if self._timeout is None:
            return None
        return max(0.0, self._began + self._timeout - self._clock.seconds())

    def _left_to_wait(self) -> float | None:
        return self._patience if self._timeout is None else self._left()

    async def _use(self, lease: Lease[Any], hearing: Hearing) -> Any:
        """Call the function, and settle the lease by its outcome."""
        name = getattr(self._function, "__qualname__", type(self._function).__qualname__)
        step = Step(self._clock, name, self._left())

        def cancel(_: Deferred[object]) -> None:
            self._is_cancelled = True
            step.give_up(Failure(CancelledError()))

        answer: Deferred[object] = Deferred(cancel)
        step.outcome.chainDeferred(answer)
        async with lease:
            try:
                step.begin(self._function, lease.protocol)
                return await answer
            finally:
                hearing.stop()
                if step.goes_on and lease.held:  # it ignored its cancellation: nothing is clean
                    lease.finished()

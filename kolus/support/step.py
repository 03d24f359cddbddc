"""C{Step}: asynchronous work with a time limit.

Its state is the work, the timer, whether it has ended, and the notes of the error after a
cancellation. C{outcome} fires exactly once and on time, even if the work ignores its cancellation;
C{Deferred.addTimeout} would then wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kolus.support.awaitables import call
from kolus.support.steady import steady

__all__ = ["Step"]

_log = Logger()


class Step:
    """One step of making a connection ready.

    @ivar outcome: fires with the result of the work. Fails with its error, with C{TimeoutError} at
        the time limit, or with the reason given to C{give_up}. Do not cancel it: use C{give_up}.
    """

    _work: Deferred[object] | None = None
    _timer: IDelayedCall | None = None
    _began = 0.0
    _has_begun_anew = _ended = _has_worked = False
    _notes: Sequence[str] = ()

    def __init__(self, clock: IReactorTime, name: str, timeout: float | None) -> None:
        """
        @param name: the name in messages.
        @param timeout: the time limit in seconds; C{None}: no limit. At the limit the work is
            cancelled; the C{TimeoutError} contains the notes (PEP 678) of the error that the work
            then fails with. If the reactor was blocked, the time begins anew after that, once.
        """
        self.outcome: Deferred[object] = Deferred()
        self._clock = steady(clock)
        self._name = name
        self._timeout = timeout

    def begin(self, action: Callable[..., object], *args: object) -> Deferred[object]:
        """Start the work.

        @param action: does the work; see C{call} for what it may return.
        @return: C{outcome}.
        """
        self._work = call(self._clock, action, *args)
        self._work.addBoth(self._end)
        if self._ended:
            self._cancel()
        elif self._timeout is not None:
            self._began = self._clock.seconds()
            self._timer = self._clock.callLater(self._timeout, self._expire)
        return self.outcome

    @property
    def goes_on(self) -> bool:
        """Whether the work was cancelled, and has not ended for that."""
        return self._ended and not self._has_worked

    def give_up(self, reason: Failure) -> None:
        """Cancel the work, and make C{outcome} fail with C{reason} now; no effect after the end."""
        if not self._ended:
            self._stop()
            self._cancel()
            self.outcome.errback(reason)

    def _end(self, result: object) -> None:
        self._has_worked = True
        if not self._ended:
            self._stop()
            self.outcome.callback(result)
        elif isinstance(result, Failure):
            # The work was cancelled: ignore its error, but keep the notes on its progress.
            self._notes = getattr(result.value, "__notes__", [])

    def ends(self) -> None:
        """It has ended: C{outcome} is about to fire."""

    def _stop(self) -> None:
        self._ended = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self.ends()

    def _cancel(self) -> None:
        try:
            if self._work is not None:
                self._work.cancel()
        except BaseException:
            _log.failure("cancelling {name} raised", name=self._name)

    def _expire(self) -> None:
        assert self._timeout is not None
        resumed = self._clock.resumed_at
        if resumed > self._began and not self._has_begun_anew:
            # Work that takes several answers could not ask for the next one.
            self._has_begun_anew = True
            left = resumed + self._timeout - self._clock.seconds()
            self._timer = self._clock.callLater(max(0.0, left), self._expire)
            return
        self._stop()
        self._cancel()
        notes = f" ({'; '.join(self._notes)})" if self._notes else ""
        late = TimeoutError(f"{self._name} took longer than {self._timeout:g} s{notes}")
        self.outcome.errback(Failure(late))

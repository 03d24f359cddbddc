"""C{Step}: something that takes time, waited for no longer than its time limit.

Its state is the work, once begun, the timer, whether it has ended, and what work that was given up
said then; C{outcome} fires exactly once, whatever the work does: C{Deferred.addTimeout} would wait
for work that swallows its cancellation.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["Step"]

_log = Logger()


class Step:
    """One step of making a connection ready.

    @ivar outcome: fires with what the work gave, or fails with what ended it.
    """

    def __init__(self, clock: IReactorTime, name: str, timeout: float | None) -> None:
        """
        @param name: what messages call it.
        @param timeout: its limit in seconds; C{None}: none. The error that tells that it is over
            has the notes (PEP 678) of the one that the work, cancelled, fails with.
        """
        self.outcome: Deferred[object] = Deferred()
        self._clock = clock
        self._name = name
        self._timeout = timeout
        self._work: Deferred[object] | None = None
        self._timer: IDelayedCall | None = None
        self._ended = False
        self._notes: list[str] = []

    def begin(self, action: Callable[..., object], *args: object) -> Deferred[object]:
        """Do the work.

        @param action: what it returns may be a Deferred or a coroutine.
        @return: C{outcome}.
        """
        self._work = maybeDeferred(action, *args)
        self._work.addBoth(self._end)
        if self._ended:
            self._cancel()
        elif self._timeout is not None:
            self._timer = self._clock.callLater(self._timeout, self._expire)
        return self.outcome

    def give_up(self, reason: Failure) -> None:
        """Cancel the work and fail with C{reason} now, unless it has ended."""
        if not self._ended:
            self._stop()
            self._cancel()
            self.outcome.errback(reason)

    def _end(self, result: object) -> None:
        if not self._ended:
            self._stop()
            self.outcome.callback(result)
        elif isinstance(result, Failure):
            # How work ends that has been given up concerns nobody, but for how far it had come.
            self._notes = getattr(result.value, "__notes__", [])

    def _stop(self) -> None:
        self._ended = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _cancel(self) -> None:
        try:
            if self._work is not None:
                self._work.cancel()
        except Exception:
            _log.failure("cancelling {name} raised", name=self._name)

    def _expire(self) -> None:
        self._stop()
        self._cancel()
        notes = f" ({'; '.join(self._notes)})" if self._notes else ""
        late = TimeoutError(f"{self._name} took longer than {self._timeout:g} s{notes}")
        self.outcome.errback(Failure(late))

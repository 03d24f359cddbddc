"""C{Recorder}: counts the events of a manager, passes them to the observers, and logs some of them.

The log gets what an operator can act on. Ordinary leases are counted and passed on, never logged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from twisted.logger import Logger, LogLevel

from kolus.errors import ConnectFailed, KolusError, describe
from kolus.events import (
    Admitted,
    Cancelled,
    Connected,
    ConnectFailure,
    Detached,
    Ejected,
    Event,
    Finished,
    Forgotten,
    Leased,
    Lost,
    Observer,
    Overdue,
    Paused,
    ProbeDue,
    Recovered,
    Rejection,
    Released,
    Resized,
    Resumed,
    Retired,
    Revoked,
    TimedOut,
    Why,
)
from kolus.support import check_done

if TYPE_CHECKING:
    from kolus.backend import Backend
    from kolus.status import Counters

__all__ = ["Recorder"]

_log = Logger()
_HINT = "; Policy(debug=True) tells where it was leased"


class Recorder:
    """Records the events of one manager.

    @ivar backend: the backend in events and messages.
    @ivar ident: whom its connections are for, in events and messages.
    @ivar counters: the counts so far. The recorder changes them; for speed its callers themselves
        count leases, releases and cancels.
    @ivar observers: the pool's list of observers, which may change at any time.
    """

    def __init__(
        self,
        backend: Backend,
        ident: Hashable,
        counters: Counters,
        observers: list[Observer],
    ) -> None:
        self.backend = backend
        self.counters = counters
        self.observers = observers
        self.ident = ident

    # Leases

    def leased(self, reused: bool, waited: float | None) -> None:
        """
        @param waited: seconds in the queue; C{None}: it was never there.
        """
        self._tell(Leased, reused, waited or 0.0, waited is not None)

    def released(self, held: float) -> None:
        self._tell(Released, held)

    def forgotten(self, held: float, origin: str | None) -> None:
        self.counters.forgotten += 1
        self._warn(
            "a lease of {backend} for {ident!r} was forgotten and is reclaimed after {held:.3g} s; "
            "settle every lease with release() or finished()",
            held,
            origin,
        )
        self._tell(Forgotten, held)

    def ended(self, why: Why, held: float, origin: str | None) -> None:
        """A lease was settled, and its connection ends with it."""
        if why is Why.REVOKED:
            self.counters.revoked += 1
            self._warn(
                "a lease of {backend} for {ident!r} is revoked: it was held for {held:.3g} s, "
                "longer than hold_limit",
                held,
                origin,
                hint=_HINT,
            )
            self._tell(Revoked, held)
            return
        if why is Why.UNCLEAN:
            self.counters.unclean += 1
            self._warn(
                "a lease of {backend} for {ident!r} was released after {held:.3g} s with something "
                "under way, as clean says; its connection is closed",
                held,
                origin,
            )
        self.counters.finishes += 1
        self._tell(Finished, held, why is Why.UNCLEAN)

    def detached(self, held: float) -> None:
        self.counters.detached += 1
        self._tell(Detached, held)

    def overdue(self, held: float, owner: str | None, origin: str | None) -> None:
        self.counters.overdue += 1
        self._warn(
            "a lease of {backend} for {ident!r} has been held for {held:.3g} s and may have "
            "leaked{owner}",
            held,
            origin,
            owner="" if owner is None else f"; its owner is {owner}",
            hint=_HINT,
        )
        self._tell(Overdue, held)

    def still_held(self, held: float, origin: str | None) -> None:
        self._warn(
            "{backend} is closed with a lease for {ident!r} that is still held after {held:.3g} s",
            held,
            origin,
        )

    def timed_out(self, waited: float) -> None:
        self.counters.timeouts += 1
        self._tell(TimedOut, waited)

    def cancelled(self, waited: float) -> None:
        self._tell(Cancelled, waited)

    def rejected(self, error: KolusError) -> None:
        self.counters.rejections += 1
        self._tell(Rejection, error)

    # Connections

    def connected(self, took: float) -> None:
        """
        @param took: seconds since the attempt began.
        """
        self.counters.connects += 1
        self._tell(Connected, took)

    def connect_failed(
        self, error: ConnectFailed, failures: int, where: str, *, is_news: bool
    ) -> None:
        """
        @param failures: number of failed attempts in a row; 0 if that tells nothing.
        @param where: the traceback, which C{error.reason} does not have; may be empty.
        @param is_news: whether it does not just repeat the failure of the attempt before it.
        """
        self.counters.connect_failures += 1
        _log.emit(
            LogLevel.warn if is_news else LogLevel.debug,
            "{error}{in_a_row}{where}",
            error=error,
            in_a_row=f" ({failures} in a row)" if failures else "",
            where=f"\n{where}" if where else "",
        )
        self._tell(ConnectFailure, error.reason, error.retry_in)

    def recovered(self, seconds: float, *, is_news: bool) -> None:
        """
        @param seconds: since the first of the failed attempts.
        @param is_news: whether one of them was.
        """
        _log.emit(
            LogLevel.info if is_news else LogLevel.debug,
            "{backend} is back after {seconds:.3g} s",
            backend=self.backend,
            seconds=seconds,
        )
        self._tell(Recovered, seconds)

    def machine_recovered(self, seconds: float) -> None:
        """This machine has again what it lacked for connects, after so many seconds."""
        _log.info("connecting works again on this machine after {seconds:.3g} s", seconds=seconds)

    def hook_failed(self, hook: str, error: BaseException) -> None:
        _log.warn(
            "{hook} of a connection to {backend} failed; the connection is closed: {error}",
            hook=hook,
            backend=self.backend,
            error=describe(error),
        )

    def out_of_step(self, why: str) -> None:
        _log.info(
            "a connection to {backend} is out of step, and closed: {why}",
            backend=self.backend,
            why=why,
        )

    def closed(self, why: Why | None, reason: BaseException) -> None:
        """A connection that was ready has ended.

        @param why: why the pool ended it; C{None} if its peer or its protocol did.
        """
        self.counters.closes += 1
        if why is None:
            self._tell(Lost, reason)
        else:
            self._tell(Retired, why)

    # The backend's health

    def ejected(self, reason: str, seconds: float) -> None:
        _log.warn(
            "{backend} is ejected {time}: {reason}",
            backend=self.backend,
            time="until it is admitted" if seconds == math.inf else f"for {seconds:.3g} s",
            reason=reason,
        )
        self._tell(Ejected, reason, seconds)

    def admitted(self, reason: str) -> None:
        _log.info("{backend} is admitted again: {reason}", backend=self.backend, reason=reason)
        self._tell(Admitted, reason)

    def probe_is_due(self) -> None:
        self._tell(ProbeDue)

    # The manager

    def paused(self) -> None:
        self._tell(Paused)

    def resumed(self) -> None:
        self._tell(Resumed)

    def resized(self, limit: int) -> None:
        self._tell(Resized, limit)

    def _warn(
        self, text: str, held: float, origin: str | None, *, hint: str = "", **facts: object
    ) -> None:
        """Log a text about a lease, and where it was leased, or else the hint."""
        _log.warn(
            text + "{origin}",
            backend=self.backend,
            ident=self.ident,
            held=held,
            origin=f"; it was leased here:\n{origin}" if origin else hint,
            **facts,
        )

    def _tell(self, kind: Callable[..., Event], *facts: object) -> None:
        """Make an event of these facts, if there are observers."""
        if not self.observers:
            return
        event = kind(self.backend, self.ident, *facts)
        for observer in tuple(self.observers):
            try:
                told = observer(event)
                if told is not None:
                    check_done("it", told)
            except BaseException:
                _log.failure("the observer {observer!r} raised and is dropped", observer=observer)
                if observer in self.observers:
                    self.observers.remove(observer)

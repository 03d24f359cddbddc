"""C{Health}: how a backend fares, and whether it is to be chosen.

Its state is the row of failures that nothing good has interrupted, the phase, since when that
lasts, the timer of its end, how many ejections have followed each other, how many probes a hook has
begun, and whether the pool is closed. What happens at the
backend is told to it by its managers; it changes in the methods here alone, and tells its keeper
of each change of phase.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from kolus.errors import describe
from kolus.status import Counters, State

if TYPE_CHECKING:
    from kolus.backoff import Rng
    from kolus.health.attempts import Attempts
    from kolus.health.ejection import Ejection

__all__ = ["BY_HAND", "Health", "HealthKeeper", "Phase"]

BY_HAND = "by hand"
_LEAST_RAMP = 0.1


class Phase(Enum):
    """What a backend's health lets be done with it."""

    WELL = "well"
    EJECTED = "ejected"
    """It is not chosen."""
    DUE = "due"
    """One request may be given to it, to see how it is."""
    PROBED = "probed"
    """That request is under way."""


class HealthKeeper(Protocol):
    """Who is told of a backend's health: its record."""

    def ejected(self, reason: str, seconds: float) -> None:
        """It is not chosen any more, for so many seconds; infinity if until it is admitted."""

    def admitted(self, reason: str) -> None:
        """It is chosen again."""

    def probe_is_due(self) -> None:
        """One request may be given to it."""


class Health:
    """Failures eject a backend, time and one probe bring it back.

    A failure is a connect that fails or is too slow, a check that fails, or a lease that its lessee
    settled as failed. A row of failed connects ends with one that succeeds; a row with other
    failures in it ends with a lease that is released.

    @ivar failures: how many failures there were in a row.
    @ivar phase: what may be done with the backend.
    @ivar is_well: whether it is well and has its full weight: nothing here needs to be asked.
    @ivar reason: why it was last ejected.
    """

    def __init__(
        self,
        keeper: HealthKeeper,
        clock: IReactorTime,
        ejection: Ejection | None,
        rng: Rng,
        attempts: Attempts,
        counters: Counters,
    ) -> None:
        """
        @param ejection: C{None}: only by hand.
        """
        self.failures = 0
        self.phase = Phase.WELL
        self.is_well = True
        self.reason = ""
        self._keeper = keeper
        self._clock = clock
        self._ejection = ejection
        self._rng = rng
        self._attempts = attempts
        self._counters = counters
        self._releases = 0
        self._only_connects = True
        self._ejections = 0
        self._since = 0.0
        self._time = 0.0
        self._timer: IDelayedCall | None = None
        self._hook_probes = 0
        self._hook_decides = self._stopped = False

    # What its managers tell

    def connect_failed(self, error: BaseException) -> None:
        self._failed(f"connecting failed: {describe(error)}", connecting=True)

    def check_failed(self) -> None:
        self._failed("a check failed")

    def lease_failed(self, since: float) -> None:
        """
        @param since: when the lease was given: of one from before the probe, nothing is learnt.
        """
        if self.phase is not Phase.PROBED or since >= self._since:
            self._failed("a lease was settled as failed")

    def connected(self) -> None:
        """A connect succeeded."""
        if self._only_connects:
            self.failures = 0
            if self.phase is Phase.PROBED and not self._hook_decides:
                self._admit("a probe could connect")

    def released(self, since: float) -> None:
        """A lease was released; told only while the backend is not well.

        @param since: when it was given.
        """
        if self.phase is Phase.PROBED and since >= self._since:
            self._admit("a probe went well")

    def _failed(self, reason: str, *, connecting: bool = False) -> None:
        if self._releases != self._counters.releases:
            self._releases = self._counters.releases
            self.failures = 0
        self._only_connects = connecting and (self._only_connects or not self.failures)
        self.failures += 1
        if self._ejection is None or self.phase in (Phase.EJECTED, Phase.DUE):
            return
        if self.phase is Phase.PROBED:
            self._eject(f"a probe failed: {reason}")
        elif self.failures >= self._ejection.failures:
            self._eject(f"{self.failures} failures in a row, the last: {reason}")

    # What becomes of it

    def _eject(self, reason: str) -> None:
        assert self._ejection is not None
        self._ejections += 1
        self._time = self._ejection.time(self._ejections, self._rng)
        self._enter(Phase.EJECTED, self._time)
        self.reason = reason
        self._keeper.ejected(reason, self._time)

    def eject(self) -> None:
        """Do not choose it until C{admit} is called."""
        if self.is_by_hand:
            return
        self._enter(Phase.EJECTED, None)
        self.reason = BY_HAND
        self._keeper.ejected(BY_HAND, float("inf"))

    def admit(self) -> None:
        """Choose it again, whatever was before."""
        if self.phase is not Phase.WELL:
            self._admit(BY_HAND)

    def chosen(self) -> None:
        """A request was given to it; if it is due to be probed, that is the probe."""
        if self.phase is Phase.DUE:
            self.probe()

    def probe(self) -> None:
        """What happens from now on tells how it is; if nothing does, it is probed again."""
        self._hook_decides = False
        self._enter(Phase.PROBED, self._time)

    def hook_begins(self) -> int:
        """What becomes of a lease from now on tells how it is; that it can be connected to is not
        enough.

        @return: what C{hook_ended} is to be called with.
        """
        self._hook_decides = True
        self._hook_probes += 1
        self._enter(Phase.PROBED, None)
        return self._hook_probes

    def hook_ended(self, probe: int) -> None:
        """If it came to nothing, it is probed again after a while."""
        if self.phase is Phase.PROBED and probe == self._hook_probes:
            self._enter(Phase.PROBED, self._time)

    def stop(self) -> None:
        """The pool is closed: leave no timer behind."""
        self._stopped = True
        self._clear_timer()

    def state(self, state: State) -> State:
        """What the state of its manager is, or of no manager, if its health is considered."""
        if self.phase is Phase.WELL or state not in (State.OPEN, State.ABSENT):
            return state
        return State.DUE if self.phase is Phase.DUE else State.EJECTED

    @property
    def is_by_hand(self) -> bool:
        """Whether it is ejected until it is admitted."""
        return self.phase is Phase.EJECTED and self.reason == BY_HAND

    @property
    def is_given_up(self) -> bool:
        """Whether probes go on failing though the time between them has become the longest."""
        return self._ejection is not None and self._ejection.is_longest(self._ejections - 1)

    @property
    def starts_slowly(self) -> bool:
        """Whether its weight grows, with nothing else changing."""
        return not self.is_well and self.phase is Phase.WELL and self.ramp() < 1

    def ramp(self) -> float:
        """The share of its weight that it has now."""
        if self.is_well or self.phase is not Phase.WELL:
            return 1.0
        assert self._ejection is not None
        share = (self._clock.seconds() - self._since) / self._ejection.slow_start
        self.is_well = share >= 1
        return min(1.0, max(_LEAST_RAMP, share))

    def _admit(self, reason: str) -> None:
        self.failures = self._ejections = 0
        self._enter(Phase.WELL, None)
        self.is_well = self._ejection is None or not self._ejection.slow_start
        self._keeper.admitted(reason)

    def _enter(self, phase: Phase, seconds: float | None) -> None:
        self._clear_timer()
        self.phase = phase
        self.is_well = False
        self._since = self._clock.seconds()
        if seconds is not None and not self._stopped:
            self._timer = self._clock.callLater(seconds, self._is_due)

    def _clear_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _is_due(self) -> None:
        wait = self._attempts.due_at - self._clock.seconds()
        if wait > 0:  # until then nobody may connect to it
            self._timer = self._clock.callLater(wait, self._is_due)
            return
        self._enter(Phase.DUE, None)
        self._keeper.probe_is_due()

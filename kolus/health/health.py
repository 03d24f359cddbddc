"""C{Health}: the health of one backend, and whether balancers may choose it.

Its state: the number of failures in a row; the phase, its start, and the timer of its end; the
number of ejections in a row; whether an ejection has no bound in time; the number of probes that a
hook has begun; and whether the pool is closed. Managers report what happens at the backend. Only
the methods here change the state, and they tell the listener of each change of phase.
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

__all__ = ["BY_HAND", "Health", "HealthListener", "Phase"]

BY_HAND = "by hand"
_LEAST_RAMP = 0.1


class Phase(Enum):
    """A phase of a backend's health."""

    WELL = "well"
    """Balancers may choose it."""
    EJECTED = "ejected"
    """Balancers do not choose it."""
    DUE = "due"
    """One request may go to it, as a probe."""
    PROBED = "probed"
    """The probe is under way."""


class HealthListener(Protocol):
    """Is told of each change of a backend's health: the backend's record."""

    def ejected(self, reason: str, seconds: float) -> None:
        """It was ejected for so many seconds; infinity: until C{admit} is called."""

    def failed_again(self) -> None:
        """Connecting to it failed while it was ejected."""

    def admitted(self, reason: str) -> None:
        """It may be chosen again."""

    def probe_is_due(self) -> None:
        """One request may go to it, as a probe."""


class Health:
    """Failures in a row eject a backend. After a time one request probes it, and may admit it.

    A failure is a connect that fails or is too slow, a check that fails, a lease settled with
    C{finished(failed=True)}, or one whose connection the backend ends before it has served
    anything. A successful connect ends a row that consists only of failed connects. A released
    lease ends any row.

    @ivar failures: number of failures in a row.
    @ivar phase: the current phase.
    @ivar is_well: whether the phase is C{WELL} and the weight is full. It is kept for speed: if it
        is C{True}, nothing else here needs to be asked.
    @ivar is_held: whether it is ejected without a bound in time: by hand or by a health check.
    @ivar reason: the reason of the last ejection.
    """

    def __init__(
        self,
        listener: HealthListener,
        clock: IReactorTime,
        ejection: Ejection | None,
        rng: Rng,
        attempts: Attempts,
        counters: Counters,
    ) -> None:
        """
        @param ejection: C{None}: only C{eject} ejects.
        """
        self.failures = 0
        self.phase = Phase.WELL
        self.is_well = True
        self.is_held = False
        self.reason = ""
        self._listener = listener
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

    # Reports of the managers

    def connect_failed(self, error: BaseException) -> None:
        self._failed(f"connecting failed: {describe(error)}", connecting=True)

    def check_failed(self) -> None:
        self._failed("a check failed")

    def lease_ended(self, since: float, has_failed: bool, in_vain: bool) -> None:
        """A lease was settled; the connection is not leased again.

        @param since: when the lease was given. A lease from before the probe is ignored.
        @param has_failed: whether it was settled as failed.
        @param in_vain: whether the backend had ended the connection, and it has served nothing.
        """
        if (has_failed or in_vain) and (self.phase is not Phase.PROBED or since >= self._since):
            what = "a lease was settled as failed"
            self._failed(what if has_failed else "a connection ended before it served a lease")

    def connected(self, is_back: bool = False) -> None:
        """A connect succeeded.

        @param is_back: whether the connect before it failed. If the backend is ejected, its probe
            is due now: what it was ejected for may be over.
        """
        if self._only_connects:
            self.failures = 0
            if self.phase is Phase.PROBED and not self._hook_decides:
                self._admit("a probe could connect")
        if is_back and self.may_be_over:
            self._becomes_due()

    def released(self, since: float) -> None:
        """A lease was released. It is called only while C{is_well} is C{False}.

        @param since: when the lease was given.
        """
        if self.phase is Phase.PROBED and since >= self._since:
            self._admit("a probe went well")

    def _failed(self, reason: str, *, connecting: bool = False) -> None:
        if self._releases != self._counters.releases:
            self._releases = self._counters.releases
            self.failures = 0
        self._only_connects = connecting and (self._only_connects or not self.failures)
        self.failures += 1
        if self.phase is Phase.EJECTED and connecting:
            self._listener.failed_again()
        if self._ejection is None or self.phase in (Phase.EJECTED, Phase.DUE):
            return
        if self.phase is Phase.PROBED:
            self._eject(f"a probe failed: {reason}")
        elif self.failures >= self._ejection.failures:
            self._eject(f"{self.failures} failures in a row, the last: {reason}")

    # Changes of phase

    def _eject(self, reason: str) -> None:
        assert self._ejection is not None
        self._ejections += 1
        self._time = self._ejection.time(self._ejections, self._rng)
        self._enter(Phase.EJECTED, self._time)
        self.reason = reason
        self._listener.ejected(reason, self._time)

    def eject(self) -> None:
        """Eject the backend until C{admit} is called."""
        self._hold(BY_HAND)

    def checked(self, failure: str) -> None:
        """A health check that is made outside of the pool has a result. What was ejected by hand
        stays so.

        @param failure: why the backend is down: it is ejected until it is told to be up. Empty: it
            is up.
        """
        if failure and not self.is_held:
            self._hold(failure)
        elif not failure and self.is_held and not self.is_by_hand:
            self._admit("its health check fails no more")

    def _hold(self, reason: str) -> None:
        """Eject it without a bound in time."""
        if self.is_held and self.reason == reason:
            return
        self._enter(Phase.EJECTED, None)
        self.is_held = True
        self.reason = reason
        self._listener.ejected(reason, float("inf"))

    def admit(self) -> None:
        """Admit the backend again, whatever the reason of its ejection."""
        if self.phase is not Phase.WELL:
            self._admit(BY_HAND)

    def chosen(self) -> bool:
        """A balancer chose the backend. If a probe is due, this request is the probe.

        @return: whether it is.
        """
        is_probe = self.phase is Phase.DUE
        if is_probe:
            self.probe()
        return is_probe

    def probe(self) -> None:
        """Begin a probe: the next success or failure decides. Without one, a new probe is due."""
        self._hook_decides = False
        self._enter(Phase.PROBED, self._time)

    def hook_begins(self) -> int:
        """Begin a probe by the C{probe} hook: its lease decides, a successful connect does not.

        @return: the argument for C{hook_ended}.
        """
        self._hook_decides = True
        self._hook_probes += 1
        self._enter(Phase.PROBED, None)
        return self._hook_probes

    def hook_ended(self, probe: int) -> None:
        """The hook has ended. If its lease decided nothing, a new probe is due after a while."""
        if self.phase is Phase.PROBED and probe == self._hook_probes:
            self._enter(Phase.PROBED, self._time)

    def stop(self) -> None:
        """The pool is closed: stop the timer, and start no other."""
        self._stopped = True
        self._clear_timer()

    def state(self, state: State) -> State:
        """The state for a C{Status}: C{state}, unless the health has something to add to it.

        @param state: the manager's state; C{ABSENT} without one.
        """
        if self.phase is Phase.WELL or state not in (State.OPEN, State.ABSENT):
            return state
        return State.DUE if self.phase is Phase.DUE else State.EJECTED

    @property
    def is_by_hand(self) -> bool:
        """Whether C{eject} ejected it, so only C{admit} can end it."""
        return self.is_held and self.reason == BY_HAND

    @property
    def may_be_over(self) -> bool:
        """Whether it is ejected for a time: a connect may show that it is well again."""
        return self.phase is Phase.EJECTED and not self.is_held

    @property
    def is_given_up(self) -> bool:
        """Whether probes still fail although the time between them is the longest."""
        return self._ejection is not None and self._ejection.is_longest(self._ejections - 1)

    @property
    def starts_slowly(self) -> bool:
        """Whether it is in slow start: its weight grows with time."""
        return not self.is_well and self.phase is Phase.WELL and self.ramp() < 1

    def ramp(self) -> float:
        """The share of its weight that counts now, from 0.1 to 1.0: less than 1.0 in slow start."""
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
        self._listener.admitted(reason)

    def _enter(self, phase: Phase, seconds: float | None) -> None:
        self._clear_timer()
        self.phase = phase
        self.is_well = self.is_held = False
        self._since = self._clock.seconds()
        if seconds is not None and not self._stopped:
            self._timer = self._clock.callLater(seconds, self._becomes_due)

    def _clear_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _becomes_due(self) -> None:
        wait = self._attempts.due_at - self._clock.seconds()
        if wait > 0:  # back-off forbids a connect until then
            self._timer = self._clock.callLater(wait, self._becomes_due)
            return
        self._enter(Phase.DUE, None)
        self._listener.probe_is_due()

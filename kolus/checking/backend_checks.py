"""C{BackendChecks}: checks one backend again and again, and reports whether it is up.

Its state: whether it runs; the check under way, or the timer of the next; the results in a row; and
whether the backend is up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from kolus.backend import Backend, MakeEndpoint
from kolus.checking.attempt import check_once
from kolus.checking.health_check import HealthCheck
from kolus.context import ConnectContext
from kolus.endpoints import Hosts, machine_fault
from kolus.errors import describe, reason_of
from kolus.support import Step, steady

if TYPE_CHECKING:
    from kolus.backoff import Rng

__all__ = ["BackendChecks", "CheckResult"]

_log = Logger()

_SPREAD = 0.1
_IDENT = "health check"

Report = Callable[[Backend, str], object]
"""Is told the result of each check: see C{Pool.checked}."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What the checks of a backend have found.

    @ivar backend: the backend.
    @ivar is_up: whether it is up; it is at first.
    @ivar in_a_row: how many checks in a row had the result of the last; 0 before the first.
    @ivar error: why the last check failed; empty if it passed.
    @ivar checks: number of checks so far.
    @ivar failures: number of those that failed.
    """

    backend: Backend
    is_up: bool = True
    in_a_row: int = 0
    error: str = ""
    checks: int = 0
    failures: int = 0

    def __str__(self) -> str:
        what = f"failed, the last: {self.error}" if self.error else "passed"
        return f"{self.backend}: {'up' if self.is_up else 'down'}, {self.in_a_row} in a row {what}"


class BackendChecks:
    """Checks a backend until it is stopped. The first check is made at once.

    A fault of this machine, such as no descriptor left, says nothing of the backend and is not
    counted.
    """

    def __init__(
        self,
        reactor: Any,
        backend: Backend,
        check: HealthCheck,
        report: Report,
        rng: Rng,
        make_endpoint: MakeEndpoint,
        earlier: CheckResult | None = None,
    ) -> None:
        """
        @param report: is told after each check: the backend, and why it is down; empty: it is up.
        @param make_endpoint: makes the endpoint, once, unless the backend makes one for each
            connect.
        @param earlier: what other checks of this backend have found before.
        """
        self.backend = backend
        self.result = CheckResult(backend) if earlier is None else replace(earlier, backend=backend)
        self._reactor = reactor
        self._clock = steady(reactor)
        self._check = check
        self._report = report
        self._rng = rng
        self._make_endpoint = make_endpoint
        self._endpoint: IStreamClientEndpoint | None = None
        self._hosts = Hosts()
        self._timer: IDelayedCall | None = None
        self._step: Step | None = None
        self._is_stopped = False

    def start(self) -> None:
        """Make the first check, unless it was made. What is known to be down is reported first."""
        if self._timer is None and self._step is None:
            if not (self.result.is_up or self._is_stopped):
                self._tell()
            if not self._is_stopped:  # the listener may stop it
                self._begin()

    def describe_as(self, backend: Backend) -> None:
        """Take the name and the values that the newest list has for the backend."""
        self.backend = backend
        self.result = replace(self.result, backend=backend)

    def stop(self) -> None:
        """Make no more checks. What they have ejected is not to stay so for ever."""
        self._is_stopped = True
        if not self.result.is_up:
            self._report(self.backend, "")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._step is not None:
            self._step.give_up(Failure(RuntimeError("the checks are stopped")))

    def _begin(self) -> None:
        self._timer = None
        self._step = Step(self._clock, "the check", self._check.timeout)
        outcome = self._step.begin(lambda: Deferred.fromCoroutine(self._attempt()))
        outcome.addCallbacks(lambda _: None, reason_of).addCallback(self._ended)
        outcome.addErrback(lambda failure: _log.failure("a health check failed to end", failure))

    async def _attempt(self) -> None:
        if self.backend.makes_endpoints:
            context = ConnectContext(_IDENT, self.backend, 1, 0)
            endpoint = await self.backend.endpoint_for(self._reactor, context, self._hosts)
        else:
            if self._endpoint is None:
                self._endpoint = self._make_endpoint(self._reactor, self.backend)
            endpoint = self._endpoint
        await check_once(endpoint, self._check)

    def _ended(self, error: BaseException | None) -> None:
        self._step = None
        if self._is_stopped:
            return
        spread = 1 + _SPREAD * (2 * self._rng.random() - 1)
        self._timer = self._clock.callLater(self._check.interval * spread, self._begin)
        if error is None or machine_fault(error) is None:
            self._count("" if error is None else describe(error))
            self._tell()

    def _tell(self) -> None:
        down = f"its health check fails: {self.result.error}"
        self._report(self.backend, "" if self.result.is_up else down)

    def _count(self, error: str) -> None:
        before = self.result
        in_a_row = before.in_a_row + 1 if bool(error) == bool(before.error) else 1
        is_up = before.is_up
        if error and in_a_row >= self._check.fall:
            is_up = False
        elif not error and in_a_row >= self._check.rise:
            is_up = True
        self.result = CheckResult(
            self.backend,
            is_up,
            in_a_row,
            error,
            before.checks + 1,
            before.failures + bool(error),
        )

"""C{Hooks}: runs the user's prepare, check and reset, each with its time limit.

If a hook raises, gives C{False} or does not finish in time, its connection is closed, and that is
reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure

from kolus.connection.state import BUSY
from kolus.connection.step import begin_step
from kolus.endpoints import machine_fault
from kolus.errors import reason_of
from kolus.events import Why
from kolus.support import drop_frames, fewest_arguments

if TYPE_CHECKING:
    from kolus.connection.connection import Connection
    from kolus.context import ConnectContext
    from kolus.policy import Hook, Policy
    from kolus.watching import Recorder

__all__ = ["Hooks"]


LOOK_AFTER = 0.0001
"""A connection is looked at if the last look was so many seconds ago. A look at its socket takes
half a microsecond."""


class Hooks:
    """Runs the hooks of a policy on connections, before and after leases.

    @ivar checks: whether the policy has a check.
    @ivar check_after: the seconds that a connection may be idle without a check.
    @ivar sure_for: the seconds for which a look at a connection is enough.
    @ivar resets: whether the policy has a reset.
    @ivar cleans: whether the policy has a clean.
    @ivar under_way: the number of checks and resets that have not ended.
    @ivar last_failure: when the last check or reset failed, on the clock, which of them it was, and
        its error.
    """

    def __init__(self, policy: Policy, recorder: Recorder, now: Callable[[], float]) -> None:
        self._policy = policy
        self._now = now
        self._recorder = recorder
        self.checks = policy.check is not None
        self.check_after = policy.check_after if self.checks else math.inf
        self.sure_for = min(LOOK_AFTER, self.check_after)
        self.resets = policy.reset is not None
        self.under_way = 0
        self.last_failure: tuple[float, str, BaseException] | None = None
        self.cleans = policy.clean is not None
        prepare = policy.prepare
        self._tells_context = prepare is not None and fewest_arguments(prepare, 1, 2) == 2

    def prepare(self, connection: Connection[Any], context: ConnectContext) -> Deferred[object]:
        """
        @return: fires when the new connection is prepared; fails with the hook's error or its
            time-out, which the caller reports.
        """
        policy = self._policy
        if policy.prepare is None:
            return succeed(None)
        arguments: tuple[object, ...] = (connection.protocol,)
        if self._tells_context:
            arguments = (connection.protocol, context)
        prepared = begin_step(
            connection, "prepare", policy.prepare_timeout, policy.prepare, *arguments
        )
        return prepared.addCallback(_unless_false)

    def is_stale(self, connection: Connection[Any]) -> bool:
        """Whether an idle connection must be checked before it is leased."""
        return self.checks and self._now() - connection.known_good_at() >= self.check_after

    def check(self, connection: Connection[Any]) -> Deferred[bool]:
        """
        @return: fires with whether the connection passed; never fails.
        """
        fit = self._run("check", self._policy.check, self._policy.check_timeout, connection)
        return succeed(fit) if isinstance(fit, bool) else fit

    def reset(self, connection: Connection[Any]) -> Deferred[bool] | bool:
        """
        @return: whether the connection may be leased again. If that takes time, a Deferred that
            fires with it, and never fails.
        """
        return self._run("reset", self._policy.reset, self._policy.reset_timeout, connection)

    def why_unclean(self, connection: Connection[Any]) -> Why | None:
        """
        @return: why the connection must not be used again after its lease; C{None} if nothing is
            under way on it.
        """
        assert self._policy.clean is not None
        try:
            clean = self._policy.clean(connection.protocol)
            if not isinstance(clean, bool):
                _drop(clean)
                raise TypeError(f"it returned a {type(clean).__name__}, not True or False")
        except Exception as error:
            self._recorder.hook_failed("clean", error)
            return Why.UNFIT
        return None if clean else Why.UNCLEAN

    def _run(
        self, step: str, hook: Hook | None, timeout: float | None, connection: Connection[Any]
    ) -> Deferred[bool] | bool:
        assert hook is not None
        connection.occupy(self._now())
        try:
            given: object = hook(connection.protocol)
        except BaseException:  # as maybeDeferred does
            given = fail()
        if given is None or given is True:
            return True
        self.under_way += 1
        begun = begin_step(connection, step, timeout, lambda: given)
        if connection.state is not BUSY:  # the hook itself had it closed
            connection.give_up(Failure(CancelledError()))
        return begun.addBoth(self._is_fit, step, connection)

    def _is_fit(self, result: object, step: str, connection: Connection[Any]) -> bool:
        self.under_way -= 1
        result = _unless_false(result)
        if not isinstance(result, Failure):
            return True
        error = reason_of(result)
        connection.fault = machine_fault(error)
        if connection.state is BUSY:
            connection.unfit_by = error
            self._recorder.hook_failed(step, error)
            drop_frames(error)  # it is kept
            self.last_failure = self._now(), step, error
        return False


def _unless_false(result: object) -> object:
    """C{False} as the failure that it counts as."""
    return Failure(ValueError("it returned False")) if result is False else result


def _drop(work: object) -> None:
    """Stop work that nobody waits for, so that nothing is said about that either."""
    if isinstance(work, Deferred):
        work.addErrback(lambda _: None)
        work.cancel()
    elif isinstance(work, Coroutine):
        work.close()

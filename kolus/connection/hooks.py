"""C{Hooks}: runs the user's prepare, check and reset, each with its time limit.

If a hook raises, gives C{False} or does not finish in time, its connection is closed, and that is
reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from functools import partial
from inspect import isroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure

from kolus.connection.state import BUSY
from kolus.connection.step import begin_step
from kolus.endpoints import machine_fault
from kolus.errors import reason_of
from kolus.events import Why
from kolus.support import comes_later, drop_frames, fewest_arguments, name_of

if TYPE_CHECKING:
    from kolus.connection.connection import Connection
    from kolus.context import ConnectContext
    from kolus.policy import Hook, Policy
    from kolus.watching import Recorder

__all__ = ["Hooks", "why_refused"]


LOOK_AFTER = 0.0001
"""A connection is looked at if the last look was so many seconds ago. A look at its socket takes
half a microsecond."""

FIRST_WORDS = 0.01
"""Seconds for which what comes on a new connection is its first lessee's: the backend may speak
first. With C{prepare} that is for that hook."""


class Hooks:
    """Runs the hooks of a policy on connections, before and after leases.

    @ivar checks: whether the policy has a check.
    @ivar check_after: the seconds that a connection may be idle without a check.
    @ivar sure_for: the seconds for which a look at a connection is enough.
    @ivar first_words: the seconds for which what comes on a new connection is its first lessee's.
    @ivar distrusted_at: what was last known to be good at this time or before is checked before a
        lease: the check of another that is no older has failed or is slow.
    @ivar resets: whether the policy has a reset.
    @ivar tells_context: whether its prepare is told for whom a connection is.
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
        self.distrusted_at = -math.inf
        self.resets = policy.reset is not None
        self.under_way = 0
        self.last_failure: tuple[float, str, BaseException] | None = None
        self.cleans = policy.clean is not None
        prepare = policy.prepare
        self.first_words = FIRST_WORDS if prepare is None else 0.0
        self.tells_context = prepare is not None and fewest_arguments(prepare, 1, 2) == 2

    def prepare(self, connection: Connection[Any], context: ConnectContext) -> Deferred[object]:
        """
        @return: fires when the new connection is prepared; fails with the hook's error or its
            time-out, which the caller reports.
        """
        policy = self._policy
        if policy.prepare is None:
            return succeed(None)
        arguments: tuple[object, ...] = (connection.protocol,)
        if self.tells_context:
            arguments = (connection.protocol, context)
        prepared = begin_step(
            connection, "prepare", policy.prepare_timeout, policy.prepare, *arguments
        )
        return prepared.addCallback(_accepted)

    def is_stale(self, connection: Connection[Any]) -> bool:
        """Whether an idle connection must be checked before it is leased."""
        if not self.checks:
            return False
        good_at = connection.known_good_at()
        return self._now() - good_at >= self.check_after or good_at <= self.distrusted_at

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
        except BaseException as error:
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
        result = _accepted(result)
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


def why_refused(result: object) -> Exception | None:
    """Why the result of a hook counts as a failure; C{None} if it does not. C{False} does, and so
    does an exception that the hook returns, alone or among other results, as C{DeferredList} gives
    them; a function or a class where it was to call it; or several awaitables."""
    if result is False:
        return ValueError("it returned False")
    parts = _parts(result)
    for each in (result, *parts):
        error = each.value if isinstance(each, Failure) else each
        if isinstance(error, Exception):
            return error
    if isroutine(result) or isinstance(result, partial | type):
        kind = "class" if isinstance(result, type) else "function"
        return TypeError(f"it returned the {kind} {name_of(result)}, and did not call it")
    if any(map(comes_later, parts)):
        return TypeError(
            f"it returned a {type(result).__name__} of awaitables, and nobody waits "
            "for them: return one, such as gatherResults of them"
        )
    return None


def _parts(result: object) -> list[object]:
    """The results in a collection; of pairs, as in a C{dict} or of C{DeferredList}, both parts."""
    if isinstance(result, dict):
        result = list(result.items())
    if not isinstance(result, list | tuple | set):
        return []
    return [part for each in result for part in (each if isinstance(each, tuple) else (each,))]


def _accepted(result: object) -> object:
    """The result of a hook, or the failure that it counts as."""
    error = why_refused(result)
    return result if error is None else Failure(error)


def _drop(work: object) -> None:
    """Stop work that nobody waits for, so that nothing is said about that either."""
    if isinstance(work, Deferred):
        work.addErrback(lambda _: None)
        work.cancel()
    elif isinstance(work, Coroutine):
        work.close()

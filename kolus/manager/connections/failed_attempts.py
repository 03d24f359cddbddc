"""What a failed attempt to connect means: a backend fails, or this machine lacks something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kolus.endpoints import TIME_OUTS, machine_fault
from kolus.errors import ConnectFailed, describe
from kolus.support import drop_frames, steady, traceback_text

if TYPE_CHECKING:
    from kolus.backoff import Rng
    from kolus.manager.backend.record import BackendRecord
    from kolus.policy import Policy
    from kolus.watching import Recorder

__all__ = ["has_recovered", "is_to_blame"]


def is_to_blame(
    record: BackendRecord,
    error: BaseException,
    before: int,
    began: float,
    reactor: Any,
    policy: Policy,
    rng: Rng,
    recorder: Recorder,
    *,
    but: str | None = None,
    is_mistake: bool = False,
) -> bool:
    """Note that an attempt to connect to a backend has failed, and when the next is due.

    @param before: number of failures in a row before the attempt began.
    @param began: when it began, on the clock.
    @param but: what failed when it was connected; C{None} if it was not.
    @param is_mistake: whether the user's own code raised, as it would with any other backend. There
        is no pause then.
    @return: whether the backend is to blame, and not this machine or the user's own code.
    """
    where = traceback_text(error)
    drop_frames(error)  # the error is kept, and must not keep the caller's frames
    now, attempts = steady(reactor).seconds(), record.attempts
    fault = machine_fault(error, reactor)
    if fault is None and isinstance(error, TIME_OUTS) and attempts.shortage.explains(began):
        fault = attempts.shortage.fault
    if fault is None:
        last = attempts.last_error
        is_news = last is None or describe(last) != describe(error)
        failures = max(attempts.failures, 1 if is_mistake else before + 1)
        delay = 0.0
        if policy.backoff is not None and not is_mistake:
            # An attempt that took long must not make the longest time between two even longer.
            delay = policy.backoff.delay(failures, rng)
            delay = max(min(delay, began + policy.backoff.most - now), delay / 10)
        attempts.failed(error, failures, now, delay, next(record.arrivals))
        attempts.but, attempts.is_mistake = but, is_mistake
    else:
        shortage = attempts.shortage if fault.is_general else attempts.own_shortage
        was_until = shortage.until
        is_news = shortage.failed(fault, now, rng)
        attempts.paused_in = attempts.shortage.number
        failures = attempts.failures
        if fault.is_general and shortage.until > was_until and record.listener is not None:
            record.listener.shortage_began()
    record.turns.due_changed()
    told = ConnectFailed(
        record.backend,
        fault or error,
        max(0.0, attempts.due_at - now),
        but=but,
        is_mistake=is_mistake,
    )
    recorder.connect_failed(told, failures, where, is_news=is_news)
    return fault is None and not is_mistake


def has_recovered(record: BackendRecord, now: float, recorder: Recorder) -> bool:
    """Note that an attempt to connect has succeeded.

    @return: whether the one before had failed.
    """
    attempts = record.attempts
    failures, since = 0 if attempts.is_mistake else attempts.failures, attempts.since
    attempts.succeeded()
    for shortage in (attempts.shortage, attempts.own_shortage):
        if shortage.fault is not None:
            recorder.has_enough(shortage.over(now))
    if failures:
        recorder.recovered(now - since)
    return failures > 0

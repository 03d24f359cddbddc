"""C{FailedAttempts}: notes what failed attempts mean: the backend fails, or this machine does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kolus.endpoints import TIME_OUTS, machine_fault
from kolus.errors import ConnectFailed
from kolus.support import drop_frames, steady, traceback_text

if TYPE_CHECKING:
    from kolus.backoff import Rng
    from kolus.manager.backend.record import BackendRecord
    from kolus.policy import Policy
    from kolus.watching import Recorder

__all__ = ["FailedAttempts"]


@dataclass(slots=True)
class FailedAttempts:
    """Notes in the record of a backend that attempts fail, and that they succeed again."""

    record: BackendRecord
    reactor: Any
    policy: Policy
    rng: Rng
    recorder: Recorder

    def note(
        self,
        error: BaseException,
        before: int,
        began: float,
        *,
        but: str | None = None,
        is_mistake: bool = False,
    ) -> bool:
        """Note that an attempt to connect has failed, and when the next is due.

        @param before: number of failures in a row before the attempt began.
        @param began: when it began, on the clock.
        @param but: what failed when it was connected; C{None} if it was not.
        @param is_mistake: whether the user's own code raised, as it would with any other backend.
            There is no pause then.
        @return: whether the backend is to blame, and not this machine or the user's own code.
        """
        where = traceback_text(error)
        drop_frames(error)  # the error is kept, and must not keep the caller's frames
        record, policy = self.record, self.policy
        now, attempts = steady(self.reactor).seconds(), record.attempts
        fault = machine_fault(error, self.reactor)
        if fault is None and isinstance(error, TIME_OUTS) and attempts.shortage.explains(began):
            fault = attempts.shortage.fault
        if fault is None:
            is_news = attempts.is_news(error, but, now)
            failures = max(attempts.failures, 1 if is_mistake else before + 1)
            delay = 0.0
            if policy.backoff is not None and not is_mistake:
                # An attempt that took long must not make the longest time between two even longer.
                delay = policy.backoff.delay(failures, self.rng)
                delay = max(min(delay, began + policy.backoff.most - now), delay / 10)
            number = next(record.arrivals)
            attempts.failed(error, failures, now, delay, number, but=but, is_mistake=is_mistake)
        else:
            was_until = attempts.shortage.until
            is_news = attempts.lacked(fault, now, self.rng)
            failures = attempts.failures
            if attempts.shortage.until > was_until and record.listener is not None:
                record.listener.shortage_began()
        record.turns.due_changed()
        told = ConnectFailed(
            record.backend,
            fault or error,
            max(0.0, attempts.due_at - now),
            but=but,
            is_mistake=is_mistake,
        )
        self.recorder.connect_failed(told, failures, where, is_news=is_news)
        return fault is None and not is_mistake

    def over(self, now: float, before: int) -> bool:
        """Note that an attempt to connect has succeeded.

        @param before: as for C{note}.
        @return: whether the one before had failed.
        """
        attempts = self.record.attempts
        failures = attempts.succeeded(before)
        for shortage in (attempts.shortage, attempts.own_shortage):
            if shortage.fault is not None:
                self.recorder.machine_recovered(shortage.over(now))
        if failures:
            self.recorder.recovered(now - attempts.since, is_news=attempts.is_told)
        return failures > 0

"""One call on a leased connection: the lease is settled when its answer has come."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from kolus.lease import Lease

__all__ = ["WrongReply", "call_again", "run_call"]


class WrongReply(Exception):
    """The server sent what cannot be the reply to this call. Whether it did what the call asked for
    is not known."""


def run_call(
    lease: Lease[Any],
    call: Callable[[Any], Deferred[Any]],
    is_harmless: Callable[[BaseException], bool],
) -> Deferred[Any]:
    """Call a function with the protocol of a lease, and settle the lease by its outcome.

    @param is_harmless: whether an error says nothing against the connection. C{CancelledError} does
        not, where the protocol skips the answer of such a call when it comes.
    @return: what the call gives; fails with what it raises.
    """
    try:
        answer = call(lease.protocol)
    except BaseException:
        answer = fail()
    return answer.addBoth(_settle, lease, is_harmless)


def _settle(result: Any, lease: Lease[Any], is_harmless: Callable[[BaseException], bool]) -> Any:
    if not lease.held:
        return result
    error = result.value if isinstance(result, Failure) else None
    if error is None or is_harmless(error):
        lease.release()
    else:
        lease.finished()
    return result


def call_again(
    answer: Deferred[Any],
    again: Callable[[float | None], Deferred[Any]],
    is_lost: Callable[[BaseException], bool],
    now: Callable[[], float],
    timeout: float | None,
) -> Deferred[Any]:
    """Make a call that may be repeated once more, if its connection ended before the answer came.

    @param again: makes it, given the seconds that are left for a connection.
    @param is_lost: whether an error says that the connection ended.
    @param timeout: seconds from now in which a call may begin; C{None}: no limit.
    @return: C{answer}.
    """
    due = math.inf if timeout is None else now() + timeout
    return answer.addErrback(_call_again, again, is_lost, now, due)


def _call_again(
    failure: Failure,
    again: Callable[[float | None], Deferred[Any]],
    is_lost: Callable[[BaseException], bool],
    now: Callable[[], float],
    due: float,
) -> Any:
    error, left = failure.value, due - now()
    if error is None or left <= 0 or not is_lost(error):
        return failure
    return again(None if left == math.inf else left)
